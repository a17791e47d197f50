//go:build haproxy

// Package haproxy_test runs the sample configuration in a real HAProxy before fake nodes. It needs the program haproxy:
//
//	go test -tags haproxy -v ./deploy/haproxy
package haproxy_test

import (
	"bufio"
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

// node is a fake: an API that answers as it is told, and a "Postgres" that answers each line with the node's name.
type node struct {
	name string
	mu   sync.Mutex
	up   map[string]bool // by path
	pg   net.Listener
	open []net.Conn
}

func (n *node) set(path string, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up[path] = up
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up[r.URL.Path] {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (n *node) servePostgres(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		n.open = append(n.open, conn)
		n.mu.Unlock()
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintln(conn, n.name); err != nil {
					return
				}
			}
		}()
	}
}

// crash ends the fake Postgres as SIGKILL would: sessions break, new connections are refused.
func (n *node) crash() {
	n.pg.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.open {
		conn.Close()
	}
}

const postgresPort, apiPort = "35432", "38008"

func startNode(t *testing.T, name, host string) *node {
	t.Helper()
	n := &node{name: name, up: make(map[string]bool)}
	pg, err := net.Listen("tcp", host+":"+postgresPort)
	if err != nil {
		t.Fatal(err)
	}
	api, err := net.Listen("tcp", host+":"+apiPort)
	if err != nil {
		t.Fatal(err)
	}
	n.pg = pg
	srv := &http.Server{Handler: n}
	go srv.Serve(api)
	go n.servePostgres(pg)
	t.Cleanup(func() { srv.Close(); n.crash() })
	return n
}

// startCluster runs three nodes, n1 the primary, behind the sample configuration with other addresses.
func startCluster(t *testing.T) (nodes []*node) {
	t.Helper()
	text, err := os.ReadFile("haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := strings.NewReplacer("10.0.0.", "127.0.7.", ":5432", ":"+postgresPort, "port 8008", "port "+apiPort,
		"*:5000", "127.0.0.1:35000", "*:5001", "127.0.0.1:35001", "/run/haproxy/admin.sock", filepath.Join(dir, "admin.sock"),
		"    user haproxy\n", "", "    group haproxy\n", "", "/dev/log local0", "stdout format raw local0").Replace(string(text))
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"n1", "n2", "n3"} {
		n := startNode(t, name, fmt.Sprintf("127.0.7.%d", i+1))
		n.set("/primary", i == 0)
		n.set("/replica", i != 0)
		nodes = append(nodes, n)
	}
	cmd := exec.Command("haproxy", "-db", "-f", file)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil && t.Failed() {
			t.Log(err, log.String())
		}
	})
	waitSettled(t, filepath.Join(dir, "admin.sock"))
	return nodes
}

// waitSettled waits until HAProxy has checked every server: it takes a server for up until its first check.
func waitSettled(t *testing.T, socket string) {
	t.Helper()
	want := []string{"pg_primary,n1,UP", "pg_primary,n2,DOWN", "pg_primary,n3,DOWN", "pg_replicas,n1,DOWN", "pg_replicas,n2,UP", "pg_replicas,n3,UP"}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ; <-tick.C {
		states := serverStates(socket)
		settled := true
		for _, w := range want {
			settled = settled && states[w]
		}
		if settled {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("servers: want %v, have %v", want, states)
		}
	}
}

// serverStates gives "backend,server,state" for each server that was checked at least once.
func serverStates(socket string) map[string]bool {
	states := make(map[string]bool)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return states
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "show stat"); err != nil {
		return states
	}
	const status, checkStatus = 17, 36
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if f := strings.Split(lines.Text(), ","); len(f) > checkStatus && strings.HasPrefix(f[checkStatus], "L7") {
			states[f[0]+","+f[1]+","+f[status]] = true
		}
	}
	return states
}

// ask opens a session and gives the name of the node behind it.
func ask(port string) (conn net.Conn, name string, err error) {
	conn, err = net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
	if err != nil {
		return nil, "", err
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return conn, "", err
	}
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		return conn, "", err
	}
	name, err = bufio.NewReader(conn).ReadString('\n')
	return conn, strings.TrimSpace(name), err
}

// waitFor waits until new sessions reach want, and gives how long it took.
func waitFor(t *testing.T, port, want string, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; <-tick.C {
		conn, name, err := ask(port)
		if conn != nil {
			conn.Close()
		}
		if name == want {
			return time.Since(start)
		}
		last = fmt.Sprint(name, " ", err)
		if time.Since(start) > limit {
			t.Fatalf("port %s: no session reached %s in %v; last %s", port, want, limit, last)
		}
	}
}

// wantCut waits until a session ends, and gives how long it took.
func wantCut(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Fatalf("session of the demoted node: want it cut, got %v", err)
	}
	return time.Since(start)
}

// TestDemotedServerLosesItsSessions: the node's Postgres goes on answering, only /primary turns 503.
func TestDemotedServerLosesItsSessions(t *testing.T) {
	nodes := startCluster(t)
	conn, name, err := ask("35000")
	if err != nil || name != "n1" {
		t.Fatal(name, err)
	}
	defer conn.Close()
	nodes[0].set("/primary", false)
	nodes[1].set("/primary", true)
	t.Logf("demoted, still up: session cut after %v", wantCut(t, conn))
	t.Logf("then a new session reached the new primary after %v", waitFor(t, "35000", "n2", 2*time.Second))
}

// TestCrashedServerIsLeftAtOnce: connections are refused, while /primary is still 200.
func TestCrashedServerIsLeftAtOnce(t *testing.T) {
	nodes := startCluster(t)
	nodes[0].crash()
	conn, _, err := ask("35000")
	if err == nil {
		t.Error("a session on a crashed node")
	}
	if conn != nil {
		conn.Close()
	}
	nodes[0].set("/primary", false)
	nodes[1].set("/primary", true)
	t.Logf("crashed: a new session reached the new primary after %v", waitFor(t, "35000", "n2", 2*time.Second))
}

// TestReadsFallBackToThePrimary: standbys first, the primary when there is none, and their sessions are not cut for lag.
func TestReadsFallBackToThePrimary(t *testing.T) {
	nodes := startCluster(t)
	nodes[2].set("/replica", false)
	waitFor(t, "35001", "n2", 5*time.Second)
	conn, name, err := ask("35001")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nodes[1].set("/replica", false)
	t.Logf("no standby left: reads reached the primary after %v", waitFor(t, "35001", "n1", 5*time.Second))
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		t.Fatal(err)
	}
	if again, err := bufio.NewReader(conn).ReadString('\n'); err != nil || strings.TrimSpace(again) != name {
		t.Errorf("a running read session of a standby that lags: got %q, %v; want %s", again, err, name)
	}
	nodes[1].set("/replica", true)
	t.Logf("standby back: reads reached it after %v", waitFor(t, "35001", "n2", 5*time.Second))
}

// TestSampleIsValid: HAProxy itself accepts the file as it is.
func TestSampleIsValid(t *testing.T) {
	out, err := exec.Command("haproxy", "-c", "-f", "haproxy.cfg").CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
}
