package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgquorum/cluster"
	"pgquorum/internal/testport"
)

const (
	testHeartbeat = 300 * time.Millisecond
	patience      = 30 * time.Second
)

// world is some nodes in one process over real TCP and real stores, and a network that can be cut.
type world struct {
	t         testing.TB
	heartbeat time.Duration
	members   map[cluster.NodeID]string
	base      string // holds the nodes' directories
	dirs      map[cluster.NodeID]string
	edit      func(*Options)

	mu      sync.Mutex
	nodes   map[cluster.NodeID]*Node
	isolate map[cluster.NodeID]bool
	links   map[net.Conn][2]cluster.NodeID
	lns     map[cluster.NodeID]net.Listener
}

// newWorld opens listeners for the members, then the nodes; edit may change each node's options.
func newWorld(t testing.TB, heartbeat time.Duration, edit func(*Options), names ...cluster.NodeID) *world {
	t.Helper()
	w := &world{
		t: t, heartbeat: heartbeat, edit: edit, base: t.TempDir(), // removed after the clean-up that is entered below
		members: map[cluster.NodeID]string{}, dirs: map[cluster.NodeID]string{},
		nodes: map[cluster.NodeID]*Node{}, isolate: map[cluster.NodeID]bool{},
		links: map[net.Conn][2]cluster.NodeID{}, lns: map[cluster.NodeID]net.Listener{},
	}
	t.Cleanup(w.close)
	for _, name := range names {
		w.listen(name)
		w.members[name] = w.lns[name].Addr().String()
	}
	for _, name := range names {
		w.open(name)
	}
	return w
}

func (w *world) listen(name cluster.NodeID) string {
	w.t.Helper()
	addr := w.members[name]
	if addr == "" {
		addr = fmt.Sprintf("127.0.0.1:%d", testport.Free(w.t))
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lns[name] = ln
	return ln.Addr().String()
}

func (w *world) options(name cluster.NodeID) Options {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirs[name] == "" {
		dir := filepath.Join(w.base, string(name))
		if err := os.Mkdir(dir, 0o700); err != nil {
			w.t.Fatal(err)
		}
		w.dirs[name] = dir
	}
	opt := Options{
		Self: name, UID: cluster.UID("uid-" + name), Scope: "test", Listener: w.lns[name], DataDir: w.dirs[name],
		Heartbeat: w.heartbeat, Clock: cluster.Boottime, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return w.dial(ctx, name, addr) },
	}
	if _, member := w.members[name]; member {
		opt.Members = w.members
	}
	if w.edit != nil {
		w.edit(&opt)
	}
	return opt
}

func (w *world) open(name cluster.NodeID) *Node {
	w.t.Helper()
	n, err := Open(w.t.Context(), w.options(name))
	if err != nil {
		w.t.Fatalf("open %s: %v", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[name] = n
	return n
}

// shut closes a node, so that it can be opened again.
func (w *world) shut(name cluster.NodeID) {
	w.t.Helper()
	w.mu.Lock()
	n := w.nodes[name]
	delete(w.nodes, name)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		w.t.Errorf("close %s: %v", name, err)
	}
}

func (w *world) close() {
	w.mu.Lock()
	names := slices.Collect(maps.Keys(w.nodes))
	w.mu.Unlock()
	for _, name := range names {
		w.shut(name)
	}
}

// nameAt needs w.mu.
func (w *world) nameAt(addr string) cluster.NodeID {
	for name, ln := range w.lns {
		if ln.Addr().String() == addr {
			return name
		}
	}
	return ""
}

func (w *world) dial(ctx context.Context, from cluster.NodeID, addr string) (net.Conn, error) {
	w.mu.Lock()
	to := w.nameAt(addr)
	cut := w.isolate[from] || w.isolate[to]
	w.mu.Unlock()
	if cut {
		return nil, errors.New("network is cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isolate[from] || w.isolate[to] {
		c.Close()
		return nil, errors.New("network is cut")
	}
	w.links[c] = [2]cluster.NodeID{from, to}
	return c, nil
}

// cut takes nodes off the network: every connection of theirs ends, and none can be made.
func (w *world) cut(names ...cluster.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		w.isolate[name] = true
	}
	for c, ends := range w.links {
		if w.isolate[ends[0]] || w.isolate[ends[1]] {
			c.Close()
			delete(w.links, c)
		}
	}
}

// heal puts all nodes back.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isolate = map[cluster.NodeID]bool{}
}

func (w *world) all() []*Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.nodes))
}

// leader waits until a node leads and a Barrier of its is applied.
func (w *world) leader() *Node {
	w.t.Helper()
	var found *Node
	eventually(w.t, "a leader with a barrier", func() bool {
		for _, n := range w.all() {
			if n.Status().State != cluster.RaftLeader {
				continue
			}
			ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
			_, err := n.Barrier(ctx)
			cancel()
			if err == nil && n.BarrierTerm() != 0 {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// onLeader runs f with a settled leader until it succeeds: a loaded machine may change leaders at any moment.
func (w *world) onLeader(what string, f func(ctx context.Context, leader *Node) error) {
	w.t.Helper()
	var last error
	eventually(w.t, what, func() bool {
		n := w.leader()
		n.SetSettledTerm(n.BarrierTerm())
		ctx, cancel := context.WithTimeout(w.t.Context(), patience/2)
		defer cancel()
		last = f(ctx, n)
		if last != nil && !errors.Is(last, ErrNotLeader) && !errors.Is(last, ErrUnknown) && !errors.Is(last, ErrUnsettled) {
			w.t.Fatalf("%s: %v", what, last)
		}
		return last == nil
	})
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func event(id int) cluster.AddEvent {
	return cluster.AddEvent{Event: cluster.Event{Type: "test", Detail: fmt.Sprint(id), Time: "2026-01-01T00:00:00Z"}}
}
