package config

import "time"

// The limits of a probe's times: with a shorter deadline a busy disk would pass for one that hangs.
const (
	minProbeInterval = 100 * time.Millisecond
	minProbeDeadline = 500 * time.Millisecond
	maxProbe         = 60 * time.Second
)

// checkDisk keeps the probes of the disks sane (B2), and the alarm ahead of what follows from a minimum.
func (c *Config) checkDisk(found *findings) {
	d := c.Disk
	for _, t := range []struct {
		key        string
		have, from time.Duration
	}{{"disk.probe_interval", d.ProbeInterval, minProbeInterval}, {"disk.probe_deadline", d.ProbeDeadline, minProbeDeadline}} {
		if t.have < t.from || t.have > maxProbe {
			found.refuse(c.places.of(t.key), t.key, "want %v to %v, have %v", t.from, maxProbe, t.have)
		}
	}
	for _, m := range []struct {
		key  string
		have Bytes
	}{{"disk.min_free_raft", d.MinFreeRaft}, {"disk.min_free_wal", d.MinFreeWAL}, {"disk.min_free_data", d.MinFreeData}} {
		switch {
		case m.have == 0:
			found.warn(c.places.of(m.key), m.key, "is 0: a disk there counts as full only once a write to it is refused")
		case d.WarnFree < m.have:
			found.refuse(c.places.of(m.key), m.key, "want disk.warn_free, %d bytes, or less, have %d: the alarm would come after what it is to prevent", d.WarnFree, m.have)
		}
	}
}
