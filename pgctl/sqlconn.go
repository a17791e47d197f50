package pgctl

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// statementTimeout bounds one statement, also on the server's side.
const statementTimeout = 10 * time.Second

// superuserConn opens a new connection to the local Postgres through its socket, as the superuser.
func (p *Postgres) superuserConn(ctx context.Context) (*pgx.Conn, error) {
	return dialPostgres(ctx, p.opt.SocketDir, p.opt.Port, p.opt.Superuser)
}

// dialPostgres opens a connection to the database postgres, with a deadline of its own for the connect.
func dialPostgres(ctx context.Context, host string, port int, user Credentials) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=prefer",
		connInfoQuote(host), port, connInfoQuote(user.Username)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s:%d: %w", host, port, err)
	}
	cfg.Password = user.Password
	cfg.ConnectTimeout = 5 * time.Second
	cfg.RuntimeParams["application_name"] = "pgquorum"
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s:%d: %w", host, port, err)
	}
	return conn, nil
}

// closeConn says goodbye, also when ctx is over. An error leaves nothing to do: the connection is gone either way.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
