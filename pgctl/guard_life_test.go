package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

func itoa(n int) string { return strconv.Itoa(n) }

func clusterTerm(n uint64) cluster.Term { return cluster.Term(n) }

func parseHex(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// delegated makes a cgroup that Postgres's user may divide, as a service manager would, and says which containment a
// guard started in it has. Where the machine lets nobody make one, the guard must fall back on descendants.
func delegated(t testing.TB) (own, mode string) {
	t.Helper()
	here, err := ownCgroup()
	if err != nil {
		t.Logf("no cgroup v2 here, so descendants are wanted: %v", err)
		return "", containDescendants
	}
	own, err = os.MkdirTemp(here, "pgquorum-test-")
	if err != nil {
		t.Logf("no cgroup can be made, so descendants are wanted: %v", err)
		return "", containDescendants
	}
	t.Cleanup(func() {
		eventually(t, 20*time.Second, "cgroup removed", func() bool {
			for _, d := range []string{cgroupsIn(own), own} {
				if d != "" && os.Remove(d) != nil {
					return false
				}
			}
			return true
		})
	})
	for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if c := credential(t); c != nil {
			if err := os.Chown(filepath.Join(own, f), int(c.Uid), int(c.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return own, containCgroup
}

// cgroupsIn gives the guard's cgroup that was left in own, "" if none was.
func cgroupsIn(own string) string {
	left, err := filepath.Glob(filepath.Join(own, "pgquorum-guard-*"))
	if err != nil || len(left) == 0 {
		return ""
	}
	return left[0]
}

func containments(t *testing.T, template string) {
	own, mode := delegated(t)
	b := newBox(t, template, own)
	if s := b.status(); s.Containment != mode {
		t.Fatalf("containment %q, want %q", s.Containment, mode)
	}
	b.startPrimary(3)
	if own != "" {
		procs, err := os.ReadFile(filepath.Join(cgroupsIn(own), "pg", "cgroup.procs"))
		if err != nil || !strings.Contains("\n"+string(procs), "\n"+itoa(b.status().Postmaster)+"\n") {
			t.Errorf("cgroup holds %q, %v, want the postmaster in it", procs, err)
		}
	}
	b.must(unix.Kill(b.status().Postmaster, unix.SIGKILL))
	b.event(EventExited)
	b.startPrimary(3) // a cgroup that was killed once must not kill the next postgres
	if s := b.status(); s.Containment != mode {
		t.Errorf("containment of the second start %q, want %q", s.Containment, mode)
	}
	b.must(b.g.Fence(ctxFor(t), 3))
	b.must(b.g.Quit(ctxFor(t)))
	<-b.dead
	if left := cgroupsIn(own); own != "" && left != "" {
		t.Errorf("cgroup %s left behind", left)
	}
}

// killedGuard: the kernel alone ends Postgres (U5); nothing else here does.
func killedGuard(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.killGuard()
	b.event(EventGone)
	b.goneAt()
	b.want(second(b.g.Status(ctxFor(t))), ErrNoGuard)
	_, err := ConnectGuard(ctxFor(t), b.opt, slog.Default())
	b.want(err, ErrNoGuard)
	b.launch() // the dead guard's socket and lock do not stop a new one
	b.connect()
	if s := b.status(); s.Term != 0 {
		t.Errorf("status %+v, want a fresh guard without a lease", s)
	}
}

func endAllByDirectory(t *testing.T, template string) {
	checkEndAll(t, newBox(t, template, ""))
}

func endAllByCgroup(t *testing.T, template string) {
	own, _ := delegated(t)
	checkEndAll(t, newBox(t, template, own))
}

// checkEndAll freezes the postmaster first, so that the kernel's SIGQUIT does nothing.
func checkEndAll(t *testing.T, b *box) {
	b.startPrimary(3)
	conn := b.connectPostgres()
	if _, err := conn.Exec(ctxFor(t), "begin"); err != nil {
		t.Fatal(err)
	}
	b.stopProcess(b.status().Postmaster)
	b.killGuard()
	if b.processes() == 0 {
		t.Fatal("nothing left for EndAll to end")
	}
	b.must(EndAll(ctxFor(t), b.opt))
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes left", n)
	}
	b.must(EndAll(ctxFor(t), b.opt)) // again: nothing to do
}

func sessions(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	l, err := b.lease(3, time.Hour, 150*time.Millisecond)
	b.must(err)
	newer := b.session()
	if d := newer.Hello(); d.Lease != l || d.Fence != 150*time.Millisecond || d.Postmaster != b.status2(newer).Postmaster || !d.Primary {
		t.Errorf("hello %+v, want the lease %+v and the primary", d, l)
	}
	b.want(second(b.lease(3, time.Hour, testFence)), ErrSuperseded)
	b.want(b.g.Fence(ctxFor(t), 3), ErrSuperseded)
	b.want(second(b.g.Status(ctxFor(t))), ErrSuperseded)
	select {
	case e := <-b.g.Events():
		t.Errorf("event %+v in the old session: it must not take the guard for dead", e)
	default:
	}
	b.must(newer.Close())
	b.g = b.session()
	b.must(second(b.lease(3, time.Hour, testFence)))
	checkWire(t, b)
}

// status2 is the status by another session.
func (b *box) status2(g *Guard) cluster.GuardStatus {
	b.t.Helper()
	s, err := g.Status(ctxFor(b.t))
	b.must(err)
	return s
}

// checkWire speaks the frozen protocol by hand (U1).
func checkWire(t *testing.T, b *box) {
	conn, err := net.Dial("unix", filepath.Join(b.opt.Dir, guardSocket))
	b.must(err)
	defer conn.Close()
	b.must(conn.SetDeadline(time.Now().Add(30 * time.Second)))
	for _, c := range []struct{ send, want string }{
		{`{"id":1,"op":"status"}`, `"id":1,"code":"superseded"`}, // no hello
		{`{"id":2,"op":"hello","version":99}`, `"id":2,"code":"version"`},
		{`nonsense`, `"code":"bad_request"`},
		{`{"id":3,"op":"hello","version":1}`, `"id":3,"ok":true,"status":{"alive":true`},
		{`{"id":4,"op":"lease","term":3,"raft_term":7,"end":9000000000000000000,"fence":100000000}`, `{"id":4,"ok":true}`},
		{`{"id":5,"op":"lease","term":2,"raft_term":7,"end":9000000000000000000,"fence":100000000}`, `"id":5,"code":"lease_refused"`},
		{`{"id":6,"op":"lease","term":3,"end":9000000000000000000}`, `"id":6,"code":"bad_request"`},
		{`{"id":7,"op":"dance"}`, `"id":7,"code":"bad_request"`},
		{`{"id":8,"op":"fence","term":2}`, `"id":8,"code":"not_fenced"`},
		{`{"id":9,"op":"fence","term":3}`, `{"id":9,"ok":true}`},
	} {
		if _, err := io.WriteString(conn, c.send+"\n"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !strings.Contains(string(buf[:n]), c.want) {
			t.Errorf("%s: answer %s, %v, want %s", c.send, buf[:n], err, c.want)
		}
	}
	info, err := os.Stat(filepath.Join(b.opt.Dir, guardSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v, want 0600", info.Mode(), err)
	}
}

func endings(t *testing.T, template string) {
	b := newBox(t, template, "")
	b.startPrimary(3)
	b.want(b.g.Quit(ctxFor(t)), ErrRunning)
	first, dead := b.last, b.dead
	b.launch() // a second guard of the same directory ends by itself
	<-b.dead
	if text, err := os.ReadFile(filepath.Join(b.home, "guard.out")); err != nil || !strings.Contains(string(text), ErrGuardRuns.Error()) {
		t.Errorf("second guard said %s, %v", text, err)
	}
	b.last, b.dead = first, dead
	b.must(unix.Kill(b.guardPID(), unix.SIGTERM))
	<-b.dead
	if n := b.processes(); n != 0 {
		t.Errorf("%d processes left after SIGTERM", n)
	}
	if text, err := os.ReadFile(b.pgLog()); err != nil || !strings.Contains(string(text), "database system is shut down") {
		t.Errorf("postgres was not shut down in good order: %v", err)
	}
	b.launch()
	b.connect()
	b.must(b.g.Quit(ctxFor(t)))
	<-b.dead
	if _, err := os.Stat(filepath.Join(b.opt.Dir, guardSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after quit: %v", err)
	}
}

// TestGuardRefusesRoot: Postgres refuses root, so its guard does.
func TestGuardRefusesRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not run by root: nothing to refuse")
		return
	}
	if err := RunGuard(context.Background(), GuardOptions{Dir: t.TempDir(), DataDir: "/nonexistent", BinDir: testBinDir}); !errors.Is(err, errRoot) {
		t.Errorf("error %v, want %v", err, errRoot)
	}
}

func TestFindCgroup(t *testing.T) {
	t.Parallel()
	const hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n41 31 0:39 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	cases := []struct{ name, self, mounts, want string }{
		{"unified", "0::/system.slice/pg.service\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/system.slice/pg.service"},
		{"hybrid", "9:name=systemd:/\n1:cpu:/x\n0::/\n", hybrid, "/sys/fs/cgroup/unified"},
		{"part of the tree", "0::/docker/abc/pg\n", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "/sys/fs/cgroup/pg"},
		{"another part", "0::/other\n", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n", ""},
		{"outside the namespace", "0::/../x\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n", "/sys/fs/cgroup/x"},
		{"space in the mount", "0::/a\n", `30 23 0:26 / /mnt/c\040g rw - cgroup2 cgroup rw` + "\n", "/mnt/c g/a"},
		{"v1 only", "1:cpu:/x\n", hybrid, ""},
	}
	for _, c := range cases {
		got, err := findCgroup(c.self, c.mounts)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestFencedMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if term, err := readFenced(dir); term != 0 || err != nil {
		t.Errorf("no mark: %d, %v", term, err)
	}
	if err := writeFenced(dir, 7); err != nil {
		t.Fatal(err)
	}
	if term, err := readFenced(dir); term != 7 || err != nil {
		t.Errorf("mark %d, %v, want 7", term, err)
	}
	if err := os.WriteFile(filepath.Join(dir, fencedFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readFenced(dir); err == nil {
		t.Error("a broken mark was read as none")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*.tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files %v, %v", left, err)
	}
}

// TestStrike: the lists of children reach a grandchild, so that a fence does not depend on how many processes the machine
// has (L5). It runs in a process of its own, because it kills all descendants.
func TestStrike(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "strike")
	cmd.Env = append(os.Environ(), testRoleEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func strikeMain() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	s, err := newSweeper()
	if err != nil {
		return err
	}
	if _, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "sleep 20 & wait"}, nil); err != nil {
		return err
	}
	end := time.Now().Add(20 * time.Second)
	for s.strike(0) < 2 {
		if time.Now().After(end) {
			return errors.New("grandchild not found")
		}
	}
	s.strike(unix.SIGKILL)
	for {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(-1, &ws, 0, nil); errors.Is(err, unix.ECHILD) {
			return nil
		}
		if !ws.Signaled() {
			return fmt.Errorf("a process ended with %v, want it killed", ws)
		}
	}
}
