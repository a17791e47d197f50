package pgctl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func refusedStarts(t *testing.T, template string) {
	b := newBox(t, template, "")
	start := func(primary bool, term uint64) error {
		r := b.startRequest(primary, 0)
		r.Term = 0
		r.Term += clusterTerm(term)
		return b.g.Start(ctxFor(t), r)
	}
	b.want(start(true, 1), ErrLeaseRefused) // a fresh guard has E = 0
	b.want(start(false, 0), ErrNoStandby)
	b.must(second(b.lease(4, time.Hour, testFence)))
	b.want(start(true, 3), ErrLeaseRefused)
	b.want(start(true, 5), ErrLeaseRefused)
	b.want(start(true, 0), ErrLeaseRefused)
	b.must(b.g.Fence(ctxFor(t), 4))
	b.must(os.Remove(b.signalFile()))
	b.want(start(true, 4), ErrLeaseRefused)
	b.want(start(false, 4), ErrNoStandby)
	b.want(b.g.Reload(ctxFor(t)), ErrNotRunning)
	b.want(b.g.Promote(ctxFor(t), 5), ErrNotRunning)
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes, want none started", n)
	}
	b.startPrimary(5)
	b.want(start(true, 5), ErrRunning)
	b.want(start(false, 0), ErrRunning)
	b.must(b.g.Reload(ctxFor(t)))
	eventually(t, 20*time.Second, "reload in the log", func() bool {
		text, err := os.ReadFile(b.pgLog())
		return err == nil && strings.Contains(string(text), "received SIGHUP")
	})
}

func promotion(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startStandby()
	b.want(b.g.Promote(ctxFor(t), 2), ErrLeaseRefused)
	b.must(second(b.lease(3, time.Hour, testFence)))
	b.want(b.g.Promote(ctxFor(t), 2), ErrLeaseRefused)
	conn := b.connectPostgres() // like the agent, which promotes what it knows as a running standby
	b.must(b.g.Promote(ctxFor(t), 3))
	eventually(t, 30*time.Second, "promotion", func() bool {
		return second(conn.Exec(ctxFor(t), "create table if not exists t (x int)")) == nil
	})
	if _, err := os.Stat(b.signalFile()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("standby.signal after the promotion: %v", err)
	}
	if d, err := b.g.Detail(ctxFor(t)); err != nil || !d.Primary {
		t.Errorf("status %+v, %v, want it to say primary", d, err)
	}
	b.must(b.g.Promote(ctxFor(t), 3)) // again: nothing to do
	b.must(b.g.Fence(ctxFor(t), 3))   // started as a standby, but promoted
	if _, err := os.Stat(b.signalFile()); err != nil || b.processes() != 0 {
		t.Errorf("after the fence: %v, %d processes", err, b.processes())
	}
	b.want(b.g.Promote(ctxFor(t), 3), ErrNotRunning)
	b.must(os.WriteFile(filepath.Join(b.opt.DataDir, promoteSignal), nil, 0o600))
	b.startStandby() // an order that was left is none to this one
	var standby bool
	b.must(b.connectPostgres().QueryRow(ctxFor(t), "select pg_is_in_recovery()").Scan(&standby))
	if _, err := os.Stat(filepath.Join(b.opt.DataDir, promoteSignal)); !standby || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("started with a left order: standby %v, the file %v", standby, err)
	}
}

func stops(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.must(b.g.Stop(ctxFor(t), StopFast, time.Second)) // nothing runs
	b.want(b.g.Stop(ctxFor(t), "smart", time.Second), errBadRequest)
	for _, c := range []struct {
		name     string
		mode     StopMode
		deadline time.Duration
		frozen   bool
		log      string
	}{
		{"fast", StopFast, 20 * time.Second, false, "received fast shutdown request"},
		{"immediate", StopImmediate, 20 * time.Second, false, "received immediate shutdown request"},
		{"fast, frozen", StopFast, 50 * time.Millisecond, true, ""},
		{"immediate, frozen", StopImmediate, 50 * time.Millisecond, true, ""},
	} {
		b.startPrimary(3)
		if c.frozen {
			b.stopProcess(b.status().Postmaster)
		}
		if err := b.g.Stop(ctxFor(t), c.mode, c.deadline); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if n, pid := b.processes(), b.status().Postmaster; n != 0 || pid != 0 {
			t.Errorf("%s: %d processes, postmaster %d", c.name, n, pid)
		}
		if text, err := os.ReadFile(b.pgLog()); err != nil || !strings.Contains(string(text), c.log) {
			t.Errorf("%s: log %v does not say %q", c.name, err, c.log)
		}
	}
}

// orderedExit: the session that ordered a stop hears its answer; a session that did not hears the event.
func orderedExit(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.must(b.g.Stop(ctxFor(t), StopFast, 20*time.Second))
	b.startPrimary(3)
	b.must(unix.Kill(b.status().Postmaster, unix.SIGINT))
	if e := b.event(EventExited); e.Detail != "exit status 0" { // the first event: the ordered stop made none
		t.Errorf("event %+v, want exit status 0", e)
	}
	b.startPrimary(3)
	b.stopProcess(b.status().Postmaster)
	ctx, cancel := context.WithCancel(ctxFor(t))
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Stop(ctx, StopFast, 200*time.Millisecond) }()
	eventually(t, 20*time.Second, "stop ordered", func() bool { return pending(t, b.status().Postmaster, unix.SIGINT) })
	cancel() // the agent gives up waiting and comes back in a new session; the stop goes on
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v, want it cancelled", err)
	}
	b.g = b.session()
	b.event(EventExited)
}

// pending says whether sig waits for a frozen process. Source: proc_pid_status(5), ShdPnd.
func pending(t testing.TB, pid int, sig unix.Signal) bool {
	t.Helper()
	if pid == 0 {
		return false
	}
	text, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "ShdPnd:"); ok {
			return parseHex(t, strings.TrimSpace(mask))&(1<<(sig-1)) != 0
		}
	}
	return false
}

func swapped(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.must(b.g.Stop(ctxFor(t), StopFast, 20*time.Second))
	old := b.opt.DataDir + ".old"
	b.must(os.Rename(b.opt.DataDir, old))
	b.must(b.g.Fence(ctxFor(t), 3)) // no directory: nothing there can be started
	asPostgres(t, "/bin/cp", "-a", template, b.opt.DataDir+".new")
	b.must(os.Symlink(b.opt.DataDir+".new", b.opt.DataDir))
	b.startPrimary(4)
	_ = b.connectPostgres().Close(ctxFor(t)) // it was only a question
	b.must(unix.Kill(b.status().Postmaster, unix.SIGKILL))
	b.event(EventExited)
	b.must(b.g.Fence(ctxFor(t), 4))
	if _, err := os.Stat(filepath.Join(b.opt.DataDir+".new", standbySignal)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(old, standbySignal)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("standby.signal in the old directory: %v", err)
	}
}
