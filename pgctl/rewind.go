package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// RewindImpossible says what pg_rewind needs and does not have. Nothing was touched.
type RewindImpossible struct {
	Missing string
	Retry   bool // it may be there later, such as a source that does not answer; otherwise only a clone helps
	NotYet  bool // it will be there soon, by itself: the source's checkpoint
}

// Waits says that nothing has failed: the agent does not count the try.
func (e *RewindImpossible) Waits() bool { return e.NotYet }

// Error names what is missing.
func (e *RewindImpossible) Error() string { return "rewind impossible: missing " + e.Missing }

// ErrNotShutDown is returned when a directory was not shut down in good order: CrashRecover first.
var ErrNotShutDown = errors.New("not shut down in good order")

// rewindFile is the mark "rewind in progress", under the guard's directory (U4).
const rewindFile = "rewind.json"

// rewindMark is the content of rewindFile, written before the first change. While it stands, PGDATA is no
// incarnation of anybody (V5), and only Rewind or BaseBackup may go on with it.
type rewindMark struct {
	Fork    cluster.Position `json:"fork"`
	Source  cluster.NodeID   `json:"source"`
	Kept    string           `json:"kept"`    // what keepAside saved, whole
	Rewound bool             `json:"rewound"` // pg_rewind ended well; only our own files are still to be put in order
}

// Rewind makes this node's data a standby of s again, as m. fork is where its WAL leaves s's timeline: the timeline
// that both had, and the LSN. progress, which may be nil, is told each step. Postgres must be stopped, in good order.
//
// Before the mark is set nothing is touched: what pg_rewind needs is checked, a dry run made, the WAL from the fork on
// kept aside (B4). The new identity is written before the mark is cleared (V5). A rewind that broke off is taken up by
// calling it again; if it cannot be, the error says so and the mark stays: then clone.
func (p *Postgres) Rewind(ctx context.Context, s Source, fork cluster.Position, m cluster.Member, progress func(string)) error {
	p.change.Lock()
	defer p.change.Unlock()
	defer p.stored.forget()
	if progress == nil {
		progress = func(string) {}
	}
	if pm, runs := p.postmaster(); runs {
		return fmt.Errorf("rewind: postmaster %d still runs", pm.pid)
	}
	mark, err := p.readRewindMark()
	if err != nil {
		return err
	}
	fresh := mark == nil
	if !fresh { // the directory tells nothing any more
		fork = mark.Fork
	}
	if fresh || !mark.Rewound {
		conninfo, remove, err := p.sourceConnInfo(s, p.sourceUser(), "postgres", "pgquorum_rewind_"+SlotName(p.opt.Self))
		if err != nil {
			return err
		}
		defer remove()
		if mark, err = p.prepareRewind(ctx, s, conninfo, fork, mark, progress); err != nil || mark == nil {
			return err
		}
		if err := p.runRewind(ctx, conninfo, mark, fresh, progress); err != nil {
			return err
		}
	}
	progress("putting this node's own files in order")
	return p.finishRewind(mark, m)
}

// prepareRewind checks, keeps aside and sets the mark. A mark that is there already was set after all of that.
func (p *Postgres) prepareRewind(ctx context.Context, s Source, conninfo string, fork cluster.Position, mark *rewindMark, progress func(string)) (*rewindMark, error) {
	c, err := p.ControlData(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.checkRewind(ctx, c, s, fork); err != nil {
		return nil, err
	}
	if mark != nil {
		return mark, nil
	}
	if _, err := p.run(ctx, "pg_rewind", p.rewindArgs(conninfo, "--dry-run")...); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &RewindImpossible{Missing: "what its dry run asks for: " + err.Error(), Retry: true}
	}
	kept, err := p.keepAside(ctx, c, fork)
	if err != nil {
		return nil, err
	}
	all, err := dirSize(p.keptDir())
	if err != nil {
		return nil, fmt.Errorf("kept aside: %w", err)
	}
	progress(fmt.Sprintf("kept aside %d WAL segments (%d MB) in %s; %s holds %d MB in all",
		kept.segments, kept.bytes>>20, kept.dir, p.keptDir(), all>>20))
	mark = &rewindMark{Fork: fork, Source: s.Node, Kept: kept.dir}
	return mark, p.writeRewindMark(mark)
}

// checkRewind looks at everything that pg_rewind needs.
func (p *Postgres) checkRewind(ctx context.Context, c *ControlData, s Source, fork cluster.Position) error {
	if !c.Clean() {
		return fmt.Errorf("rewind: data directory is %q: %w", c.State, ErrNotShutDown)
	}
	if !c.WalLogHints && !c.Checksums {
		return &RewindImpossible{Missing: "data checksums or wal_log_hints = on in this data directory"}
	}
	st, err := p.askRewindSource(ctx, s)
	switch {
	case err != nil:
		return &RewindImpossible{Missing: "an answer of the source: " + err.Error(), Retry: true}
	case st.systemID != c.SystemID:
		return &RewindImpossible{Missing: fmt.Sprintf("a source of the same cluster: %s has system identifier %s, this node %s", s.Node, st.systemID, c.SystemID)}
	case st.missing != "":
		return &RewindImpossible{Missing: fmt.Sprintf("the right of user %s to execute %s on %s", p.sourceUser().Username, st.missing, s.Node)}
	case st.control <= fork.Timeline, s.Timeline != 0 && st.control != s.Timeline:
		// pg_rewind reads the source's timeline from its control file: with an older one it would find no divergence, or
		// leave a minimum recovery point on a timeline that does not have it.
		return &RewindImpossible{Retry: true, NotYet: true, Missing: fmt.Sprintf(
			"a checkpoint of %s on its new timeline: its control file still names timeline %d", s.Node, st.control)}
	}
	return nil
}

// rewindArgs are pg_rewind's arguments.
func (p *Postgres) rewindArgs(conninfo string, more ...string) []string {
	return append([]string{"--no-ensure-shutdown", "--target-pgdata=" + p.opt.DataDir, "--source-server=" + conninfo, "--progress"}, more...)
}

// runRewind runs pg_rewind and notes in the mark that it ended well. It changes the state in the control file from shut
// down to in archive recovery: that tells that something was rewound.
func (p *Postgres) runRewind(ctx context.Context, conninfo string, mark *rewindMark, fresh bool, progress func(string)) error {
	err := p.runCommand(ctx, command{program: "pg_rewind", args: p.rewindArgs(conninfo), line: progress})
	if err != nil {
		return fmt.Errorf("rewind of %s: %w", p.opt.DataDir, err)
	}
	c, err := p.ControlData(ctx)
	if err != nil {
		return err
	}
	if c.Clean() {
		if pos, err := p.position(ctx); err != nil || pos.LSN > mark.Fork.LSN {
			return p.nothingRewound(mark, fresh)
		}
	}
	mark.Rewound = true
	return p.writeRewindMark(mark)
}

// nothingRewound takes the mark back: pg_rewind left the directory as it was although its WAL goes on past the fork. It
// does so when two timelines bear the same number (F3), and for a standby whose WAL past the fork changed no page that
// was written; neither may follow. A mark from before stays: what that rewind did to the directory nobody knows.
func (p *Postgres) nothingRewound(mark *rewindMark, fresh bool) error {
	if fresh {
		if err := p.clearRewindMark(); err != nil {
			return err
		}
	}
	return &RewindImpossible{Missing: fmt.Sprintf(
		"a divergence that pg_rewind can see: it found nothing to rewind, yet WAL goes on past %v of timeline %d", mark.Fork.LSN, mark.Fork.Timeline)}
}

// finishRewind gives the rewound directory its own files back. It may be repeated. The identity comes before the mark
// goes (V5): in between, the mark still says that this is no incarnation.
func (p *Postgres) finishRewind(mark *rewindMark, m cluster.Member) error {
	if err := removeForeign(p.opt.DataDir); err != nil {
		return err
	}
	if err := p.restoreConf(filepath.Join(mark.Kept, "conf")); err != nil {
		return err
	}
	if err := p.includeOurFiles(p.opt.DataDir); err != nil {
		return err
	}
	if err := writeStandbySignal(p.opt.DataDir); err != nil {
		return err
	}
	if err := p.writeIdentity(p.opt.DataDir, m); err != nil {
		return err
	}
	return p.clearRewindMark()
}

// rewindMarkPaths are where the mark stands: under the guard's directory (U4), and beside PGDATA, because a directory that was
// rewound by half must not pass for data once raft.data_dir is lost. pg_rewind removes what it does not know inside PGDATA.
func (p *Postgres) rewindMarkPaths() []string {
	dir, err := p.realDataDir()
	if err != nil {
		dir = p.opt.DataDir
	}
	return []string{filepath.Join(p.opt.GuardDir, rewindFile), dir + ".rewinding"}
}

func (p *Postgres) writeRewindMark(mark *rewindMark) error {
	for _, path := range p.rewindMarkPaths() {
		if err := writeDurable(path, mark); err != nil {
			return err
		}
	}
	return nil
}

// readRewindMark gives nil when no rewind is in progress.
func (p *Postgres) readRewindMark() (*rewindMark, error) {
	for _, path := range p.rewindMarkPaths() {
		var mark rewindMark
		err := readJSON(path, &mark)
		if err == nil {
			return &mark, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("rewind mark: %w", err)
		}
	}
	return nil, nil
}

// clearRewindMark removes the mark, durably; there may be none.
func (p *Postgres) clearRewindMark() error {
	for _, path := range p.rewindMarkPaths() {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = syncDir(filepath.Dir(path))
		}
		if err != nil {
			return fmt.Errorf("rewind mark: %w", err)
		}
	}
	return nil
}
