package pgctl

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// TestGuardFreeze is U6 on real Postgres: the guard, as a process of its own, freezes a primary at the fence point.
func TestGuardFreeze(t *testing.T) {
	t.Parallel()
	template := makeTemplate(t)
	cases := []struct {
		name string
		run  func(t *testing.T, b *box)
	}{
		{"a frozen primary acknowledges nothing and goes on in the same sessions", freezeAndThaw},
		{"thawed only under the live lease of the next term", thawRefused},
		{"a thawed primary is frozen again in its new term", freezeAgain},
		{"a fence ends it before it is answered", fenceFrozen},
		{"a lease that runs out over it ends it", leaseOverFrozen},
		{"the grace ends it", graceEnds},
		{"an order to stop ends it", stopFrozen},
		{"SIGTERM of the guard ends it", endGuardOverFrozen},
		{"a killed guard leaves it frozen, EndAll ends it", killGuardOverFrozen},
		{"a SIGCONT of somebody else's ends it", strangerContinues},
		{"its postmaster's death ends it", killFrozenPostmaster},
		{"what cannot be stopped in time is killed by E", unstoppable},
		{"whatever forks meanwhile is frozen too", forkStorm},
		{"a program with threads stands still too", frozenProgram},
		{"only a primary is frozen, and not while it is stopped by order", notFrozen},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, newBox(t, template, ""))
		})
	}
}

// The lease and the fence budget of these tests are long: on a busy machine it takes a while until every process has met
// its SIGSTOP, and what has not by half of the budget is killed.
const (
	freezeTTL   = 3500 * time.Millisecond
	freezeFence = 3 * time.Second
)

// armFreeze moves E near and gives the lease.
func (b *box) armFreeze(t cluster.Term) cluster.Lease {
	b.t.Helper()
	l, err := b.lease(t, freezeTTL, freezeFence)
	b.must(err)
	return l
}

// freeze starts a primary of term 3, unless one runs, lets its lease run out, and waits until it is frozen.
func (b *box) freeze(grace time.Duration) cluster.Lease {
	b.t.Helper()
	if b.status().Postmaster == 0 {
		b.startPrimary(3)
	}
	b.g.SoftFence(grace)
	l := b.armFreeze(3)
	b.checkFrozen(l)
	return l
}

// checkFrozen checks that all stood still by E.
func (b *box) checkFrozen(l cluster.Lease) {
	b.t.Helper()
	e := b.event(EventFrozen)
	if at := e.At.Sub(l.End.Add(-freezeFence)); e.Term != l.Term || at < 0 || at > freezeFence/2 {
		b.t.Errorf("event %+v, %v after E - F, want term %d", e, at, l.Term)
	}
	if running := b.running(); len(running) > 0 {
		b.t.Errorf("frozen, but these run: %v", running)
	}
	if s := b.status(); s.Frozen != l.Term || s.Term != 0 || s.Postmaster == 0 || s.FrozenLeft <= 0 {
		b.t.Errorf("status %+v, want no lease and frozen in term %d", s, l.Term)
	}
}

// running gives the state of every process of the guard's that does not stand still.
func (b *box) running() (states []string) {
	b.t.Helper()
	s, err := newSweeper()
	b.must(err)
	defer s.close()
	b.must(s.scan())
	s.mark(target{root: b.guardPID()})
	for _, p := range s.seen {
		if p.target && !p.dead && s.runs(&p) {
			states = append(states, fmt.Sprintf("%d %c", p.pid, p.state))
		}
	}
	return states
}

// checkEnded checks that nothing is left and that the fence's durable part stands.
func (b *box) checkEnded(term cluster.Term) {
	b.t.Helper()
	b.goneAt()
	eventually(b.t, 20*time.Second, "fence finished", func() bool {
		d, err := b.g.Detail(ctxFor(b.t))
		b.must(err)
		return !d.Fencing && d.Postmaster == 0
	})
	if mark, err := readFenced(b.opt.Dir); err != nil || mark != term {
		b.t.Errorf("mark %d, %v, want %d", mark, err, term)
	}
	if _, err := os.Stat(b.signalFile()); err != nil {
		b.t.Error(err)
	}
	if s := b.status(); s.Frozen != 0 || s.Postmaster != 0 || s.NoPrimary != term {
		b.t.Errorf("status %+v, want nothing frozen and no primary up to %d", s, term)
	}
}

// client commits in one session without a pause, and counts what is acknowledged.
type client struct {
	conn  *pgx.Conn
	acked atomic.Int64
	ended chan error
}

func (b *box) client() *client {
	b.t.Helper()
	c := &client{conn: b.connectPostgres(), ended: make(chan error, 1)}
	if _, err := c.conn.Exec(ctxFor(b.t), "create table if not exists done (n bigint)"); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		for {
			if _, err := c.conn.Exec(ctxFor(b.t), "insert into done values ($1)", c.acked.Load()); err != nil {
				c.ended <- err
				return
			}
			c.acked.Add(1)
		}
	}()
	eventually(b.t, 20*time.Second, "commits are acknowledged", func() bool { return c.acked.Load() > 0 })
	return c
}

// passed waits until the clock shows i.
func passed(t testing.TB, i cluster.Instant) {
	t.Helper()
	eventually(t, time.Minute, "the moment has passed", func() bool { return !cluster.Boottime().Before(i) })
}

func freezeAndThaw(t *testing.T, b *box) {
	b.startPrimary(3)
	c := b.client()
	l := b.freeze(time.Minute)
	pm, before := b.status().Postmaster, c.acked.Load()
	passed(t, l.End.Add(500*time.Millisecond))
	if now := c.acked.Load(); now != before {
		t.Errorf("%d commits were acknowledged by a frozen primary", now-before)
	}
	b.want(b.g.Reload(ctxFor(t)), ErrFrozen)
	b.want(b.g.Promote(ctxFor(t), 4), ErrFrozen)
	b.must(second(b.lease(4, time.Hour, freezeFence)))
	b.must(b.g.Thaw(ctxFor(t), 3, 4))
	eventually(t, 20*time.Second, "the same session goes on", func() bool { return c.acked.Load() > before+100 })
	if s := b.status(); s.Frozen != 0 || s.Postmaster != pm || s.Term != 4 {
		t.Errorf("status %+v, want postmaster %d under a lease of term 4", s, pm)
	}
	var rows int64
	if err := b.connectPostgres().QueryRow(ctxFor(t), "select count(*) from done").Scan(&rows); err != nil || rows < c.acked.Load()-1 && rows < before {
		t.Errorf("%d rows of %d acknowledged, %v", rows, c.acked.Load(), err)
	}
}

func thawRefused(t *testing.T, b *box) {
	b.startPrimary(3)
	b.want(b.g.Thaw(ctxFor(t), 2, 3), ErrNotFrozen)
	c := b.client()
	b.freeze(time.Minute)
	before := c.acked.Load()
	b.want(b.g.Thaw(ctxFor(t), 3, 4), ErrLeaseRefused) // none is held
	b.want(second(b.lease(3, time.Hour, freezeFence)), ErrLeaseRefused)
	b.want(b.g.Thaw(ctxFor(t), 3, 3), ErrLeaseRefused)
	b.must(second(b.lease(5, time.Hour, freezeFence)))
	b.want(b.g.Thaw(ctxFor(t), 4, 5), ErrNotFrozen)
	b.want(b.g.Thaw(ctxFor(t), 3, 5), ErrLeaseRefused) // somebody else may have held term 4
	b.want(b.g.Thaw(ctxFor(t), 3, 4), ErrLeaseRefused)
	if running := b.running(); len(running) > 0 || c.acked.Load() != before {
		t.Errorf("these run after all: %v, %d commits", running, c.acked.Load()-before)
	}
}

func freezeAgain(t *testing.T, b *box) {
	b.startPrimary(3)
	c := b.client()
	b.freeze(time.Minute)
	b.must(second(b.lease(4, time.Hour, freezeFence)))
	b.must(b.g.Thaw(ctxFor(t), 3, 4))
	before := c.acked.Load()
	eventually(t, 20*time.Second, "the session goes on", func() bool { return c.acked.Load() > before })
	l := b.armFreeze(4)
	b.checkFrozen(l)
	b.want(b.g.Fence(ctxFor(t), 3), ErrNotFenced)
	b.must(b.g.Fence(ctxFor(t), 4))
	b.checkEnded(4)
}

func fenceFrozen(t *testing.T, b *box) {
	b.freeze(time.Minute)
	b.want(b.g.Fence(ctxFor(t), 2), ErrNotFenced) // what is frozen may go on after term 2
	if b.processes() == 0 {
		t.Error("ended by a fence of an older term")
	}
	b.must(b.g.Fence(ctxFor(t), 3))
	if n := b.processes(); n != 0 {
		t.Errorf("fenced was answered while %d processes were left", n)
	}
	b.checkEnded(3)
	b.must(second(b.lease(4, time.Hour, freezeFence)))
	b.want(b.g.Thaw(ctxFor(t), 3, 4), ErrNotFrozen)
}

func leaseOverFrozen(t *testing.T, b *box) {
	b.freeze(time.Minute)
	l := b.armFreeze(4)
	if late := b.goneAt().Sub(l.End); late > 0 {
		t.Errorf("processes gone %v after E", late)
	}
	if e := b.event(EventFenced); e.Term != 4 {
		t.Errorf("event %+v, want term 4", e)
	}
	b.checkEnded(4)
}

func graceEnds(t *testing.T, b *box) {
	l := b.freeze(5 * time.Second)
	gone := b.goneAt()
	if after := gone.Sub(l.End.Add(-freezeFence)); after < 5*time.Second {
		t.Errorf("ended %v after it was frozen, want 5 s", after)
	}
	if e := b.event(EventFenced); e.Term != 3 || e.Detail != "" {
		t.Errorf("event %+v, want term 3", e)
	}
	b.checkEnded(3)
}

func stopFrozen(t *testing.T, b *box) {
	b.freeze(time.Minute)
	b.must(b.g.Stop(ctxFor(t), StopFast, 0))
	if n := b.processes(); n != 0 {
		t.Errorf("stopped, but %d processes are left", n)
	}
	b.checkEnded(3)
}

func endGuardOverFrozen(t *testing.T, b *box) {
	b.freeze(time.Minute)
	b.must(unix.Kill(b.guardPID(), unix.SIGTERM))
	<-b.dead
	if n := b.processes(); n != 0 {
		t.Errorf("the guard ended, and %d processes are left", n)
	}
	if mark, err := readFenced(b.opt.Dir); err != nil || mark != 3 {
		t.Errorf("mark %d, %v, want 3", mark, err)
	}
}

func killGuardOverFrozen(t *testing.T, b *box) {
	b.startPrimary(3)
	c := b.client()
	b.freeze(time.Minute)
	before, left := c.acked.Load(), b.processes()
	b.killGuard()
	passed(t, cluster.Boottime().Add(300*time.Millisecond))
	if n := b.processes(); n != left || c.acked.Load() != before {
		t.Errorf("%d of %d processes are left, %d commits were acknowledged", n, left, c.acked.Load()-before)
	}
	b.endAll()
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func strangerContinues(t *testing.T, b *box) {
	b.startPrimary(3)
	conn := b.connectPostgres()
	b.freeze(time.Minute)
	b.must(unix.Kill(int(conn.PgConn().PID()), unix.SIGCONT))
	if e := b.event(EventFenced); e.Term != 3 {
		t.Errorf("event %+v, want term 3", e)
	}
	b.checkEnded(3)
}

func killFrozenPostmaster(t *testing.T, b *box) {
	b.freeze(time.Minute)
	b.must(unix.Kill(b.status().Postmaster, unix.SIGKILL))
	if e := b.event(EventFenced); e.Term != 3 {
		t.Errorf("event %+v, want term 3", e)
	}
	b.checkEnded(3)
}

// unstoppable lets a debugger hold one backend: it may let it go on, whatever SIGSTOP says.
func unstoppable(t *testing.T, b *box) {
	b.startPrimary(3)
	pid := int(b.connectPostgres().PgConn().PID())
	held, over := make(chan error, 1), make(chan struct{})
	var tracer sync.WaitGroup
	tracer.Go(func() {
		runtime.LockOSThread() // ptrace(2) belongs to a thread
		defer runtime.UnlockOSThread()
		var ws unix.WaitStatus
		err := unix.PtraceAttach(pid)
		if err == nil {
			_, err = unix.Wait4(pid, &ws, 0, nil)
		}
		held <- err
		if err != nil {
			return
		}
		<-over
		if _, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil); err == nil && !ws.Exited() && !ws.Signaled() {
			_ = unix.PtraceDetach(pid) // it was not killed, and the test has failed
		}
	})
	letGo := sync.OnceFunc(func() { close(over) })
	defer tracer.Wait()
	defer letGo()
	b.must(<-held)
	b.g.SoftFence(time.Minute)
	l := b.armFreeze(3)
	eventually(t, 20*time.Second, "killed", func() bool {
		state := statFields(t, pid)[0]
		return state == "Z" || state == "X"
	})
	if late := cluster.Boottime().Sub(l.End); late > 0 {
		t.Errorf("killed %v after E", late)
	}
	letGo()
	if e := b.event(EventFenced); e.Term != 3 {
		t.Errorf("event %+v, want term 3", e)
	}
	b.checkEnded(3)
}

// forkStorm lets many sessions come and go, and programs fork, while all is frozen.
func forkStorm(t *testing.T, b *box) {
	b.startPrimary(3)
	over := make(chan struct{})
	var storm sync.WaitGroup
	defer storm.Wait()
	defer close(over)
	dsn := fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", b.home, testPort)
	for i := range 6 {
		storm.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				conn, err := pgx.Connect(ctxFor(t), dsn)
				if err != nil {
					continue // it has been ended, or is full
				}
				if i == 0 {
					_, err = conn.Exec(ctxFor(t), "copy (select 1) to program 'for i in 1 2 3 4 5; do (true) & done; cat > /dev/null'")
				} else {
					_, err = conn.Exec(ctxFor(t), "select 1")
				}
				_, _ = err, conn.Close(ctxFor(t)) // the storm is all that matters
			}
		})
	}
	b.g.SoftFence(time.Minute)
	l := b.armFreeze(3)
	b.checkFrozen(l)
	passed(t, l.End.Add(300*time.Millisecond))
	if running := b.running(); len(running) > 0 || b.status().Frozen != 3 {
		t.Errorf("after a while these run: %v, status %+v", running, b.status())
	}
	b.must(b.g.Stop(ctxFor(t), StopImmediate, 0))
}

// frozenProgram gives the primary a descendant with threads, in a session of its own.
func frozenProgram(t *testing.T, b *box) {
	b.startPrimary(3)
	conn, mark := b.connectPostgres(), b.home+"/ticks"
	command := fmt.Sprintf("PGQUORUM_TEST_GUARD=1 setsid %s ticks %s > /dev/null 2>&1 &", self(t), mark)
	if _, err := conn.Exec(ctxFor(t), "create temp table nothing (x text); copy nothing from program "+quoteLiteral(command)); err != nil {
		t.Fatal(err)
	}
	ticks := func() int64 {
		info, err := os.Stat(mark)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, 20*time.Second, "the program runs", func() bool { return ticks() > 10 })
	l := b.freeze(time.Minute)
	before := ticks()
	passed(t, l.End.Add(300*time.Millisecond))
	if now := ticks(); now != before {
		t.Errorf("the program went on: %d ticks", now-before)
	}
	b.must(second(b.lease(4, time.Hour, freezeFence)))
	b.must(b.g.Thaw(ctxFor(t), 3, 4))
	eventually(t, 20*time.Second, "the program goes on", func() bool { return ticks() > before+10 })
	b.must(b.g.Stop(ctxFor(t), StopImmediate, 0))
}

// ticksMain is that program: a thread that writes, beside others.
func ticksMain(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for range time.Tick(time.Millisecond) {
		if _, err := f.WriteString("."); err != nil {
			return err
		}
	}
	return nil
}

// self is this test's own program, where Postgres's user may run it.
func self(t testing.TB) string {
	dir := publicDir(t)
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/self"
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func notFrozen(t *testing.T, b *box) {
	b.startStandby()
	b.g.SoftFence(time.Minute)
	l := b.armFreeze(3)
	if late := b.goneAt().Sub(l.End); late > 0 {
		t.Errorf("a standby under an armed lease: gone %v after E", late)
	}
	if e := b.event(EventFenced); e.Term != 3 {
		t.Errorf("event %+v, want term 3", e)
	}
	b.g.SoftFence(0)
	b.startPrimary(4)
	conn := b.connectPostgres()
	b.stopProcess(int(conn.PgConn().PID())) // so that the stop lasts
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Stop(ctxFor(t), StopFast, 0) }()
	eventually(t, 20*time.Second, "the stop has begun", func() bool {
		text, err := os.ReadFile(b.pgLog())
		return err == nil && strings.Contains(string(text), "received fast shutdown request")
	})
	b.g.SoftFence(time.Minute)
	l = b.armFreeze(4)
	if late := b.goneAt().Sub(l.End); late > 0 {
		t.Errorf("a primary that is being stopped: gone %v after E", late)
	}
	b.must(<-stopped)
	b.checkEnded(4)
}
