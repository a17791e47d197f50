package pgctl

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgquorum/cluster"
)

// codeUndefinedFile is what a walsender answers when the segment that it should send has been removed.
// Source: WalSndSegmentOpen, walsender.c, PostgreSQL 15.
const codeUndefinedFile = "58P01"

// RemovedWAL asks s for the WAL that a standby here needs after from, as its receiver would, and gives the source's
// refusal when that WAL has been removed; empty: s has it. It asks without a slot and under a name of its own, so that
// nobody counts it as a standby (S6), and stores nothing of what comes. The error says that s could not be asked.
func (p *Postgres) RemovedWAL(ctx context.Context, s Source, from cluster.Position) (refusal string, err error) {
	c, err := p.cachedControl(ctx)
	if err != nil {
		return "", err
	}
	conn, err := p.dialReplication(ctx, s)
	if err != nil {
		return "", err
	}
	defer closeSender(ctx, conn)
	refusal, err = readFirstWAL(ctx, conn, from.Timeline, p.walFiles(c).segmentStart(from.LSN))
	if err != nil {
		return "", fmt.Errorf("wal of %s from %s on timeline %d: %w", s.Node, from.LSN, from.Timeline, err)
	}
	return refusal, nil
}

// dialReplication opens a physical replication connection.
func (p *Postgres) dialReplication(ctx context.Context, s Source) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s sslmode=prefer replication=true",
		connInfoQuote(s.Host), s.Port, connInfoQuote(p.opt.Replication.Username)))
	if err != nil {
		return nil, fmt.Errorf("replication connection to %s: %w", s.Node, err)
	}
	cfg.Password = p.opt.Replication.Password
	cfg.ConnectTimeout = 5 * time.Second
	cfg.RuntimeParams["application_name"] = "pgquorum_look_" + SlotName(p.opt.Self)
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("replication connection to %s: %w", s.Node, err)
	}
	return conn, nil
}

// closeSender drops the connection without a goodbye: the server is in the middle of a copy.
func closeSender(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = conn.Close(ctx) // the socket is closed whatever the goodbye says
}

// readFirstWAL asks for WAL from start on and reads until the first of it comes, or the refusal. A missing segment shows
// only after the copy has begun; errors before that have other reasons.
func readFirstWAL(ctx context.Context, conn *pgconn.PgConn, tli cluster.Timeline, start cluster.LSN) (refusal string, err error) {
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %d", start, tli)})
	if err := conn.Frontend().Flush(); err != nil {
		return "", err
	}
	for copying := false; ; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return "", err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			copying = true
		case *pgproto3.CopyData: // WAL, or word that there is no more yet
			return "", nil
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery: // the timeline ends here
			return "", nil
		case *pgproto3.ErrorResponse:
			if copying && m.Code == codeUndefinedFile {
				return m.Message, nil
			}
			return "", pgconn.ErrorResponseToPgError(m)
		}
	}
}
