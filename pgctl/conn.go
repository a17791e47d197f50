package pgctl

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// keptConn is the agent's one standing connection to the local Postgres, over the unix socket as superuser, for short
// statements: looking must not cost a fork and a log-in each time. Long statements (CHECKPOINT) take a connection of
// their own, so that they never stand before a status query.
type keptConn struct {
	turn chan struct{} // holds one token; whoever has it may use conn
	conn *pgx.Conn     // nil: none at present
}

func newKeptConn() *keptConn {
	k := &keptConn{turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	return k
}

// withConn runs use on the kept connection and connects first where that is needed. ctx bounds waiting, connecting and
// use together; when it ends inside a statement, pgx drops the connection and the next call makes a new one. use only
// reads or may be repeated: it runs a second time if the kept connection turned out to be dead, as it does after a
// restart of Postgres.
func (p *Postgres) withConn(ctx context.Context, use func(*pgx.Conn) error) error {
	k := p.kept
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("local connection: in use: %w", context.Cause(ctx))
	}
	if k.conn != nil && !k.conn.IsClosed() {
		err := use(k.conn)
		if err == nil || !k.conn.IsClosed() || ctx.Err() != nil {
			return err
		}
	}
	conn, err := p.superuserConn(ctx)
	if err != nil {
		k.conn = nil
		return err
	}
	k.conn = conn
	return use(conn)
}

// dropConn closes the kept connection: nobody is to wait for the agent's own session, and a stopped or swapped Postgres
// must not be asked through a stale one.
func (p *Postgres) dropConn(ctx context.Context) {
	select {
	case <-p.kept.turn:
		defer func() { p.kept.turn <- struct{}{} }()
	case <-ctx.Done():
		return
	}
	if p.kept.conn != nil {
		closeConn(ctx, p.kept.conn)
		p.kept.conn = nil
	}
}

// SQLSTATE classes with which a postmaster refuses a connection.
// Source: src/backend/utils/errcodes.txt, PostgreSQL 15.
const (
	codeCannotConnectNow = "57P03" // starting up, shutting down, or in recovery without hot standby
	codeAdminShutdown    = "57P01"
	codeObjectState      = "55000" // also "recovery is not in progress"
)

// noServerYet says that a postmaster lives and takes no sessions: it is starting, replaying up to consistency, or on its
// way down.
func noServerYet(err error) bool {
	return sqlState(err) == codeCannotConnectNow || sqlState(err) == codeAdminShutdown ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// sqlState gives the SQLSTATE of a server's error, or the empty string.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
