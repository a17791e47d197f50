package cluster

import "time"

// DiskUse is what stands on a disk: raft, data, wal, or the name that TablespaceUse gives.
type DiskUse string

// The uses. A tablespace's is made by TablespaceUse.
const (
	UseRaft DiskUse = "raft" // raft.data_dir
	UseData DiskUse = "data" // PGDATA
	UseWAL  DiskUse = "wal"  // PGDATA/pg_wal
)

// TablespaceUse names a tablespace by its OID.
func TablespaceUse(oid string) DiskUse { return DiskUse("tablespace_" + oid) }

// Vital says whether the node can neither serve nor vote without what stands there. A tablespace is not: the others go on.
func (u DiskUse) Vital() bool { return u == UseRaft || u == UseData || u == UseWAL }

// DiskAlarm is what is wrong with a disk.
type DiskAlarm string

// The alarms, from the least to the worst.
const (
	DiskWell     DiskAlarm = ""
	DiskLow      DiskAlarm = "low"       // less than disk.warn_free is free: nothing follows
	DiskShort    DiskAlarm = "short"     // less than the minimum of what stands there
	DiskFull     DiskAlarm = "full"      // no room for a segment of WAL, or a block was refused
	DiskReadOnly DiskAlarm = "read_only" // the file system is
	DiskFailed   DiskAlarm = "failed"    // a write ends with another error
	DiskHung     DiskAlarm = "hung"      // a write does not end by its deadline
)

// DiskAlarms are all alarms there are, for readers that show each.
var DiskAlarms = []DiskAlarm{DiskLow, DiskShort, DiskFull, DiskReadOnly, DiskFailed, DiskHung}

// Unwritable says whether nothing can be written at all, whatever room there is.
func (a DiskAlarm) Unwritable() bool {
	return a == DiskReadOnly || a == DiskFailed || a == DiskHung
}

// DiskStatus is one disk of a node (one device), as its last probe has found it.
type DiskStatus struct {
	Uses  []DiskUse `json:"uses"`
	Dir   string    `json:"dir"`        // where it is probed
	Free  uint64    `json:"free_bytes"` // that this node's user may still write; as last known, when the disk hangs
	Alarm DiskAlarm `json:"alarm,omitempty"`
	Why   string    `json:"why,omitempty"` // the alarm in words, with its numbers
}

// DiskLimits are a node's thresholds (B2). A number of bytes that is 0 sets no limit.
type DiskLimits struct {
	Every    time.Duration // between two probes of a disk
	Deadline time.Duration // of one

	Warn    uint64 // bytes; less is an alarm
	MinRaft uint64 // bytes on the disk of raft.data_dir; less is "short"
	MinWAL  uint64
	MinData uint64 // PGDATA, and each tablespace
}

// DefaultDiskLimits are those of a file that names none: four segments of WAL for Postgres, one for Raft.
func DefaultDiskLimits() DiskLimits {
	return DiskLimits{
		Every: time.Second, Deadline: 2 * time.Second,
		Warn: 1 << 30, MinRaft: 16 << 20, MinWAL: 64 << 20, MinData: 64 << 20,
	}
}

// Min is what a use asks for.
func (l DiskLimits) Min(u DiskUse) uint64 {
	switch u {
	case UseRaft:
		return l.MinRaft
	case UseWAL:
		return l.MinWAL
	}
	return l.MinData
}
