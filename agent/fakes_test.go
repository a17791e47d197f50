package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pgquorum/cluster"
)

// fakeClock is the bubble's time. It moves by a nanosecond at each reading, so that no two moments are the same: a look
// that began after another is known to.
type fakeClock struct {
	begin time.Time
	reads atomic.Int64
}

func (c *fakeClock) now() cluster.Instant {
	return cluster.Instant(time.Hour) + cluster.Instant(time.Since(c.begin)) + cluster.Instant(c.reads.Add(1))
}

// fakeCalls is the book of all that the fakes were asked to do, in order, each as "node call arguments". A hook on
// "node call" runs before the call does its work, and its error is the call's.
type fakeCalls struct {
	mu    sync.Mutex
	list  []string
	hooks map[string]func(context.Context) error
}

func (c *fakeCalls) call(ctx context.Context, node cluster.NodeID, name string, args ...any) error {
	line := string(node) + " " + name
	for _, a := range args {
		line += fmt.Sprintf(" %v", a)
	}
	c.mu.Lock()
	c.list = append(c.list, line)
	c.mu.Unlock()
	return c.peek(ctx, node, name)
}

// peek runs the hook of a call that is not worth a line.
func (c *fakeCalls) peek(ctx context.Context, node cluster.NodeID, name string) error {
	c.mu.Lock()
	hook := c.hooks[string(node)+" "+name]
	c.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

func (c *fakeCalls) hook(call string, f func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooks[call] = f
}

var errFake = errors.New("the fake was told to fail")

func (c *fakeCalls) fail(call string) {
	c.hook(call, func(context.Context) error { return errFake })
}

// block makes a call wait until it is released or its caller gives up.
func (c *fakeCalls) block(call string) (release func()) {
	gate := make(chan struct{})
	c.hook(call, func(ctx context.Context) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return sync.OnceFunc(func() { close(gate) })
}

// all gives the lines that begin so.
func (c *fakeCalls) all(prefix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, l := range c.list {
		if strings.HasPrefix(l, prefix) {
			lines = append(lines, l)
		}
	}
	return lines
}

func (c *fakeCalls) count(prefix string) int { return len(c.all(prefix)) }

// ordered says whether lines that begin so came in this order.
func (c *fakeCalls) ordered(prefixes ...string) bool {
	for _, l := range c.all("") {
		if len(prefixes) > 0 && strings.HasPrefix(l, prefixes[0]) {
			prefixes = prefixes[1:]
		}
	}
	return len(prefixes) == 0
}

func (c *fakeCalls) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
}

// fakeNetwork joins the nodes by pipes. A node may be dead (calls fail at once) or hung (they are never answered).
type fakeNetwork struct {
	mu        sync.Mutex
	listeners map[cluster.NodeID]*fakeListener
	state     map[cluster.NodeID]string
	open      map[cluster.NodeID][]net.Conn
}

const (
	netDead = "dead"
	netHung = "hung"
)

// set changes how a node is reached; the connections that there are end.
func (n *fakeNetwork) set(node cluster.NodeID, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state[node] = state
	for _, c := range n.open[node] {
		c.Close()
	}
	n.open[node] = nil
}

func (n *fakeNetwork) dial(to cluster.NodeID) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil || n.state[to] == netDead {
		return nil, fmt.Errorf("no way to %s", to)
	}
	near, far := net.Pipe()
	n.open[to] = append(n.open[to], near, far)
	if n.state[to] != netHung {
		select {
		case l.conns <- far:
		default:
			return nil, fmt.Errorf("%s accepts too slowly", to)
		}
	}
	return near, nil
}

func (n *fakeNetwork) close() {
	for _, node := range []cluster.NodeID{"n1", "n2", "n3"} {
		n.set(node, netDead)
	}
}

// fakeListener is the peer side of one node's listener.
type fakeListener struct {
	conns chan net.Conn
	ended chan struct{}
	end   func()
}

func newFakeListener() *fakeListener {
	l := &fakeListener{conns: make(chan net.Conn, 16), ended: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.ended) })
	return l
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}
func (l *fakeListener) Close() error   { l.end(); return nil }
func (l *fakeListener) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "unix"} }

// fakeConsensus is one node's side of Raft. What is common to all nodes stands in fakeCluster.
type fakeConsensus struct {
	self cluster.NodeID
	c    *fakeCluster
}

func (f *fakeConsensus) View() *cluster.View { return f.c.current() }

func (f *fakeConsensus) Status() cluster.RaftStatus {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	s := cluster.RaftStatus{State: cluster.RaftFollower, Term: f.c.term, Leader: f.c.leader, Voters: f.c.voters, Nonvoters: f.c.nonvoters, Recalled: !f.c.behind}
	if f.c.leader == f.self {
		s.State, s.TransferStuck = cluster.RaftLeader, f.c.stuck
	}
	return s
}

func (f *fakeConsensus) Configs() [][]cluster.NodeID {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return [][]cluster.NodeID{f.c.voters}
}

func (f *fakeConsensus) Barrier(ctx context.Context) (uint64, error) {
	err := f.c.calls.call(ctx, f.self, "Barrier")
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.barrier = f.c.term
	return f.c.term, err
}

func (f *fakeConsensus) Heard(n cluster.NodeID) bool {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.heard[n]
}

func (f *fakeConsensus) BarrierTerm() uint64 {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.barrier
}

// Apply changes the view by the command's closure in fakeCluster.rules.
func (f *fakeConsensus) Apply(ctx context.Context, cmd cluster.Command) (any, error) {
	if err := f.c.calls.call(ctx, f.self, "Apply "+cmd.Kind()); err != nil {
		return nil, err
	}
	if f.Status().State != cluster.RaftLeader {
		return nil, errors.New("not the leader")
	}
	f.c.mu.Lock()
	f.c.applied = append(f.c.applied, cmd)
	f.c.mu.Unlock()
	var result any
	if change := fakeFSM[cmd.Kind()]; change != nil {
		f.c.edit(func(v *cluster.View) { result = change(v, cmd) })
	}
	return result, nil
}

func (f *fakeConsensus) Transfer(ctx context.Context, to cluster.NodeID) error {
	if err := f.c.calls.call(ctx, f.self, "Transfer", to); err != nil {
		return err
	}
	f.c.lead(to)
	return nil
}

func (f *fakeConsensus) Kick(ctx context.Context) error { return f.c.calls.call(ctx, f.self, "Kick") }

func (f *fakeConsensus) LeaseEnd(ttl time.Duration) (uint64, cluster.Instant, bool) {
	s := f.Status()
	return s.Term, f.c.clock.now().Add(ttl), s.State == cluster.RaftLeader
}

func (f *fakeConsensus) Attest(ctx context.Context, holder cluster.NodeID) (cluster.Attest, error) {
	err := f.c.calls.call(ctx, f.self, "Attest", holder)
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return cluster.Attest{Voter: f.self, Holder: holder, RaftTerm: f.c.term, Age: f.c.age}, err
}

func (f *fakeConsensus) Campaign(ctx context.Context) error {
	return f.c.calls.call(ctx, f.self, "Campaign")
}
func (f *fakeConsensus) SetSettledTerm(r uint64) {
	_ = f.c.calls.call(context.Background(), f.self, "SetSettledTerm", r) // it has no outcome
}
func (f *fakeConsensus) SetBeforeChange(func(context.Context) error) {}

func (f *fakeConsensus) Applicants() []cluster.Applicant {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.c.applicants
}

func (f *fakeConsensus) AddNonvoter(ctx context.Context, id cluster.NodeID, addr string) error {
	return f.member(ctx, "AddNonvoter", id, addr, func(c *fakeCluster) { c.nonvoters = append(c.nonvoters, id); c.applicants = nil })
}

func (f *fakeConsensus) AddVoter(ctx context.Context, id cluster.NodeID, addr string) error {
	return f.member(ctx, "AddVoter", id, addr, func(c *fakeCluster) { c.nonvoters, c.voters = nil, append(slices.Clone(c.voters), id) })
}

func (f *fakeConsensus) RemoveServer(ctx context.Context, id cluster.NodeID) error {
	return f.member(ctx, "RemoveServer", id, "", func(c *fakeCluster) {
		c.voters = slices.DeleteFunc(slices.Clone(c.voters), func(n cluster.NodeID) bool { return n == id })
	})
}

// member is one change of the membership.
func (f *fakeConsensus) member(ctx context.Context, what string, id cluster.NodeID, addr string, change func(*fakeCluster)) error {
	if err := f.c.calls.call(ctx, f.self, what, id, addr); err != nil {
		return err
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	change(f.c)
	return nil
}

func (f *fakeConsensus) DialPeer(_ context.Context, to cluster.NodeID) (net.Conn, error) {
	return f.c.net.dial(to)
}
func (f *fakeConsensus) PeerListener() net.Listener          { return f.c.net.listeners[f.self] }
func (f *fakeConsensus) Refusals() map[cluster.NodeID]string { return nil }

// fakeFSM is the replicated state machine, command by command; a kind that is not here changes nothing. What the real
// one refuses a test sets as a failing hook.
var fakeFSM = map[string]func(*cluster.View, cluster.Command) any{
	"readmit": func(v *cluster.View, cmd cluster.Command) any {
		n := v.Nodes[cmd.(cluster.Readmit).Node]
		n.UID, n.RaftAddr = cmd.(cluster.Readmit).UID, cmd.(cluster.Readmit).RaftAddr
		v.Nodes[n.Name] = n
		return nil
	},
	"acquire_leader": func(v *cluster.View, cmd cluster.Command) any {
		c := cmd.(cluster.AcquireLeader)
		k := cluster.LeaderKey{Holder: c.Node, Member: c.Member, Term: c.ExpectTerm + 1, Timeline: v.Key.Timeline, Lease: c.Lease}
		if !c.InPlace {
			k.Timeline = v.Forks.Newest() + 1
			v.Forks[k.Timeline] = cluster.Fork{Timeline: k.Timeline, Parent: c.Parent, Term: k.Term, Node: c.Node}
		}
		v.Key, v.RulesVersion, v.Handbacks = k, v.RulesVersion+1, 0
		v.Rules = append(v.Rules, cluster.SyncRule{ID: v.RulesVersion, Term: k.Term, Primary: c.Member, Timeline: k.Timeline, Standbys: c.Standbys, K: c.K, Mode: c.Mode})
		return k
	},
	"claim": func(v *cluster.View, cmd cluster.Command) any {
		v.Claim = cmd.(cluster.Claim).Node
		return nil
	},
	"set_system_id": func(v *cluster.View, cmd cluster.Command) any {
		v.SystemID = cmd.(cluster.SetSystemID).SystemID
		return nil
	},
	"register": func(v *cluster.View, cmd cluster.Command) any {
		n := cmd.(cluster.Register).Node
		v.Nodes[n.Name] = n
		return nil
	},
	"release_leader": func(v *cluster.View, _ cluster.Command) any { v.Key.Released = true; return nil },
	"count_handback": func(v *cluster.View, _ cluster.Command) any { v.Handbacks++; return nil },
	"record_fork": func(v *cluster.View, cmd cluster.Command) any {
		c := cmd.(cluster.RecordFork)
		f := v.Forks[c.Timeline]
		f.LSN = c.LSN
		v.Forks[c.Timeline] = f
		return nil
	},
	"add_rule": func(v *cluster.View, cmd cluster.Command) any {
		c := cmd.(cluster.AddRule)
		v.RulesVersion++
		v.Rules = append(v.Rules, cluster.SyncRule{ID: v.RulesVersion, Term: c.Term, Primary: v.Key.Member, Timeline: v.Key.Timeline, Standbys: c.Standbys, K: c.K, Mode: c.Mode})
		return nil
	},
	"drop_rules": func(v *cluster.View, _ cluster.Command) any {
		v.Rules, v.RulesVersion = slices.Clone(v.Rules[len(v.Rules)-1:]), v.RulesVersion+1
		return nil
	},
}
