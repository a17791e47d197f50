package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// How the clients behave. Half of the writers are patient: a real program waits long for an answer and then does not know
// the outcome. The others give up early, so that an outage is not measured in the clients' own timeouts.
const (
	writersPerWay  = 2
	patience       = 2 * time.Second
	impatience     = 200 * time.Millisecond
	connectTimeout = 200 * time.Millisecond
	pace           = 10 * time.Millisecond // between two statements of one writer

	// After a refused connection. One client of each way tries again at once, so that the end of an outage is seen; the
	// others leave the two processors to the nodes: each try costs every one of them a process.
	eager   = 10 * time.Millisecond
	backoff = 100 * time.Millisecond
)

// Load is the clients of one cluster, which write until they are stopped.
type Load struct {
	History *History

	c    *Cluster
	ids  atomic.Int64
	stop context.CancelFunc
	ctx  context.Context
	wg   sync.WaitGroup
}

const schema = `CREATE TABLE writes (id bigint PRIMARY KEY);
CREATE TABLE registers (k int PRIMARY KEY, v bigint NOT NULL);
INSERT INTO registers VALUES (0, 0)`

// StartLoad makes the tables and starts the writers: two that know all nodes, two that come through HAProxy, and for
// each way one that swaps the one register. They write until Stop.
func (c *Cluster) StartLoad(ctx context.Context) (*Load, error) {
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	own, stop := context.WithCancel(context.Background())
	l := &Load{History: NewHistory(), c: c, stop: stop, ctx: own}
	for i := range writersPerWay {
		l.run(func() { l.write(direct, c.directDSN(i), c.client, patienceOf(i), backoffOf(i)) })
		l.run(func() { l.write(haproxy, c.haproxyDSN(), c.client, patienceOf(i), backoffOf(i)) })
	}
	l.run(func() { l.swap(c.directDSN(0)) })
	l.run(func() { l.swap(c.haproxyDSN()) })
	return l, nil
}

func (l *Load) run(f func()) {
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		f()
	}()
}

// Stop ends all clients and gives the moment.
func (l *Load) Stop() time.Duration {
	end := l.History.Now()
	l.stop()
	l.wg.Wait()
	return end
}

// WriteInside adds a client that lives on a node's own host and writes to that node only, whatever it is.
func (l *Load) WriteInside(h *Host) {
	l.run(func() { l.write("inside:"+h.Name, dsn("app", "", h.Addr, 5432), h.ns, impatience, eager) })
}

// backoffOf makes one of the impatient writers of each way the eager one.
func backoffOf(i int) time.Duration {
	if i == 1 {
		return eager
	}
	return backoff
}

func patienceOf(i int) time.Duration {
	if i%2 == 0 {
		return patience
	}
	return impatience
}

// prepare makes user, database and tables on the primary.
func (c *Cluster) prepare(ctx context.Context) error {
	p, err := c.Primary(ctx)
	if err != nil {
		return err
	}
	for _, statement := range []string{"CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app"} {
		if err := c.Exec(ctx, p, statement); err != nil {
			return err
		}
	}
	conn, err := connect(ctx, c.client, dsn("app", "", p.Addr, 5432))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, schema)
	return err
}

// Exec runs a statement on a node as superuser.
func (c *Cluster) Exec(ctx context.Context, h *Host, statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := connect(ctx, c.client, dsn("postgres", password, h.Addr, 5432))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %s: %w", h.Name, statement, err)
	}
	return nil
}

// scan gives the one value that a query has on a node, for the application's user.
func (c *Cluster) scan(ctx context.Context, h *Host, query string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := connect(ctx, c.client, dsn("app", "", h.Addr, 5432))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return text, conn.QueryRow(ctx, query).Scan(&text)
}

func dsn(user, password, host string, port int) string {
	database := user // the superuser's database is postgres, the application's is app
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", host, port, user, password, database)
}

// directDSN names all nodes, beginning with another one for each writer.
func (c *Cluster) directDSN(i int) string {
	var hosts []string
	nodes := c.Nodes()
	for j := range nodes {
		hosts = append(hosts, nodes[(i+j)%len(nodes)].Addr)
	}
	return fmt.Sprintf("host=%s port=%s user=app dbname=app sslmode=disable target_session_attrs=read-write",
		strings.Join(hosts, ","), strings.TrimSuffix(strings.Repeat("5432,", len(hosts)), ","))
}

func (c *Cluster) haproxyDSN() string { return dsn("app", "", c.LB.Addr, writePort) }

// connect opens one connection from a namespace, for the harness's own work: a busy machine may take its time.
func connect(ctx context.Context, from *Namespace, dsn string) (*pgx.Conn, error) {
	return connectWithin(ctx, from, dsn, patience*5)
}

// connectWithin opens one connection from a namespace. The timeout is for each host of the list.
func connectWithin(ctx context.Context, from *Namespace, dsn string, timeout time.Duration) (*pgx.Conn, error) {
	config, err := clientConfig(from, dsn, timeout)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// clientConfig is read once for the many connections of a writer.
func clientConfig(from *Namespace, dsn string, timeout time.Duration) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = timeout
	config.DialFunc = from.Dial
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, nothing kept on the server
	return config, nil
}

// insert says where the row was written: the address that took it, and the timeline that its WAL goes to.
const insert = `INSERT INTO writes VALUES ($1)
RETURNING host(inet_server_addr()), ` + presentTimeline

// presentTimeline is the timeline to which the server's WAL goes, in eight hexadecimal digits. It is the same for all of a
// session on a primary: a promotion comes before such a session, and a demotion is a restart.
const presentTimeline = `substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`

// write inserts one row after another, reconnecting whenever anything is wrong.
func (l *Load) write(via, dsn string, from *Namespace, timeout, again time.Duration) {
	l.connected(from, dsn, again, func(conn *pgx.Conn) bool {
		w := Write{ID: l.ids.Add(1), Via: via, Start: l.History.Now()}
		ctx, cancel := context.WithTimeout(l.ctx, timeout)
		defer cancel()
		var addr, timeline string
		err := conn.QueryRow(ctx, insert, w.ID).Scan(&addr, &timeline)
		w.End = l.History.Now()
		if err == nil {
			w.Acked, w.Node = true, l.nodeAt(addr)
			var number uint64
			number, err = strconv.ParseUint(timeline, 16, 32)
			w.Timeline = uint32(number)
		}
		if err != nil {
			w.Err = err.Error()
		}
		l.History.add(w)
		return err == nil
	})
}

func (l *Load) nodeAt(addr string) string {
	for _, h := range l.c.Hosts {
		if h.Addr == addr {
			return h.Name
		}
	}
	return addr
}

// exchange gives the old value and stores the new one; the row lock makes the pair atomic.
const exchange = `WITH old AS (SELECT v FROM registers WHERE k = $1 FOR UPDATE)
UPDATE registers SET v = $2 FROM old WHERE k = $1 RETURNING old.v`

// theRegister is the one that all swap: they are to meet in it.
const theRegister = 0

// swap exchanges the register's value again and again.
func (l *Load) swap(dsn string) {
	l.connected(l.c.client, dsn, backoff, func(conn *pgx.Conn) bool {
		s := Swap{Register: theRegister, New: l.ids.Add(1), Start: l.History.Now()}
		ctx, cancel := context.WithTimeout(l.ctx, impatience)
		defer cancel()
		err := conn.QueryRow(ctx, exchange, theRegister, s.New).Scan(&s.Old)
		s.End, s.Acked = l.History.Now(), err == nil
		l.History.addSwap(s)
		return err == nil
	})
}

// connected calls step on a connection, paced, until the load is stopped; after a failed step it takes a new one.
func (l *Load) connected(from *Namespace, dsn string, again time.Duration, step func(*pgx.Conn) bool) {
	config, err := clientConfig(from, dsn, connectTimeout)
	if err != nil {
		panic(err) // the harness made the string
	}
	for l.ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(l.ctx, config)
		if err != nil {
			l.pause(again)
			continue
		}
		for l.ctx.Err() == nil && step(conn) {
			l.pause(pace)
		}
		// The server may be cut off: saying good-bye must not wait for it.
		ctx, cancel := context.WithTimeout(context.Background(), pace)
		_ = conn.Close(ctx)
		cancel()
	}
}

func (l *Load) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// Held reads which writes a node has.
func (c *Cluster) Held(ctx context.Context, h *Host) (map[int64]bool, error) {
	conn, err := connect(ctx, c.client, dsn("app", "", h.Addr, 5432))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT id FROM writes")
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	held := make(map[int64]bool, len(ids))
	for _, id := range ids {
		held[id] = true
	}
	return held, err
}

// readRegister adds the register's final value to the history, as a read.
func (l *Load) readRegister(ctx context.Context, h *Host) error {
	conn, err := connect(ctx, l.c.client, dsn("app", "", h.Addr, 5432))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	s := Swap{Register: theRegister, Read: true, Acked: true, Start: l.History.Now()}
	if err := conn.QueryRow(ctx, "SELECT v FROM registers WHERE k = $1", theRegister).Scan(&s.Old); err != nil {
		return err
	}
	s.End = l.History.Now()
	l.History.addSwap(s)
	return nil
}
