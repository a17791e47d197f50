package pgctl

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
	"pgquorum/internal/testport"
)

// onRealPostgres says whether to go on with a test that runs servers. PostgreSQL refuses to be root's, and so does what
// this package does around it: when root runs the tests, the test is run again, alone, by a process of the user
// postgres, and false is returned after it.
func onRealPostgres(t *testing.T) bool {
	t.Helper()
	t.Parallel()
	if os.Geteuid() != 0 {
		if err := os.Setenv(testRoleEnv, "1"); err != nil { // for the guards that it spawns
			t.Fatal(err)
		}
		return true
	}
	args := []string{"-test.run=^" + regexp.QuoteMeta(t.Name()) + "$", "-test.timeout=5m", "-test.v"}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir, cmd.Env = "/", append(os.Environ(), testRoleEnv+"=1", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(t), Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	if err != nil {
		t.Fatalf("as the user postgres: %v", err)
	}
	return false
}

// node is one Postgres with its guard.
type node struct {
	*Postgres
	t    *testing.T
	me   cluster.Member
	dir  string
	logs *logBuffer
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// replPassword is the replication user's, so that a passfile matters.
const replPassword = `s3cr:et\x`

// emptyNode gives a node with a guard and no data.
func emptyNode(t *testing.T, name cluster.NodeID, change func(*Options)) *node {
	t.Helper()
	dir := tempDir(t)
	n := &node{t: t, dir: dir, me: cluster.Member{Node: name, Incarnation: "a1"}, logs: &logBuffer{}}
	opt := Options{
		Self: name, DataDir: filepath.Join(dir, "data"), BinDir: testBinDir, ListenHost: "127.0.0.1", Port: testport.Free(t),
		SocketDir: dir, GuardDir: filepath.Join(dir, "guard"),
		Superuser:   Credentials{Username: "postgres"},
		Replication: Credentials{Username: "replicator", Password: replPassword},
		Rewind:      Credentials{Username: "rewinder", Password: "r"},
		Parameters:  map[string]string{"shared_buffers": "16MB", "fsync": "off", "max_wal_size": "64MB", "min_wal_size": "2MB"},
		InitDB:      []string{"no-sync", "wal-segsize=1"},
		Clock:       cluster.Boottime, Log: slog.New(slog.NewTextHandler(n.logs, nil)),
	}
	if change != nil {
		change(&opt)
	}
	gopt := GuardOptions{Dir: opt.GuardDir, DataDir: opt.DataDir, BinDir: opt.BinDir}
	guard, err := SpawnGuard(within(t), "/proc/self/exe", gopt, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n.Postgres = New(opt, guard)
	t.Cleanup(func() {
		ctx := within(t)
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(opt.GuardDir, "postgres.log"))
			t.Logf("%s: agent's log:\n%s\npostgres' log:\n%s", name, n.logs, text)
		}
		n.dropConn(ctx)
		if err := guard.Stop(ctx, StopImmediate, 0); err != nil {
			t.Logf("%s: stop: %v", name, err)
		}
		if err := guard.Quit(ctx); err != nil {
			t.Errorf("%s: quit: %v", name, err)
		}
		_ = guard.Close()
	})
	return n
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgqr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// within bounds one step of a test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newCluster starts a primary of term 1 and its standbys, all streaming.
func newCluster(t *testing.T, standbys int) (primary *node, others []*node) {
	t.Helper()
	primary = emptyNode(t, "n1", nil)
	must(t, second(primary.InitDB(within(t), primary.me)))
	primary.startPrimary(1)
	must(t, primary.CreateUsers(within(t)))
	must(t, primary.Stop(within(t), StopFast, time.Minute))
	for i := range standbys {
		s := emptyNode(t, cluster.NodeID(fmt.Sprintf("n%d", i+2)), nil)
		copyData(t, primary, s)
		others = append(others, s)
	}
	primary.startPrimary(1)
	names := []cluster.NodeID{primary.me.Node}
	for _, s := range others {
		names = append(names, s.me.Node)
	}
	must(t, primary.EnsureSlots(within(t), names))
	for _, s := range others {
		s.startStandby(primary.asSource(1))
		s.awaitStreaming()
		must(t, s.EnsureSlots(within(t), names))
	}
	return primary, others
}

// cutForPromotion cuts both, next only when it has all that third has: the primary writes by itself now and then, and a
// third that were ahead could not follow.
func cutForPromotion(t *testing.T, next, third *node) {
	t.Helper()
	must(t, third.Cut(within(t)))
	has := third.where()
	eventually(t, waitShort, "next has what third has", func() bool { return next.look().Received >= has.LSN })
	must(t, next.Cut(within(t)))
}

// copyData copies a stopped node's directory and makes it the other's own.
func copyData(t *testing.T, from, to *node) {
	t.Helper()
	if out, err := exec.Command("/bin/cp", "-a", from.opt.DataDir, to.opt.DataDir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	must(t, to.Claim(within(t), to.me))
}

// asSource names the node as one to stream from.
func (n *node) asSource(term cluster.Term) *Source {
	return &Source{Node: n.me.Node, Term: term, Host: "127.0.0.1", Port: n.opt.Port}
}

// arm gives the guard a lease of an hour.
func (n *node) arm(term cluster.Term) {
	n.t.Helper()
	l := cluster.Lease{Term: term, RaftTerm: 1, End: cluster.Boottime().Add(time.Hour)}
	must(n.t, n.guard.Load().Lease(within(n.t), l, cluster.LeaseParams{TTL: time.Hour, Fence: 100 * time.Millisecond}))
}

func (n *node) startPrimary(term cluster.Term) {
	n.t.Helper()
	n.arm(term)
	must(n.t, n.Start(within(n.t), StartSpec{Primary: true, Term: term, Settings: Settings{Me: n.me}}))
}

func (n *node) startStandby(s *Source) {
	n.t.Helper()
	must(n.t, n.Start(within(n.t), StartSpec{Source: s, Settings: Settings{Me: n.me}}))
}

func (n *node) awaitStreaming() {
	n.t.Helper()
	eventually(n.t, 30*time.Second, string(n.me.Node)+" streams", func() bool { return n.look().Streaming })
}

// look is Status.
func (n *node) look() cluster.PostgresStatus {
	n.t.Helper()
	st, err := n.Status(within(n.t))
	must(n.t, err)
	return st
}

// where is Position.
func (n *node) where() cluster.Position {
	n.t.Helper()
	pos, err := n.Position(within(n.t))
	must(n.t, err)
	return pos
}

// sql runs a statement on a connection of its own.
func (n *node) sql(sql string, args ...any) {
	n.t.Helper()
	conn, err := n.superuserConn(within(n.t))
	must(n.t, err)
	defer closeConn(context.Background(), conn)
	_, err = conn.Exec(within(n.t), sql, args...)
	must(n.t, err)
}

// value asks for one value.
func (n *node) value(sql string, args ...any) string {
	n.t.Helper()
	var v *string
	must(n.t, n.withConn(within(n.t), func(c *pgx.Conn) error { return c.QueryRow(within(n.t), sql, args...).Scan(&v) }))
	if v == nil {
		return ""
	}
	return *v
}

// lsn asks for one LSN.
func (n *node) lsn(sql string) cluster.LSN {
	n.t.Helper()
	l, err := cluster.ParseLSN(n.value(sql))
	must(n.t, err)
	return l
}

// flushed is the end of WAL of a primary that has nothing unflushed.
func (n *node) flushed() cluster.LSN {
	n.t.Helper()
	var at cluster.LSN
	eventually(n.t, 10*time.Second, "all WAL is flushed", func() bool {
		n.sql("SELECT pg_logical_emit_message(true, '', 'flush')")
		at = n.lsn("SELECT pg_current_wal_flush_lsn()::text")
		return at == n.lsn("SELECT pg_current_wal_insert_lsn()::text")
	})
	return at
}

// log is what Postgres has logged.
func (n *node) log() string {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.opt.GuardDir, "postgres.log"))
	must(n.t, err)
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// waitShort is ample for what takes milliseconds.
const waitShort = 20 * time.Second
