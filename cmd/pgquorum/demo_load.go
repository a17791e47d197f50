package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// How the writers behave: as an application that wants to write again soon.
const (
	writersPerWay  = 4
	connectTimeout = 500 * time.Millisecond
	answerTimeout  = time.Second
	writePace      = 10 * time.Millisecond // between two inserts of one writer
	writeBackoff   = 20 * time.Millisecond // after an error
)

// The ways to the primary.
const (
	direct  = "direct"
	proxied = "by HAProxy"
)

const appName = "demo" // user and database

// demoLoad is the writers and what they were told.
type demoLoad struct {
	record *record
	ids    atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startLoad makes the table and starts the writers; it returns when writes arrive by each way.
func (d *demo) startLoad(ctx context.Context) error {
	if err := d.makeTable(ctx); err != nil {
		return fmt.Errorf("table for the writers: %w", err)
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.load = &demoLoad{record: newRecord(d.ways()), cancel: cancel}
	for i := range writersPerWay {
		for _, way := range d.ways() {
			config, err := d.clientConfig(way, i)
			if err != nil {
				return err
			}
			d.load.wg.Go(func() { d.load.write(own, way, config) })
		}
	}
	d.story.say("%d clients write, each in a loop: %s.", writersPerWay*len(d.ways()), d.waysText())
	began := time.Now()
	return d.await(ctx, "writes arrive", func(context.Context) (string, error) { return d.load.record.silent(began, 0), nil })
}

// ways are the ways there are.
func (d *demo) ways() []string {
	if d.proxy == nil {
		return []string{direct}
	}
	return []string{direct, proxied}
}

func (d *demo) waysText() string {
	if d.proxy == nil {
		return "all know the three addresses"
	}
	return fmt.Sprintf("%d know the three addresses, %d come through HAProxy", writersPerWay, writersPerWay)
}

// clientConfig is how a writer connects: to all nodes, beginning with another one for each writer, or to HAProxy.
func (d *demo) clientConfig(way string, i int) (*pgx.ConnConfig, error) {
	var hosts, ports []string
	for j := range d.nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, fmt.Sprint(d.nodes[(i+j)%len(d.nodes)].pgPort))
	}
	target := " target_session_attrs=read-write"
	if way == proxied {
		hosts, ports, target = hosts[:1], []string{fmt.Sprint(d.ports.base + writeOffset)}, ""
	}
	return clientConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=%s password=%s%s",
		strings.Join(hosts, ","), strings.Join(ports, ","), appName, appName, d.secrets.app, target))
}

func clientConfig(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn + " sslmode=disable application_name=pgquorum-demo")
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectTimeout
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, also on a new connection
	return config, nil
}

// makeTable makes user, database and table on the primary.
func (d *demo) makeTable(ctx context.Context) error {
	primary, err := d.primary(ctx)
	if err != nil {
		return err
	}
	admin, err := clientConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres password=%s", primary.pgPort, d.secrets.superuser))
	if err != nil {
		return err
	}
	err = execute(ctx, admin, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", appName, d.secrets.app),
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", appName, appName))
	if err != nil {
		return err
	}
	// The primary alone: a standby may not have replayed the new database yet, and pgx does not go on after that refusal.
	app, err := clientConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s password=%s", primary.pgPort, appName, appName, d.secrets.app))
	if err != nil {
		return err
	}
	return execute(ctx, app, "CREATE TABLE writes (id bigint PRIMARY KEY, way text NOT NULL, at timestamptz NOT NULL DEFAULT now())")
}

func execute(ctx context.Context, config *pgx.ConnConfig, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// write inserts rows until ctx ends. A row whose insert got no answer is not tried again: its id is not acknowledged.
func (l *demoLoad) write(ctx context.Context, way string, config *pgx.ConnConfig) {
	var conn *pgx.Conn
	defer func() { drop(conn) }()
	for ctx.Err() == nil {
		wait := writePace
		if err := l.insert(ctx, &conn, way, config); err != nil && ctx.Err() == nil {
			l.record.failed(way, err)
			drop(conn)
			conn, wait = nil, writeBackoff
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// insert writes one row, connecting first where there is no connection. The row's taker is told by its port.
func (l *demoLoad) insert(ctx context.Context, conn **pgx.Conn, way string, config *pgx.ConnConfig) (err error) {
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, config); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	id, port := l.ids.Add(1), 0
	err = (*conn).QueryRow(ctx, "INSERT INTO writes (id, way) VALUES ($1, $2) RETURNING inet_server_port()", id, way).Scan(&port)
	if err != nil {
		return err
	}
	l.record.acknowledged(way, id, port)
	return nil
}

// drop closes a connection that may be broken.
func drop(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // it is closed here in any case; the error is only that the server was not told
}

// stop ends the writers.
func (l *demoLoad) stop() {
	l.cancel()
	l.wg.Wait()
}

var errRowsLost = errors.New("ACKNOWLEDGED ROWS WERE LOST")

// verify stops the writers and looks for every acknowledged row on the primary that there is now.
func (d *demo) verify(ctx context.Context) error {
	d.load.stop()
	there, err := d.readTable(ctx)
	if err != nil {
		return fmt.Errorf("table at the end: %w", err)
	}
	d.summary(there)
	if lost := d.load.record.lost(there, time.Time{}, time.Now()); lost > 0 {
		d.story.say("%d ACKNOWLEDGED ROWS ARE LOST.", lost)
		return fmt.Errorf("%w: %d", errRowsLost, lost)
	}
	return nil
}

// readTable gives the ids that are there.
func (d *demo) readTable(ctx context.Context) (map[int64]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	config, err := d.clientConfig(direct, 0)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT id FROM writes")
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	there := make(map[int64]bool, len(ids))
	for _, id := range ids {
		there[id] = true
	}
	return there, nil
}
