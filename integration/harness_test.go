//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// within gives a context that ends with the test or after a while.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each cut cuts what it says and nothing else; Heal undoes it. A connection that stands already is cut as well.
func TestCuts(t *testing.T) {
	t.Parallel()
	name := lab.next()
	t.Cleanup(func() { must(t, sweep(name+"-")) })
	n, err := NewNetwork(name)
	must(t, err)
	ports := map[string]*Namespace{}
	for i, port := range []string{"a", "b", "c"} {
		ports[port], err = n.Attach(port, i+1)
		must(t, err)
		defer ports[port].Close()
		echo(t, ports[port])
	}
	all := "ab ac ba bc ca cb"
	tests := []struct {
		name string
		cut  func() error
		want string // from-to pairs whose packets pass
	}{
		{"nothing", func() error { return nil }, all},
		{"cut a", func() error { return n.Cut("a") }, "bc cb"},
		{"nothing reaches a", func() error { return n.CutIn("a") }, "ab ac bc cb"},
		{"nothing leaves a", func() error { return n.CutOut("a") }, "ba bc ca cb"},
		{"a and b apart", func() error { return n.CutBetween("a", "b") }, "ac bc ca cb"},
		{"two cuts", func() error { return errors.Join(n.CutBetween("a", "b"), n.Cut("c")) }, ""},
	}
	for _, tt := range tests {
		must(t, tt.cut())
		var got []string
		for _, pair := range strings.Fields(all) {
			if passes(t, ports[pair[:1]], ports[pair[1:]]) {
				got = append(got, pair)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: passes %q, want %q", tt.name, got, tt.want)
		}
		for port := range ports {
			must(t, n.Heal(port))
		}
	}
}

// arrived holds the datagrams that each namespace received.
var arrived sync.Map

// echo receives datagrams: a one-way cut shows in datagrams, not in connections, which need both ways.
func echo(t *testing.T, ns *Namespace) {
	t.Helper()
	must(t, ns.Do(func() error {
		conn, err := net.ListenPacket("udp4", ns.Addr+":9")
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		received := make(chan string, 100)
		arrived.Store(ns, received)
		go func() {
			buf := make([]byte, 100)
			for {
				size, _, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				received <- string(buf[:size])
			}
		}()
		return nil
	}))
}

// passes says whether a datagram gets from one namespace to another. Neighbours are entered by hand: a cut of one
// direction also cuts ARP, whose answers go the other way.
func passes(t *testing.T, from, to *Namespace) bool {
	t.Helper()
	mac, err := exec.Command("ip", "-n", to.name, "-o", "link", "show", "eth0").Output()
	must(t, err)
	_, rest, _ := strings.Cut(string(mac), "link/ether ")
	address, _, _ := strings.Cut(rest, " ")
	must(t, command("ip", "-n", from.name, "neigh", "replace", to.Addr, "lladdr", address, "dev", "eth0"))
	token := fmt.Sprintf("%s-%d", from.name, time.Now().UnixNano())
	conn, err := from.Dial(within(t, time.Second), "udp4", to.Addr+":9")
	must(t, err)
	defer conn.Close()
	if _, err := conn.Write([]byte(token)); err != nil {
		return false
	}
	received, _ := arrived.Load(to)
	deadline := time.After(150 * time.Millisecond)
	for {
		select {
		case got := <-received.(chan string):
			if got == token {
				return true
			}
		case <-deadline:
			return false
		}
	}
}

// Everything that a host runs dies in one step, also what left its session and its parent.
func TestKillAll(t *testing.T) {
	t.Parallel()
	c := New(t, lab, Options{})
	h := c.Hosts[0]
	script := filepath.Join(h.Dir, "tree.sh")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nsetsid sleep 1000 &\n(setsid sleep 1000 &)\nsleep 1000\n"), 0o755))
	where, err := h.where()
	must(t, err)
	p, err := where.Start("/bin/sh", script)
	must(t, err)
	must(t, until(within(t, 10*time.Second), 10*time.Millisecond, func() error {
		if pids, err := pidsOf(h.cgroup); err != nil || len(pids) != 4 {
			return fmt.Errorf("want 4 processes, have %v, %w", pids, err)
		}
		return nil
	}))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	must(t, err)
	if want := fmt.Sprintf("Uid:\t%d\t", lab.UID); !strings.Contains(string(status), want) {
		t.Errorf("want a process of the user postgres, have %s", status)
	}
	must(t, h.Crash())
	if pids, err := pidsOf(h.cgroup); err != nil || len(pids) != 0 {
		t.Errorf("after the crash: processes %v, error %v", pids, err)
	}
	if err := p.Wait(within(t, time.Second)); err == nil {
		t.Error("want the exit error of a killed process")
	}
}

// plain is a cluster of which one host runs a Postgres without an agent, and an answer to /primary in its place.
func plain(t *testing.T) (*Cluster, *Host) {
	t.Helper()
	c := New(t, lab, Options{})
	h := c.Hosts[0]
	must(t, h.Run(within(t, time.Minute), filepath.Join(lab.PostgresIn, "initdb"), "-D", h.Data(), "-U", "postgres", "-A", "trust", "--no-sync"))
	hba, err := os.OpenFile(filepath.Join(h.Data(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = fmt.Fprintf(hba, "host all all %s trust\n", subnet)
	must(t, errors.Join(err, hba.Close()))
	startPlain(t, h)
	must(t, h.ns.Do(func() error {
		listener, err := net.Listen("tcp", h.Addr+":8008")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := h.Postmaster(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})}
		t.Cleanup(func() { server.Close() })
		go server.Serve(listener)
		return nil
	}))
	must(t, c.LB.Start())
	return c, h
}

func startPlain(t *testing.T, h *Host) {
	t.Helper()
	must(t, h.Run(within(t, time.Minute), filepath.Join(lab.PostgresIn, "pg_ctl"), "-D", h.Data(), "-w", "-t", "30", "-s",
		"-l", filepath.Join(h.Dir, "postgres.log"), "-o", "-c listen_addresses="+h.Addr+" -c unix_socket_directories="+h.Dir, "start"))
}

// The clients against a single Postgres whose host crashes and comes back: nothing is lost, the registers stay
// linearizable, the outage is what it was; and then rows are taken away behind the clients' back, which must show.
func TestWriters(t *testing.T) {
	t.Parallel()
	c, h := plain(t)
	ctx := within(t, 2*time.Minute)
	load, err := c.StartLoad(ctx)
	must(t, err)
	stage := &Stage{T: t, Cluster: c, Load: load, Ctx: ctx}
	t.Cleanup(load.stop)
	stage.WaitWrites(0)
	load.WriteInside(h)
	stage.Fault(h.Crash)
	stage.For(500 * time.Millisecond)
	must(t, c.Net.Heal(h.Name))
	startPlain(t, h)
	back := load.History.Now()
	stage.WaitWrites(back)
	end := load.Stop()
	must(t, load.readRegister(ctx, h))

	writes := load.History.Writes()
	for _, via := range []string{direct, haproxy} {
		if outage := Outage(writes, via, stage.faults[0], end); outage < 500*time.Millisecond {
			t.Errorf("%s: outage %s, want at least the 500 ms that the host was down", via, outage)
		}
	}
	if proofs := TwoPrimaries(writes); len(proofs) > 0 {
		t.Errorf("two primaries where there is one Postgres: %q", first(proofs))
	}
	must(t, Linearizable(load.History.Swaps()))
	held, err := c.Held(ctx, h)
	must(t, err)
	if lost, phantoms := Lost(writes, held), Phantoms(writes, held); len(lost)+len(phantoms) > 0 {
		t.Errorf("a lone Postgres lost %v, invented %v", first(lost), first(phantoms))
	}
	t.Logf("%d writes, %d swaps, %d rows", len(writes), len(load.History.Swaps()), len(held))

	conn, err := connect(ctx, c.client, dsn("app", "", h.Addr, 5432))
	must(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DELETE FROM writes WHERE id IN (SELECT id FROM writes ORDER BY id LIMIT 3); UPDATE registers SET v = 0 WHERE k = 0")
	must(t, err)
	must(t, load.readRegister(ctx, h))
	if held, err = c.Held(ctx, h); err != nil || len(Lost(writes, held)) == 0 {
		t.Errorf("three rows deleted: lost %d, error %v", len(Lost(writes, held)), err)
	}
	if Linearizable(load.History.Swaps()) == nil {
		t.Error("a register set back: want no order that explains it")
	}
}

// leaveBehind makes a re-executed test binary leave everything behind and die without a word.
const leaveBehind = "PGQUORUM_LEAVE_BEHIND"

// leave is that process: a network, a cgroup with a process in it that hangs in a write to a frozen disk, a mount, and then
// SIGKILL.
func leave() int {
	name := lab.next()
	n, err := NewNetwork(name)
	if err == nil {
		cgroup, dir := filepath.Join(lab.cgroups, name+"-run"), filepath.Join(os.TempDir(), name+"-run")
		err = errors.Join(os.Mkdir(cgroup, 0o755), os.Mkdir(dir, 0o755))
		if err == nil {
			var h *Host
			if h, err = newHost(lab, n, "n1", dir, cgroup, 1); err == nil {
				err = leaveHanging(h)
			}
		}
		err = errors.Join(err, command("mount", "-t", "tmpfs", "tmpfs", filepath.Join(dir, "n1", "mount")))
	}
	fmt.Println(os.Getpid(), err)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	return 1
}

// leaveHanging freezes the host's own disk under a process that writes to it.
func leaveHanging(h *Host) error {
	if err := errors.Join(os.Mkdir(filepath.Join(h.Dir, "mount"), 0o755), h.makeDisk(0, false)); err != nil {
		return err
	}
	where, err := h.where()
	if err != nil {
		return err
	}
	if err := h.FreezeDisk(); err != nil {
		return err
	}
	_, err = where.Start("/bin/sh", "-c", "echo hangs > "+filepath.Join(h.home(), "file"))
	return err
}

// A test process that is killed leaves nothing on the machine.
func TestJanitor(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(within(t, time.Minute), self)
	cmd.Env = append(os.Environ(), leaveBehind+"=1")
	out, _ := cmd.Output() // it always ends by a signal
	var pid int
	var said string
	if n, err := fmt.Sscan(string(out), &pid, &said); n != 2 || said != "<nil>" {
		t.Fatalf("want a pid and no error, have %q, %v", out, err)
	}
	must(t, until(within(t, 30*time.Second), 50*time.Millisecond, func() error {
		for _, where := range []string{os.TempDir(), netnsDir, lab.cgroups} {
			if left := named(where, owned(pid, "")); len(left) > 0 {
				return fmt.Errorf("left behind: %v", left)
			}
		}
		if loops := loopsOn(owned(pid, "")); len(loops) > 0 {
			return fmt.Errorf("left behind: %v", loops)
		}
		return nil
	}))
}
