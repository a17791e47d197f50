package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// ErrNotStarted is returned when Postgres ended instead of coming up; its log file says why.
var ErrNotStarted = errors.New("postgres ended while it was starting")

// StartSpec says how to start.
type StartSpec struct {
	Primary  bool             // needs the guard's live lease for Term (U2)
	Term     cluster.Term     // of the lease, for a primary
	Timeline cluster.Timeline // that a primary must go on with: the key's; 0: whatever the directory is on
	Source   *Source          // of a standby; nil: none, as after a cut
	NoTCP    bool             // the socket only
	Settings Settings
}

// Start starts Postgres through the guard, and returns when it accepts connections: a primary read-write, a standby
// read-only. ctx bounds the wait; when it ends the server goes on starting. ErrBelowPromise: the source is below the
// promise (V1). ErrLeaseRefused: no lease for a primary (U2). ErrNotStarted: it ended.
//
// Before it starts anything it ends orphans of a former life, writes all settings, and measures the end of WAL on disk,
// against which a receiver's LSN is held later (V3).
func (p *Postgres) Start(ctx context.Context, spec StartSpec) error {
	if err := p.launch(ctx, spec); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := p.awaitReady(ctx, spec.Primary); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// launch does all up to the postmaster's life.
func (p *Postgres) launch(ctx context.Context, spec StartSpec) error {
	p.change.Lock()
	defer p.change.Unlock()
	return p.launchLocked(ctx, spec)
}

func (p *Postgres) launchLocked(ctx context.Context, spec StartSpec) error {
	if err := p.clearTheGround(ctx); err != nil {
		return err
	}
	if err := p.rightTimeline(ctx, spec); err != nil {
		return err
	}
	dir, err := p.realDataDir()
	if err != nil {
		return err
	}
	if err := disownKept(dir); err != nil {
		return err
	}
	if _, err := p.writeSettings(ctx, spec.Settings, !spec.Primary); err != nil {
		return err
	}
	if err := p.setRole(ctx, spec); err != nil {
		return err
	}
	return p.runServer(ctx, spec)
}

// rightTimeline refuses a primary that would come up on another timeline than the key's (F2): one that died inside its
// promotion, with the new history file written and the control file not yet, would go on with the old one, and acknowledge
// commits there.
func (p *Postgres) rightTimeline(ctx context.Context, spec StartSpec) error {
	if !spec.Primary || spec.Timeline == 0 {
		return nil
	}
	c, err := p.ControlData(ctx)
	if err != nil {
		return err
	}
	if have := c.recoversTo(); have != spec.Timeline {
		return fmt.Errorf("primary: want timeline %d, its recovery would end on %d: %w", spec.Timeline, have, ErrWrongTimeline)
	}
	return nil
}

// runServer measures the WAL, starts the server and waits for its postmaster.pid.
func (p *Postgres) runServer(ctx context.Context, spec StartSpec) error {
	found := p.measureFound(ctx)
	if !spec.Primary && found != 0 {
		if err := p.setPiecesAside(ctx, found); err != nil {
			return err
		}
	}
	p.stored.forget() // WAL moves again
	err := p.guard.Load().Start(ctx, StartRequest{
		Args:    p.serverArgs(spec.NoTCP),
		Primary: spec.Primary,
		Term:    spec.Term,
		LogFile: filepath.Join(p.opt.GuardDir, "postgres.log"),
	})
	if err != nil {
		if spec.Primary { // U3: nobody starts a primary here by hand
			err = errors.Join(err, writeStandbySignal(p.opt.DataDir))
		}
		return err
	}
	run, err := p.awaitPostmaster(ctx)
	if err != nil {
		return err
	}
	if !spec.Primary && spec.Settings.SyncNames != "" {
		_, mark := p.sync.flag.known(run) // S3: set before it started, and no primary until much later
		p.sync.flag.proven(run, mark)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found, p.noTCP = foundWAL{end: found, run: run}, spec.NoTCP
	return nil
}

// clearTheGround ends what a killed postmaster may have left: its backends hold shared memory, and acknowledge commits.
func (p *Postgres) clearTheGround(ctx context.Context) error {
	p.dropConn(ctx)
	p.setFound(foundWAL{})
	p.forgetControl()
	st, err := p.guard.Load().Status(ctx)
	if err != nil {
		return err
	}
	if st.Postmaster != 0 {
		return fmt.Errorf("postmaster %d: %w", st.Postmaster, ErrRunning)
	}
	if err := EndAll(ctx, GuardOptions{Dir: p.opt.GuardDir, DataDir: p.opt.DataDir, BinDir: p.opt.BinDir}); err != nil {
		return err
	}
	return os.MkdirAll(p.opt.SocketDir, 0o755)
}

// setRole makes the directory a standby's or a primary's. A standby: standby.signal first and durable, then the source;
// a primary: no source, and standby.signal goes. The guard checks its lease before it starts one without that file, and
// when it refuses the file comes back, so that nobody else starts a primary here by accident (U2, U3).
func (p *Postgres) setRole(ctx context.Context, spec StartSpec) error {
	p.source.Lock()
	defer p.source.Unlock()
	if !spec.Primary {
		if err := writeStandbySignal(p.opt.DataDir); err != nil {
			return err
		}
		if _, err := p.writeSource(spec.Source, spec.Settings.Me); err != nil {
			return err
		}
		if err := p.dropPassfiles(spec.Source); err != nil {
			return err
		}
		return p.forgetPlaceholders(ctx)
	}
	if _, err := p.writeSource(nil, spec.Settings.Me); err != nil {
		return err
	}
	if err := p.dropPassfiles(nil); err != nil {
		return err
	}
	return p.leaseArmed(ctx, spec.Term)
}

// leaseArmed removes standby.signal if the guard holds a live lease for t (U2). The guard looks again when it starts.
func (p *Postgres) leaseArmed(ctx context.Context, t cluster.Term) error {
	st, err := p.guard.Load().Status(ctx)
	if err != nil {
		return err
	}
	if st.Term != t || st.Remaining <= 0 {
		return fmt.Errorf("primary of term %d: guard holds term %d for %v: %w", t, st.Term, st.Remaining, ErrLeaseRefused)
	}
	if err := os.Remove(filepath.Join(p.opt.DataDir, standbySignal)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(p.opt.DataDir)
}

// forgetPlaceholders removes placeholders that would keep a standby from starting (F2).
func (p *Postgres) forgetPlaceholders(ctx context.Context) error {
	c, err := p.cachedControl(ctx)
	if err != nil {
		return err
	}
	return p.walFiles(c).dropPlaceholders()
}

// measureFound is the end of WAL before the start (V3). Not known is no reason not to start: positions are then always
// read from disk, as after a clone without WAL.
func (p *Postgres) measureFound(ctx context.Context) cluster.LSN {
	pos, err := p.storedPosition(ctx)
	if err != nil {
		p.opt.Log.WarnContext(ctx, "end of wal not found before the start", "reason", err)
		return 0
	}
	return pos.LSN
}

// serverArgs are what must not stand in a file that a clone could bring along.
func (p *Postgres) serverArgs(noTCP bool) []string {
	listen := p.opt.ListenHost
	if noTCP {
		listen = ""
	}
	return []string{
		"-c", "listen_addresses=" + listen,
		"-c", "port=" + strconv.Itoa(p.opt.Port),
		"-c", "unix_socket_directories=" + p.opt.SocketDir,
	}
}

// startPause is between two looks at a starting server.
const startPause = 5 * time.Millisecond

// awaitPostmaster waits until the server has written postmaster.pid.
func (p *Postgres) awaitPostmaster(ctx context.Context) (postmaster, error) {
	for {
		if m, ok := p.postmaster(); ok {
			return m, nil
		}
		if err := p.stillThere(ctx); err != nil {
			return postmaster{}, err
		}
		if err := pause(ctx, startPause); err != nil {
			return postmaster{}, fmt.Errorf("no postmaster.pid: %w", err)
		}
	}
}

// awaitReady waits for a connection in the wanted role. It tries none before postmaster.pid says that the server takes
// sessions: each would cost it a process.
func (p *Postgres) awaitReady(ctx context.Context, primary bool) error {
	for {
		inRecovery, err := true, error(nil)
		run, running := p.postmaster()
		taken := running && (run.state == stateReady || run.state == stateStandby)
		if taken {
			err = p.withConn(ctx, func(conn *pgx.Conn) error {
				return conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&inRecovery)
			})
		}
		if taken && err == nil && (!primary || !inRecovery) {
			return nil
		}
		if gone := p.stillThere(ctx); gone != nil {
			return gone
		}
		if ended := pause(ctx, startPause); ended != nil {
			return fmt.Errorf("no connection yet (postmaster %q, %v): %w", run.state, err, ended)
		}
	}
}

// stillThere asks the guard, the postmaster's parent, whether it lives.
func (p *Postgres) stillThere(ctx context.Context) error {
	st, err := p.guard.Load().Status(ctx)
	if err != nil {
		return err
	}
	if st.Postmaster == 0 {
		return fmt.Errorf("see %s: %w", filepath.Join(p.opt.GuardDir, "postgres.log"), ErrNotStarted)
	}
	return nil
}

// pause waits for d, or until ctx ends, and then says why it ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
