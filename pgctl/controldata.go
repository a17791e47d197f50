package pgctl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// ControlData is what pg_control says, read by pg_controldata.
type ControlData struct {
	SystemID           string
	State              string           // such as "shut down", "in production", "in archive recovery"
	Checkpoint         cluster.LSN      // where the latest checkpoint's record begins
	Redo               cluster.LSN      // from where that checkpoint replays
	Timeline           cluster.Timeline // the latest checkpoint's
	MinRecovery        cluster.LSN      // a standby has replayed up to here; 0 on a primary
	MinRecoveryTL      cluster.Timeline
	SegmentSize        uint64         // bytes
	PageSize           uint64         // bytes of a WAL page
	Limits             map[string]int // parameters that a standby must not set lower than its primary had them
	Checksums          bool
	WalLogHints        bool
	ControlFileVersion int
}

// Clean says whether it was shut down in good order, as a primary or as a standby. A crash recovery that was stopped before
// the end of its own WAL leaves a directory that says so too, but has no point of minimum recovery: that is set where crash
// recovery ends. Its pages may hold more than it has replayed, and pg_rewind would find nothing to rewind in it.
// Source: CreateRestartPoint, xlog.c, and SwitchIntoArchiveRecovery, PostgreSQL 15.
func (c *ControlData) Clean() bool {
	return c.State == "shut down" || c.State == "shut down in recovery" && c.MinRecovery != 0
}

// recoversTo is the timeline on which a start without standby.signal goes on: whatever history files there are.
// Source: InitWalRecovery, xlogrecovery.c, PostgreSQL 15.
func (c *ControlData) recoversTo() cluster.Timeline { return max(c.Timeline, c.MinRecoveryTL) }

// controlTimeout bounds one run of pg_controldata.
const controlTimeout = 5 * time.Second

// ControlData runs pg_controldata (LC_ALL=C, so that its words are known) on PGDATA.
func (p *Postgres) ControlData(ctx context.Context) (*ControlData, error) {
	return p.controlOf(ctx, p.opt.DataDir)
}

// controlKey says which content of pg_control a cached answer belongs to.
type controlKey struct {
	mtime time.Time
	inode string
}

// cachedControl is ControlData, run only when pg_control was written since: a stopped directory is looked at often and
// changes never. PostgreSQL rewrites pg_control in place, so that its modification time moves with every write.
func (p *Postgres) cachedControl(ctx context.Context) (*ControlData, error) {
	return p.controlIf(ctx, func(have, now controlKey) bool { return have == now })
}

// lastControl is ControlData as it was last read from this very file, however old: enough for what does not change
// (identifier, sizes) and for a base from which the own history is followed. A running standby writes the file all the
// time, and a look must stay cheap.
func (p *Postgres) lastControl(ctx context.Context) (*ControlData, error) {
	return p.controlIf(ctx, func(have, now controlKey) bool { return have.inode == now.inode })
}

// controlIf gives the cached answer if it is good, else a new one.
func (p *Postgres) controlIf(ctx context.Context, good func(have, now controlKey) bool) (*ControlData, error) {
	key, err := p.presentControl()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	cached, have := p.control, p.controlKey
	if p.controlSeen != key {
		p.controlSeen, p.controlSince = key, time.Now()
	}
	settled := time.Since(p.controlSince) >= controlSettled // by the monotonic clock: the wall clock, and so a file's time, may jump
	p.mu.Unlock()
	if cached != nil && good(have, key) {
		return cached, nil
	}
	fresh, err := p.ControlData(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control, p.controlKey = fresh, key
	if !settled {
		p.controlKey.mtime = time.Time{} // the next write may bear the same time: never a match for cachedControl
	}
	return fresh, nil
}

// presentControl is the key of pg_control as it stands.
func (p *Postgres) presentControl() (controlKey, error) {
	info, err := os.Stat(filepath.Join(p.opt.DataDir, "global", "pg_control"))
	if err != nil {
		return controlKey{}, fmt.Errorf("control file: %w", err)
	}
	return controlKey{mtime: info.ModTime(), inode: inodeOf(info)}, nil
}

// controlSettled is more than the grain of a file system's time stamps: once a time stamp has stood for so long, the next write
// bears another.
const controlSettled = 50 * time.Millisecond

// forgetControl drops what was read: a directory that is about to be started may have been rewound since.
func (p *Postgres) forgetControl() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control = nil
}

// controlReader collects fields and keeps the first error.
type controlReader struct {
	fields map[string]string
	err    error
}

func (r *controlReader) text(key string) string {
	v, ok := r.fields[key]
	if !ok && r.err == nil {
		r.err = fmt.Errorf("pg_controldata: want a line %q, have none", key)
	}
	return v
}

func (r *controlReader) lsn(key string) cluster.LSN {
	v, err := cluster.ParseLSN(r.text(key))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("pg_controldata: %s: %w", key, err)
	}
	return v
}

func (r *controlReader) number(key string) uint64 {
	v, err := strconv.ParseUint(r.text(key), 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("pg_controldata: %s: %w", key, err)
	}
	return v
}

// parseControlData reads the output of pg_controldata; a missing line is an error, a new one is not.
// Source: src/bin/pg_controldata/pg_controldata.c, PostgreSQL 15.
func parseControlData(out string) (*ControlData, error) {
	r := &controlReader{fields: map[string]string{}}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			r.fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	c := &ControlData{
		SystemID:           r.text("Database system identifier"),
		State:              r.text("Database cluster state"),
		Checkpoint:         r.lsn("Latest checkpoint location"),
		Redo:               r.lsn("Latest checkpoint's REDO location"),
		Timeline:           cluster.Timeline(r.number("Latest checkpoint's TimeLineID")),
		MinRecovery:        r.lsn("Minimum recovery ending location"),
		MinRecoveryTL:      cluster.Timeline(r.number("Min recovery ending loc's timeline")),
		SegmentSize:        r.number("Bytes per WAL segment"),
		PageSize:           r.number("WAL block size"),
		Checksums:          r.number("Data page checksum version") > 0,
		WalLogHints:        r.text("wal_log_hints setting") == "on",
		ControlFileVersion: int(r.number("pg_control version number")),
		Limits:             map[string]int{},
	}
	for label, parameter := range standbySettings {
		c.Limits[parameter] = int(r.number(label))
	}
	if r.err == nil && (c.SegmentSize == 0 || c.PageSize == 0 || c.SegmentSize%c.PageSize != 0) {
		r.err = fmt.Errorf("pg_controldata: want segments of whole pages, have %d and %d bytes", c.SegmentSize, c.PageSize)
	}
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

// ShutdownCheckpoint says whether a stopped primary was shut down in good order, and gives the end of its shutdown
// checkpoint's record: the position that a standby must have received to have everything (B1). A standby that was shut
// down in recovery wrote no such record: clean is false.
func (p *Postgres) ShutdownCheckpoint(ctx context.Context) (lsn cluster.LSN, clean bool, err error) {
	c, err := p.ControlData(ctx)
	if err != nil {
		return 0, false, err
	}
	if c.State != "shut down" {
		return 0, false, nil
	}
	w := p.walFiles(c)
	r := w.reader(c.Timeline)
	defer r.close()
	rec, err := r.header(c.Checkpoint)
	if err != nil {
		return 0, false, fmt.Errorf("shutdown checkpoint: %w", err)
	}
	return w.end(rec), true, nil
}
