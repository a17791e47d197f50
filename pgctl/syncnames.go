package pgctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// FormatSyncNames gives the value of synchronous_standby_names for a sync rule: ANY k (...) in mode quorum, FIRST k
// (...) in mode on, and the empty string for k = 0 and mode off. Names are node, incarnation and the primary's timeline (S6),
// in the rule's order. Source: syncrep_gram.y, PostgreSQL 15.
func FormatSyncNames(mode cluster.SyncMode, k int, ms []cluster.Member, t cluster.Timeline) string {
	if k <= 0 || mode == cluster.SyncOff {
		return ""
	}
	method := "ANY"
	if mode == cluster.SyncOn {
		method = "FIRST"
	}
	names := make([]string, 0, len(ms))
	for _, m := range ms {
		names = append(names, quoteIdent(m.AppName(t)))
	}
	return fmt.Sprintf("%s %d (%s)", method, k, strings.Join(names, ", "))
}

// FormatSyncNames is the function of the same name, for callers that hold only the local Postgres.
func (p *Postgres) FormatSyncNames(mode cluster.SyncMode, k int, ms []cluster.Member, t cluster.Timeline) string {
	return FormatSyncNames(mode, k, ms, t)
}

// syncState is what the local Postgres cannot be asked: it is kept in memory, and unknown after a restart of the agent.
type syncState struct {
	flag    syncFlag
	replies replyAges
	read    readList
}

// readList is the list that a postmaster was last told to read, with nothing written since.
type readList struct {
	mu   sync.Mutex
	run  postmaster // zero: not known
	list string
}

func (r *readList) set(run postmaster, list string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run, r.list = run, list
}

func (r *readList) is(run postmaster, list string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.run.same(run) && r.list == list
}

// syncFlag is what is known of sync_standbys_defined, the flag in shared memory by which a backend decides whether it
// waits at all. The checkpointer keeps it, and SHOW does not tell it (S3).
type syncFlag struct {
	mu   sync.Mutex
	run  postmaster // the server in which the flag is known to be set; zero: not known
	mark int        // how often that was lost, so that a proof which overlaps a change does not count
}

// lost forgets what is known: the empty list is, or may soon be, in force.
func (f *syncFlag) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.run = postmaster{}
	f.mark++
}

// known says whether the flag is known to be set in run, and gives a mark for proven.
func (f *syncFlag) known(run postmaster) (set bool, mark int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run.same(run), f.mark
}

// proven notes that the flag is set in run, unless it was lost since mark.
func (f *syncFlag) proven(run postmaster, mark int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark == mark {
		f.run = run
	}
}

// SetSyncNames writes synchronous_standby_names and has a running Postgres read it. It proves nothing: ProveSyncNames
// does.
func (p *Postgres) SetSyncNames(ctx context.Context, list string) error {
	p.change.Lock()
	defer p.change.Unlock()
	if list == "" {
		p.sync.flag.lost() // before anybody can read the file
	}
	changed, err := writeIfChanged(filepath.Join(p.opt.DataDir, syncConf), syncText(list))
	if err != nil {
		return fmt.Errorf("sync names: %w", err)
	}
	run, running := p.postmaster()
	if !changed && running && p.sync.read.is(run, list) {
		return nil // each reload costs every process of the server a look at all its files
	}
	// Also when the file had it already: the server may not have read it yet.
	p.sync.read.set(postmaster{}, "")
	if err := p.guard.Load().Reload(ctx); err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("sync names: reload: %w", err)
	}
	p.sync.read.set(run, list)
	return nil
}

// provePause is between two looks whether a list is in force.
const provePause = 2 * time.Millisecond

// ProveSyncNames waits until list is in force and gives the end of flushed WAL read after that: what every commit
// acknowledged earlier lies before (S2 step 3). ctx bounds the wait.
//
// S3: between lists, the proof is that a new connection sees the new one. After the empty list it is not: backends
// look at a flag that the checkpointer sets in its own time, and until then commits are acknowledged alone while SHOW
// is right. A CHECKPOINT requested after a new connection saw the list ends only after the checkpointer took it over.
// The same is done when it is not known which list was in force before, such as after a restart of the agent.
func (p *Postgres) ProveSyncNames(ctx context.Context, list string) (cluster.LSN, error) {
	run, _ := p.postmaster()
	set, mark := p.sync.flag.known(run)
	conn, err := p.waitForSyncNames(ctx, list)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	if list != "" && !set {
		if err := checkpoint(ctx, conn); err != nil {
			return 0, fmt.Errorf("sync names: %w", err)
		}
	}
	var text string
	if err := conn.QueryRow(ctx, flushedSQL).Scan(&text); err != nil {
		return 0, fmt.Errorf("sync names: flush position: %w", err)
	}
	if now, _ := p.postmaster(); !run.same(now) {
		return 0, fmt.Errorf("sync names: %w", ErrRestarted)
	}
	if list != "" {
		p.sync.flag.proven(run, mark)
	}
	return cluster.ParseLSN(text)
}

// flushedSQL also answers on a standby, which proves its list before it is promoted (S3).
const flushedSQL = "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text"

// ErrRestarted is returned when Postgres was started anew under an operation that must see one life of it.
var ErrRestarted = errors.New("postgres was restarted meanwhile")

// checkpoint requests a checkpoint and waits for its end. It may take longer than a statement may otherwise: only ctx
// bounds it.
func checkpoint(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{noTimeouts, "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// waitForSyncNames opens new connections until one sees list, and gives that one.
func (p *Postgres) waitForSyncNames(ctx context.Context, list string) (*pgx.Conn, error) {
	for {
		conn, err := p.superuserConn(ctx)
		if err != nil {
			return nil, fmt.Errorf("sync names: %w", err)
		}
		var seen string
		err = conn.QueryRow(ctx, "SHOW synchronous_standby_names").Scan(&seen)
		if err == nil && seen == list {
			return conn, nil
		}
		closeConn(ctx, conn)
		if err != nil {
			return nil, fmt.Errorf("sync names: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("sync names: want %q in force, a new connection still sees %q: %w", list, seen, context.Cause(ctx))
		case <-time.After(provePause):
		}
	}
}
