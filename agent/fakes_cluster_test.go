package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/cluster"
)

// fakeCluster is three nodes that share one state machine and a network: n1 holds the key of term 3 on timeline 2 under a
// rule of one confirmation by n2 or n3, and leads Raft. Their agents' parts are started one by one, as a test needs them.
type fakeCluster struct {
	t      *testing.T
	clock  *fakeClock
	calls  *fakeCalls
	net    *fakeNetwork
	nodes  map[cluster.NodeID]*fakeNode
	voters []cluster.NodeID
	wg     sync.WaitGroup
	life   context.Context

	mu      sync.Mutex
	view    *cluster.View
	leader  cluster.NodeID
	term    uint64 // Raft's
	barrier uint64
	age     time.Duration // that every voter attests
	behind  bool          // the state is from before
	stuck   time.Duration // for which the leader has refused every proposal
	heard   map[cluster.NodeID]bool
	applied []cluster.Command

	nonvoters  []cluster.NodeID
	applicants []cluster.Applicant
}

// fakeNode is one node: a real Agent between fakes.
type fakeNode struct {
	*Agent
	guard *fakeLocalGuard
	pg    *fakePostgres
}

// inBubble runs a test with three nodes on a bubble's time, which passes only while everybody waits.
func inBubble(t *testing.T, test func(t *testing.T, c *fakeCluster)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		life, end := context.WithCancel(t.Context())
		c.life = life
		defer c.wg.Wait()
		defer c.net.close()
		defer end()
		for _, n := range c.nodes {
			c.start(func() { n.watch.run(life) })
			c.start(func() { _ = n.servePeers(life) })
		}
		synctest.Wait()
		test(t, c)
	})
}

// start runs a part of an agent until the test ends.
func (c *fakeCluster) start(f func()) { c.wg.Go(f) }

func newFakeCluster(t *testing.T) *fakeCluster {
	c := &fakeCluster{
		t: t, clock: &fakeClock{begin: time.Now()},
		calls:  &fakeCalls{hooks: map[string]func(context.Context) error{}},
		net:    &fakeNetwork{listeners: map[cluster.NodeID]*fakeListener{}, state: map[cluster.NodeID]string{}, open: map[cluster.NodeID][]net.Conn{}},
		nodes:  map[cluster.NodeID]*fakeNode{},
		voters: []cluster.NodeID{"n1", "n2", "n3"},
		view:   fakeView(), leader: "n1", term: 7, barrier: 7,
	}
	for _, id := range c.voters {
		c.net.listeners[id] = newFakeListener()
		c.add(id)
	}
	return c
}

const fakeHeartbeat = time.Second

func (c *fakeCluster) add(id cluster.NodeID) {
	p := &fakePostgres{self: id, calls: c.calls, st: fakeStatus(id), pos: cluster.Position{Timeline: 2, LSN: 1000}, promised: 3, end: 1000}
	g := &fakeLocalGuard{self: id, calls: c.calls, pg: p, events: make(chan GuardEvent, 1)}
	registered := c.view.Nodes[id]
	registered.Incarnation = ""
	c.nodes[id] = &fakeNode{guard: g, pg: p, Agent: New(Options{
		Self: id, Node: registered, Members: c.voters, Heartbeat: fakeHeartbeat, Lease: c.view.Key.Lease, UseRewind: true,
		Raft: &fakeConsensus{self: id, c: c}, Guard: g, Postgres: p, Clock: c.clock.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})}
}

func member(id cluster.NodeID) cluster.Member {
	return cluster.Member{Node: id, Incarnation: cluster.Incarnation(id + "life")}
}

func fakeView() *cluster.View {
	v := &cluster.View{
		SystemID: "7000", ClusterID: "c", Claim: "n1", Nodes: map[cluster.NodeID]cluster.Node{}, RulesVersion: 9,
		Key:   cluster.LeaderKey{Holder: "n1", Member: member("n1"), Term: 3, Timeline: 2, Lease: cluster.DefaultLease(fakeHeartbeat)},
		Forks: cluster.Forks{1: {Timeline: 1, Term: 1, Node: "n1"}, 2: {Timeline: 2, Parent: 1, LSN: 500, Term: 3, Node: "n1"}},
		Rules: []cluster.SyncRule{{ID: 4, Term: 3, Primary: member("n1"), Timeline: 2, Standbys: []cluster.Member{member("n2"), member("n3")}, K: 1, Mode: cluster.SyncQuorum}},
		Config: cluster.Dynamic{SynchronousMode: cluster.SyncQuorum, SynchronousNodeCount: 1,
			PrimaryStartTimeout: time.Minute, PrimaryStopTimeout: time.Minute},
	}
	for _, id := range []cluster.NodeID{"n1", "n2", "n3"} {
		v.Nodes[id] = cluster.Node{Name: id, UID: cluster.UID(id), Incarnation: member(id).Incarnation, PostgresAddr: string(id) + ":5432"}
	}
	return v
}

func fakeStatus(id cluster.NodeID) cluster.PostgresStatus {
	p := cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", Incarnation: member(id).Incarnation,
		State: cluster.PostgresRunning, StartTime: "run 0", Timeline: 2}
	if id != "n1" {
		p.Role, p.Streaming, p.Received, p.Replayed, p.Source, p.SourceTerm, p.SourceTimeline = cluster.RoleStandby, true, 1000, 1000, "n1", 3, 2
		return p
	}
	p.Role, p.Current = cluster.RolePrimary, 1000
	for _, s := range []cluster.NodeID{"n2", "n3"} {
		p.Replication = append(p.Replication, cluster.WalSender{AppName: member(s).AppName(2), State: "streaming", Flushed: 1000})
	}
	return p
}

func (c *fakeCluster) current() *cluster.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// edit makes the next view, as a committed command does, and tells the nodes.
func (c *fakeCluster) edit(f func(*cluster.View)) {
	c.mu.Lock()
	v := *c.view
	v.Nodes, v.Forks, v.Refusals = copyMap(v.Nodes), copyMap(v.Forks), copyMap(v.Refusals)
	v.Rules = slices.Clone(v.Rules)
	f(&v)
	v.Index++
	c.view = &v
	c.mu.Unlock()
	c.changed()
}

// lead makes a node leader of a new Raft term, and past its Barrier.
func (c *fakeCluster) lead(id cluster.NodeID) {
	c.mu.Lock()
	c.barrier = c.term + 1
	c.mu.Unlock()
	c.elect(id)
}

// elect makes a node leader of a new Raft term that has still to pass its Barrier.
func (c *fakeCluster) elect(id cluster.NodeID) {
	c.mu.Lock()
	c.leader, c.term = id, c.term+1
	c.mu.Unlock()
	c.changed()
}

func (c *fakeCluster) changed() {
	for _, n := range c.nodes {
		n.Changed()
	}
}

// commands gives what was applied, by kind.
func (c *fakeCluster) commands(kind string) (found []cluster.Command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range c.applied {
		if cmd.Kind() == kind {
			found = append(found, cmd)
		}
	}
	return found
}

// set changes a node's Postgres and lets its agent see it.
func (c *fakeCluster) set(id cluster.NodeID, f func(*cluster.PostgresStatus)) {
	c.nodes[id].pg.edit(f)
	c.nodes[id].watch.refresh(c.life)
}

// failed makes n2 the leader of Raft term 8 after n1 has died, its lease long over.
func (c *fakeCluster) failed() *fakeNode {
	c.net.set("n1", netDead)
	c.age = time.Hour
	c.lead("n2")
	synctest.Wait()
	return c.nodes["n2"]
}

// background runs f beside the test and gives its outcome.
func background(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	synctest.Wait()
	return done
}

// outcome waits for what was begun in the background, a minute at most.
func outcome(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("still running after a minute")
	}
	return nil
}

// pending says that nothing has come yet; time has not moved.
func pending(done <-chan error) bool {
	synctest.Wait()
	return len(done) == 0
}

// pass lets a bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
