package pgctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

const (
	testRoleEnv = "PGQUORUM_TEST_GUARD" // set: this binary is to be a guard or an agent, by its first argument
	testPort    = 5432
)

// init lets the test binary be the processes that the tests are about: a guard must be a process of its own, and refuses
// to be root's.
func init() {
	if os.Getenv(testRoleEnv) == "" || len(os.Args) < 2 {
		return
	}
	var err error
	switch os.Args[1] {
	case "guard":
		err = guardMain(os.Args[2:])
	case "agent":
		err = agentMain(os.Args[2])
	case "strike":
		err = strikeMain()
	case "ticks":
		err = ticksMain(os.Args[2])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func guardMain(args []string) error {
	opt := GuardOptions{}
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--dir":
			opt.Dir = args[i+1]
		case "--data-dir":
			opt.DataDir = args[i+1]
		case "--bin-dir":
			opt.BinDir = args[i+1]
		}
	}
	opt.watchdog = fakeDriver{dataDir: opt.DataDir}
	return RunGuard(context.Background(), opt)
}

// agentOrder is what a test's agent process does: spawn a guard, start a primary, renew the lease for ever.
type agentOrder struct {
	Opt   GuardOptions
	Start StartRequest
	TTL   time.Duration
	Fence time.Duration
}

func agentMain(order string) error {
	var o agentOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	ctx := context.Background()
	g, err := SpawnGuard(ctx, "/proc/self/exe", o.Opt, slog.Default())
	if err != nil {
		return err
	}
	started := false
	for range time.Tick(20 * time.Millisecond) {
		l := cluster.Lease{Term: o.Start.Term, RaftTerm: 1, End: cluster.Boottime().Add(o.TTL)}
		if err := g.Lease(ctx, l, cluster.LeaseParams{Fence: o.Fence}); err != nil {
			return err
		}
		if !started {
			if err := g.Start(ctx, o.Start); err != nil {
				return err
			}
			started = true
			fmt.Println("started")
		}
	}
	return nil
}

// credential is the user that Postgres runs as: postgres when root runs the tests, else whoever does.
func credential(t testing.TB) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// publicDir makes a directory of Postgres's user with a short name, since a socket stands in it.
func publicDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/tmp", "pgqg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if c := credential(t); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asPostgres runs a command as Postgres's user.
func asPostgres(t testing.TB, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(t)}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// makeTemplate runs initdb once for all tests.
func makeTemplate(t testing.TB) string {
	dir := filepath.Join(publicDir(t), "template")
	asPostgres(t, testBinDir+"/initdb", "-D", dir, "-U", "postgres", "-A", "trust", "-N", "--wal-segsize=1")
	conf, err := os.OpenFile(filepath.Join(dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conf.Close()
	if _, err := conf.WriteString("listen_addresses = ''\ndynamic_shared_memory_type = mmap\nshared_buffers = 16MB\nfsync = off\nhot_standby = on\nmin_wal_size = 2MB\nmax_wal_size = 32MB\n"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// box is one guard, its PGDATA, and a session with it.
type box struct {
	t    testing.TB
	opt  GuardOptions
	home string
	own  string // a delegated cgroup to start guards in; "": the test's own
	g    *Guard

	mu   sync.Mutex
	last *exec.Cmd
	dead chan struct{} // closed when last has ended and was reaped
}

// newBox starts a guard in cgroup own ("": none of its own) and says hello to it.
func newBox(t testing.TB, template, own string) *box {
	b := emptyBox(t, template)
	b.own = own
	b.launch()
	b.connect()
	return b
}

func emptyBox(t testing.TB, template string) *box {
	home := publicDir(t)
	b := &box{t: t, home: home, opt: GuardOptions{Dir: filepath.Join(home, "guard"), DataDir: filepath.Join(home, "data"), BinDir: testBinDir}}
	asPostgres(t, "/bin/cp", "-a", template, b.opt.DataDir)
	t.Cleanup(func() {
		b.killGuard()
		b.endAll()
		if t.Failed() {
			b.dump()
		}
	})
	return b
}

func (b *box) dump() {
	for _, f := range []string{filepath.Join(b.home, "guard.out"), filepath.Join(b.opt.Dir, guardLog), b.pgLog()} {
		text, err := os.ReadFile(f)
		b.t.Logf("%s (%v):\n%s", f, err, text)
	}
}

func (b *box) pgLog() string { return filepath.Join(b.home, "postgres.log") }

// launch starts a guard process and waits until it answers.
func (b *box) launch() {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", "guard", "--dir", b.opt.Dir, "--data-dir", b.opt.DataDir, "--bin-dir", b.opt.BinDir)
	cmd.Env = append(os.Environ(), testRoleEnv+"=1")
	cmd.Dir = "/"
	attr := &syscall.SysProcAttr{Setsid: true, Credential: credential(b.t)}
	if b.own != "" {
		dir, err := os.Open(b.own)
		if err != nil {
			b.t.Fatal(err)
		}
		defer dir.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	cmd.SysProcAttr = attr
	out, err := os.OpenFile(filepath.Join(b.home, "guard.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is each test's own question
		close(dead)
	}()
	b.mu.Lock()
	b.last, b.dead = cmd, dead
	b.mu.Unlock()
}

// connect says hello, waiting until the guard answers.
func (b *box) connect() {
	b.t.Helper()
	b.t.Cleanup(func() {
		if b.g != nil {
			_ = b.g.Close()
		}
	})
	b.g = b.session()
}

// session is a further session.
func (b *box) session() *Guard {
	b.t.Helper()
	var g *Guard
	eventually(b.t, 20*time.Second, "guard answers", func() (ok bool) {
		var err error
		g, err = ConnectGuard(ctxFor(b.t), b.opt, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil && !errors.Is(err, ErrNoGuard) {
			b.t.Fatal(err)
		}
		return err == nil
	})
	b.t.Cleanup(func() { _ = g.Close() })
	return g
}

// killGuard ends the guard with SIGKILL and waits for that.
func (b *box) killGuard() {
	b.mu.Lock()
	cmd, dead := b.last, b.dead
	b.mu.Unlock()
	if cmd == nil {
		if b.g != nil && b.g.Hello().PID != 0 {
			_ = unix.Kill(b.g.Hello().PID, unix.SIGKILL) // spawned by an agent process; it may have ended already
		}
		return
	}
	_ = cmd.Process.Kill() // it may have ended already
	<-dead
}

func (b *box) guardPID() int { return b.last.Process.Pid }

func (b *box) endAll() {
	if err := EndAll(ctxFor(b.t), b.opt); err != nil {
		b.t.Error(err)
	}
}

// term gives a lease for t that ends ttl from now, with the fence budget f.
func (b *box) lease(t cluster.Term, ttl, f time.Duration) (cluster.Lease, error) {
	l := cluster.Lease{Term: t, RaftTerm: 7, End: cluster.Boottime().Add(ttl)}
	return l, b.g.Lease(ctxFor(b.t), l, cluster.LeaseParams{Fence: f})
}

func (b *box) startRequest(primary bool, t cluster.Term) StartRequest {
	return StartRequest{Args: []string{"-k", b.home, "-p", strconv.Itoa(testPort)}, Primary: primary, Term: t, LogFile: b.pgLog()}
}

// startPrimary starts a primary under an hour's lease of term t, and waits until it accepts connections.
func (b *box) startPrimary(t cluster.Term) {
	b.t.Helper()
	if err := os.Remove(b.signalFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	b.must(second(b.lease(t, time.Hour, 100*time.Millisecond)))
	b.must(b.g.Start(ctxFor(b.t), b.startRequest(true, t)))
	_ = b.connectPostgres().Close(ctxFor(b.t)) // it was only a question
}

// startStandby starts a standby without a source, and waits until it accepts connections.
func (b *box) startStandby() {
	b.t.Helper()
	asPostgres(b.t, "/usr/bin/touch", b.signalFile())
	b.must(b.g.Start(ctxFor(b.t), b.startRequest(false, 0)))
	_ = b.connectPostgres().Close(ctxFor(b.t)) // it was only a question
}

func (b *box) signalFile() string { return filepath.Join(b.opt.DataDir, standbySignal) }

// connectPostgres waits until Postgres accepts a connection.
func (b *box) connectPostgres() *pgx.Conn {
	b.t.Helper()
	var conn *pgx.Conn
	eventually(b.t, 30*time.Second, "postgres accepts connections", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		conn, err = pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", b.home, testPort))
		return err == nil
	})
	return conn
}

// processes counts the living processes of this PGDATA, found by their working directory.
func (b *box) processes() int {
	b.t.Helper()
	s, err := newSweeper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.close()
	dir, err := realPath(b.opt.DataDir)
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := s.sweep(target{dataDir: dir}, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// goneAt waits until no process is left and says when that was.
func (b *box) goneAt() cluster.Instant {
	b.t.Helper()
	eventually(b.t, 30*time.Second, "no process of postgres is left", func() bool { return b.processes() == 0 })
	return cluster.Boottime()
}

func (b *box) status() cluster.GuardStatus {
	b.t.Helper()
	s, err := b.g.Status(ctxFor(b.t))
	b.must(err)
	return s
}

// event waits for the next event of the session.
func (b *box) event(kind EventKind) GuardEvent {
	b.t.Helper()
	select {
	case e := <-b.g.Events():
		if e.Kind == EventDied && kind != EventDied {
			return b.event(kind) // it comes ahead of exited
		}
		if e.Kind != kind {
			b.t.Fatalf("event %+v, want %s", e, kind)
		}
		return e
	case <-time.After(30 * time.Second):
		b.t.Fatalf("no event %s", kind)
		return GuardEvent{}
	}
}

// stopProcess freezes pid and waits until it stands still.
func (b *box) stopProcess(pid int) {
	b.t.Helper()
	b.must(unix.Kill(pid, unix.SIGSTOP))
	eventually(b.t, 20*time.Second, "process stands still", func() bool { return statFields(b.t, pid)[0] == "T" })
}

// statFields gives the fields of /proc/<pid>/stat from the state on. Source: proc_pid_stat(5), field 3 onwards.
func statFields(t testing.TB, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) want(err, sentinel error) {
	b.t.Helper()
	if !errors.Is(err, sentinel) {
		b.t.Fatalf("error %v, want %v", err, sentinel)
	}
}

func second[T any](_ T, err error) error { return err }

// ctxFor bounds one step of a test.
func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// runAgent starts an agent process that spawns the guard of b and keeps a primary's lease, and waits for the start.
func (b *box) runAgent(o agentOrder) *exec.Cmd {
	b.t.Helper()
	text, err := json.Marshal(o)
	b.must(err)
	cmd := exec.Command("/proc/self/exe", "agent", string(text))
	cmd.Env, cmd.Dir = append(os.Environ(), testRoleEnv+"=1"), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: credential(b.t)}
	out, err := cmd.StdoutPipe()
	b.must(err)
	var said strings.Builder
	cmd.Stderr = &said
	b.must(cmd.Start())
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		b.t.Fatalf("agent said %q, %v: %s", line, err, said.String())
	}
	return cmd
}
