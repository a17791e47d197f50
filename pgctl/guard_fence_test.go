package pgctl

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// The fence budget of the timed tests is generous, because they share two cores with each other.
const (
	testTTL   = 1500 * time.Millisecond
	testFence = 600 * time.Millisecond
)

// armShort moves E near and gives the lease.
func (b *box) armShort(t cluster.Term) cluster.Lease {
	b.t.Helper()
	l, err := b.lease(t, testTTL, testFence)
	b.must(err)
	return l
}

// checkFenced checks that the fence began at E - F, that all was gone by E (L5), and that its durable part stands.
func (b *box) checkFenced(l cluster.Lease, gone cluster.Instant) {
	b.t.Helper()
	if late := gone.Sub(l.End); late > 0 {
		b.t.Errorf("processes gone %v after E", late)
	}
	e := b.event(EventFenced)
	if e.Term != l.Term || e.Detail != "" {
		b.t.Errorf("event %+v, want term %d and no detail", e, l.Term)
	}
	if at := e.At.Sub(l.End.Add(-testFence)); at < 0 || at > testFence/2 {
		b.t.Errorf("fence began %v after E - F", at)
	}
	s := b.status()
	if s.Term != 0 || s.Postmaster != 0 || s.NoPrimary != l.Term {
		b.t.Errorf("status %+v, want no lease, no postmaster, no primary up to %d", s, l.Term)
	}
	if _, err := os.Stat(b.signalFile()); err != nil {
		b.t.Error(err)
	}
	if mark, err := readFenced(b.opt.Dir); err != nil || mark != l.Term {
		b.t.Errorf("mark %d, %v, want %d", mark, err, l.Term)
	}
	b.want(second(b.lease(l.Term, time.Hour, testFence)), ErrLeaseRefused)
	b.must(second(b.lease(l.Term+1, time.Hour, testFence)))
}

func fencePrimary(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	for range 20 {
		conn := b.connectPostgres()
		if _, err := conn.Exec(ctxFor(t), "begin"); err != nil {
			t.Fatal(err)
		}
	}
	l := b.armShort(3)
	eventually(t, 20*time.Second, "fence point", func() bool {
		if n := b.processes(); n == 0 && cluster.Boottime() < l.End.Add(-testFence) {
			t.Fatal("ended before the fence point")
		}
		return cluster.Boottime() > l.End.Add(-testFence)
	})
	b.checkFenced(l, b.goneAt())
}

func fenceFrozenAgent(t *testing.T, template string) {
	b := emptyBox(t, template)
	agent := b.runAgent(agentOrder{Opt: b.opt, Start: b.startRequest(true, 5), TTL: testTTL, Fence: testFence})
	_ = b.connectPostgres().Close(ctxFor(t)) // it was only a question
	b.stopProcess(agent.Process.Pid)
	latest := cluster.Boottime().Add(testTTL) // E is at most this
	if late := b.goneAt().Sub(latest); late > 0 {
		t.Errorf("processes gone %v after E", late)
	}
	b.connect()
	var d GuardDetail
	eventually(t, 20*time.Second, "fence finished", func() bool {
		var err error
		d, err = b.g.Detail(ctxFor(t))
		b.must(err)
		return d.Last != nil && !d.Fencing
	})
	if d.Last.Kind != EventFenced || d.Last.Term != 5 || d.NoPrimary != 5 {
		t.Errorf("status %+v, last event %+v, want fenced of term 5", d, d.Last)
	}
	b.must(b.g.Quit(ctxFor(t)))
}

func fenceFrozenPostmaster(t *testing.T, template string) {
	checkFrozenPostmaster(t, newBox(t, template, ""), containDescendants)
}

func fenceFrozenPostmasterCgroup(t *testing.T, template string) {
	own, mode := delegated(t)
	checkFrozenPostmaster(t, newBox(t, template, own), mode)
}

// checkFrozenPostmaster freezes the postmaster, so that SIGQUIT does nothing, and gives it a descendant that left its
// session and process group.
func checkFrozenPostmaster(t *testing.T, b *box, mode string) {
	b.startPrimary(3)
	if s := b.status(); s.Containment != mode {
		t.Fatalf("containment %q, want %q", s.Containment, mode)
	}
	conn := b.connectPostgres()
	stray := b.home + "/stray.pid"
	command := fmt.Sprintf("setsid sh -c 'echo $$ > %s; exec sleep 60' > /dev/null 2>&1 &", stray)
	if _, err := conn.Exec(ctxFor(t), "create temp table nothing (x text); copy nothing from program "+quoteLiteral(command)); err != nil {
		t.Fatal(err)
	}
	pid := 0
	eventually(t, 20*time.Second, "stray process", func() bool {
		text, err := os.ReadFile(stray)
		if err != nil {
			return false
		}
		n, err := fmt.Sscan(string(text), &pid)
		return n == 1 && err == nil
	})
	b.stopProcess(b.status().Postmaster)
	l := b.armShort(3)
	gone := b.goneAt()
	b.checkFenced(l, gone)
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("stray process %d: %v, want it gone", pid, err)
	}
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func fenceStandby(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startStandby()
	l := b.armShort(2)
	b.checkFenced(l, b.goneAt())
}

// renewedLease renews 50 times a second, for several times the lease.
func renewedLease(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	pid := b.status().Postmaster
	began, used, count := time.Now(), cpuTime(t, b.guardPID()), 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; time.Since(began) < 2*testTTL; count++ {
		b.armShort(3)
		<-tick.C
	}
	used = cpuTime(t, b.guardPID()) - used
	if s := b.status(); s.Postmaster != pid || s.Term != 3 || s.Remaining <= 0 {
		t.Errorf("status %+v, want postmaster %d and the lease of term 3", s, pid)
	}
	if used > time.Since(began)/10 {
		t.Errorf("guard used %v of processor time for %d renewals in %v", used, count, time.Since(began))
	}
	t.Logf("%d renewals used %v", count, used)
}

// cpuTime is what a process has used. Source: proc_pid_stat(5), fields 14 and 15, in hundredths of a second.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	fields := statFields(t, pid)
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func loweredLease(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3) // under an hour's lease
	b.want(second(b.lease(2, time.Hour, testFence)), ErrLeaseRefused)
	b.want(second(b.lease(3, testFence/2, testFence)), ErrLeaseRefused) // its fence point has passed
	l := b.armShort(3)
	b.checkFenced(l, b.goneAt())
}

func orphanBackends(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	conn := b.connectPostgres()
	if _, err := conn.Exec(ctxFor(t), "create table t (x int); begin; insert into t values (1)"); err != nil {
		t.Fatal(err)
	}
	busy := make(chan error, 1)
	other := b.connectPostgres()
	go func() { busy <- second(other.Exec(ctxFor(t), "select pg_sleep(60)")) }()
	b.stopProcess(int(other.PgConn().PID())) // it cannot notice by itself that its postmaster is dead
	before := cluster.Boottime()
	b.must(unix.Kill(b.status().Postmaster, unix.SIGKILL))
	e := b.event(EventExited)
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes left when the event came", n)
	}
	if e.Term != 3 || !strings.Contains(e.Detail, "killed") || e.At < before {
		t.Errorf("event %+v, want term 3, killed, later than %d", e, before)
	}
	t.Logf("end seen after %v, event after %v", e.At.Sub(before), cluster.Boottime().Sub(before))
	if err := <-busy; err == nil {
		t.Error("the other session's statement succeeded")
	}
	if s := b.status(); s.Postmaster != 0 || s.Term != 3 {
		t.Errorf("status %+v, want no postmaster, and the lease as it was", s)
	}
	b.startPrimary(3) // restart in place under the same lease (C3)
}

func fencedDurable(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.must(b.g.Fence(ctxFor(t), 4))
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes left when fenced was answered", n)
	}
	if _, err := os.Stat(b.signalFile()); err != nil {
		t.Error(err)
	}
	b.killGuard()
	b.launch()
	b.connect()
	if s := b.status(); s.NoPrimary != 4 || s.Term != 0 {
		t.Errorf("status of the new guard %+v, want no primary up to 4, no lease", s)
	}
	b.want(second(b.lease(4, time.Hour, testFence)), ErrLeaseRefused)
	b.want(b.g.Start(ctxFor(t), b.startRequest(true, 4)), ErrLeaseRefused)
	b.must(b.g.Fence(ctxFor(t), 2)) // never lowered
	if s := b.status(); s.NoPrimary != 4 {
		t.Errorf("no primary up to %d, want 4", s.NoPrimary)
	}
	b.startPrimary(5)
}

func fenceOrders(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.must(b.g.Fence(ctxFor(t), 2)) // nothing runs
	b.startStandby()
	pid := b.status().Postmaster
	b.must(b.g.Fence(ctxFor(t), 3))
	if s := b.status(); s.Postmaster != pid || s.NoPrimary != 3 || b.processes() == 0 {
		t.Fatalf("status %+v, want the standby %d still there", s, pid)
	}
	b.want(second(b.lease(3, time.Hour, testFence)), ErrLeaseRefused)
	b.must(second(b.lease(5, time.Hour, testFence)))
	b.want(b.g.Fence(ctxFor(t), 4), ErrNotFenced) // a late order of an older term must not end a newer one
	if s := b.status(); s.Postmaster != pid || s.Term != 5 {
		t.Fatalf("status %+v, want the standby %d and the lease of 5 untouched", s, pid)
	}
	b.must(b.g.Fence(ctxFor(t), 5)) // armed: ended whatever the role
	if s := b.status(); s.Postmaster != 0 || s.Term != 0 || s.NoPrimary != 5 || b.processes() != 0 {
		t.Errorf("status %+v and %d processes, want none", s, b.processes())
	}
	b.startPrimary(6)
	b.stopProcess(b.status().Postmaster) // SIGQUIT alone does nothing
	began := time.Now()
	b.must(b.g.Fence(ctxFor(t), 6))
	if took := time.Since(began); took > 2*time.Second || b.processes() != 0 {
		t.Errorf("fence took %v and left %d processes", took, b.processes())
	}
}

func fenceDuringStop(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.stopProcess(b.status().Postmaster)
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Stop(ctxFor(t), StopFast, 0) }()
	b.must(b.g.Fence(ctxFor(t), 3))
	if err := <-stopped; err != nil || b.processes() != 0 {
		t.Errorf("stop: %v, %d processes left", err, b.processes())
	}
}

// fenceStranger starts Postgres behind the guard's back.
func fenceStranger(t *testing.T, template string) {
	b := newBox(t, template, "")
	cmd := exec.Command(testBinDir+"/postgres", "-D", b.opt.DataDir, "-k", b.home)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(t)}
	b.must(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	_ = b.connectPostgres().Close(ctxFor(t)) // it was only a question
	b.want(b.g.Fence(ctxFor(t), 3), ErrNotFenced)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b.startStandby() // ends it first
	if err := <-ended; err == nil {
		t.Error("the stranger ended in good order, want it killed")
	}
	b.must(b.g.Fence(ctxFor(t), 3))
}
