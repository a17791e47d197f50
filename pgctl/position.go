package pgctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// ErrPositionUnknown is returned when the end of WAL cannot be told: such a node gives no promise (V3).
var ErrPositionUnknown = errors.New("position unknown")

// foundWAL is the end of valid WAL that stood on disk before a Postgres was started, and which Postgres that was (V3).
type foundWAL struct {
	end cluster.LSN // 0: unknown
	run postmaster
}

// liveWAL is what a running Postgres says of its WAL.
type liveWAL struct {
	inRecovery bool
	timeline   cluster.Timeline // of a primary
	flushed    cluster.LSN      // of a primary
	received   cluster.LSN      // of a standby: the receiver's flush, 0 if none ran in this life
	replayed   cluster.LSN      // of a standby
}

// maxPieceScan is how many bytes of WAL behind what is replayed are read, in some ten milliseconds, to tell a piece of a record
// from a whole one.
const maxPieceScan = 4 << 20

// liveDeadline bounds the question to a running Postgres.
const liveDeadline = 2 * time.Second

// Position is the end of valid WAL on this node's disk (V3) with its timeline in the node's own history (V4), of a
// running or a stopped Postgres. ErrPositionUnknown wraps why it cannot be told. For a promise it is read after the cut:
// while a WAL receiver works it moves.
func (p *Postgres) Position(ctx context.Context) (cluster.Position, error) {
	pos, err := p.position(ctx)
	if err != nil {
		return cluster.Position{}, fmt.Errorf("%w: %w", ErrPositionUnknown, err)
	}
	if !pos.Known() {
		return cluster.Position{}, fmt.Errorf("%w: no WAL", ErrPositionUnknown)
	}
	return pos, nil
}

func (p *Postgres) position(ctx context.Context) (cluster.Position, error) {
	run, running := p.postmaster()
	if !running {
		return p.storedPosition(ctx)
	}
	live, err := p.readLive(ctx)
	switch {
	case err != nil && noServerYet(err):
		return p.storedPosition(ctx) // not consistent yet, or on its way down: the files say what is there
	case err != nil:
		return cluster.Position{}, err
	case !live.inRecovery:
		return cluster.Position{Timeline: live.timeline, LSN: live.flushed}, nil
	}
	return p.standbyPosition(ctx, run, live)
}

// standbyPosition is a running standby's (V3). The receiver's flush LSN counts only if this life of Postgres is the one
// whose WAL was measured before it started, and the receiver has passed all of that. More conditions are needed,
// since PostgreSQL sets the LSN back to the beginning of a segment when streaming moves on to another timeline [seen]: it
// must be at or past what is replayed, and have passed the fork to the newest timeline. And it must not stand at a page's
// border: a walsender breaks off there, in the middle of a record that is longer than it sends at once or not flushed to
// its end [seen]. Such a piece is no valid WAL: a promotion of this node leaves its timeline before it. Where much is still
// to be replayed the search for the end of the last whole record would take longer than a taker waits, and the piece counts:
// never less than was confirmed, but this node may be rewound for it after a take-over.
// Source: RequestXLogStreaming, walreceiverfuncs.c; XLogSendPhysical, walsender.c; XLogWrite, xlog.c, PostgreSQL 15.
func (p *Postgres) standbyPosition(ctx context.Context, run postmaster, live liveWAL) (cluster.Position, error) {
	c, err := p.lastControl(ctx)
	if err != nil {
		return cluster.Position{}, err
	}
	w := p.walFiles(c)
	h, err := w.ownHistory(c)
	if err != nil {
		return cluster.Position{}, err
	}
	found := p.foundAtStart()
	atBorder := uint64(live.received)%w.segment == 0 ||
		uint64(live.received)%w.page == 0 && live.received-live.replayed <= maxPieceScan
	if found.end != 0 && found.run.same(run) && live.received >= found.end && live.received >= live.replayed &&
		live.received > h.begin() && !atBorder {
		return h.position(live.received), nil
	}
	end, err := p.walEnd(ctx, w, h, max(live.replayed, c.Checkpoint))
	if err != nil {
		return cluster.Position{}, err
	}
	return h.position(end), nil
}

// readLive asks the running Postgres.
func (p *Postgres) readLive(ctx context.Context) (live liveWAL, err error) {
	ctx, cancel := context.WithTimeout(ctx, liveDeadline)
	defer cancel()
	const sql = `SELECT r, CASE WHEN NOT r THEN pg_current_wal_flush_lsn()::text END,
		CASE WHEN NOT r THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
		pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text FROM (SELECT pg_is_in_recovery() AS r) s`
	var flushed, file, received, replayed *string
	err = p.withConn(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql).Scan(&live.inRecovery, &flushed, &file, &received, &replayed)
	})
	if err != nil {
		return live, fmt.Errorf("position of the running server: %w", err)
	}
	for _, v := range []struct {
		text *string
		lsn  *cluster.LSN
	}{{flushed, &live.flushed}, {received, &live.received}, {replayed, &live.replayed}} {
		if v.text == nil {
			continue
		}
		if *v.lsn, err = cluster.ParseLSN(*v.text); err != nil {
			return live, err
		}
	}
	if file != nil {
		live.timeline, err = timelineOfFile(*file)
	}
	return live, err
}

// timelineOfFile reads the timeline from a WAL segment's name. pg_walfile_name puts the timeline into which WAL is
// inserted there, right from the moment recovery ends, while the control file still names the old one.
// Source: pg_walfile_name, xlogfuncs.c (GetWALInsertionTimeLine), PostgreSQL 15.
func timelineOfFile(name string) (cluster.Timeline, error) {
	if len(name) != 24 {
		return 0, fmt.Errorf("WAL file %q: want 24 hexadecimal digits: %w", name, cluster.ErrSyntax)
	}
	n, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("WAL file %q: want 24 hexadecimal digits: %w", name, cluster.ErrSyntax)
	}
	return cluster.Timeline(n), nil
}

// foundAtStart gives what was found on disk when this Postgres was started.
func (p *Postgres) foundAtStart() foundWAL {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found
}

// setFound records it; the zero value says that nothing is known.
func (p *Postgres) setFound(f foundWAL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = f
}
