package raftfsm

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

func TestThreeNodesElectApplyAndKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	var index uint64
	w.onLeader("an event", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, event(1))
		index = n.View().Index
		return err
	})
	for _, n := range w.all() {
		eventually(t, "the event on every node", func() bool { return n.View().Index >= index })
		if s := n.Status(); !slices.Equal(s.Voters, []cluster.NodeID{"n1", "n2", "n3"}) || s.Term == 0 {
			t.Errorf("%s: status %+v", n.opt.Self, s)
		}
	}
	before := w.leader().Status().Term
	for _, name := range []cluster.NodeID{"n1", "n2", "n3"} {
		w.shut(name)
	}
	for _, name := range []cluster.NodeID{"n1", "n2", "n3"} {
		w.listen(name)
		w.open(name)
	}
	n := w.leader()
	if s := n.Status(); s.Term <= before {
		t.Errorf("raft term after reopening: want more than %d, have %d", before, s.Term)
	}
	if events := n.View().Events; len(events) == 0 || events[len(events)-1].Detail != "1" {
		t.Errorf("events after reopening: %+v", events)
	}
}

// A new leader has heard who answers in its term, and not who is gone.
func TestHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	gone := w.leader().opt.Self
	w.shut(gone)
	eventually(t, "a leader that hears the other one", func() bool {
		for _, n := range w.all() {
			others := slices.DeleteFunc([]cluster.NodeID{"n1", "n2", "n3"}, func(p cluster.NodeID) bool { return p == gone || p == n.opt.Self })
			if n.Status().State == cluster.RaftLeader && n.Heard(others[0]) {
				return !n.Heard(gone) && !n.Heard(n.opt.Self)
			}
		}
		return false
	})
}

func TestApplyGivesRefusalsAndNotLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	var refused *cluster.Refused
	w.onLeader("a refusal", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, cluster.ReleaseLeader{Node: "n9", Term: 7})
		if errors.As(err, &refused) {
			return nil
		}
		return err
	})
	if refused == nil || refused.Command != "release_leader" {
		t.Fatalf("refusal: %+v", refused)
	}
	eventually(t, "not leader from a follower", func() bool {
		leader := w.leader()
		for _, n := range w.all() {
			if n != leader {
				if _, err := n.Apply(t.Context(), event(1)); errors.Is(err, ErrNotLeader) {
					return true
				}
			}
		}
		return false
	})
}

func TestApplyWithoutQuorumIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Second, nil, "n1", "n2", "n3")
	n := w.leader()
	w.cut(n.opt.Self)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.Apply(ctx, event(1)); !errors.Is(err, ErrUnknown) {
		t.Errorf("apply that was queued and not committed: want ErrUnknown, have %v", err)
	}
	eventually(t, "leadership lost", func() bool { return n.Status().State != cluster.RaftLeader })
	if r := n.BarrierTerm(); r != 0 {
		t.Errorf("barrier term after leadership was lost: want 0, have %d", r)
	}
}

func TestTransferToNamedVoterOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	n := w.leader()
	for _, to := range []cluster.NodeID{n.opt.Self, "n9"} {
		if err := n.Transfer(t.Context(), to); err == nil {
			t.Errorf("transfer to %s: want an error", to)
		}
	}
	var old *Node
	w.onLeader("a transfer", func(ctx context.Context, n *Node) error {
		old = n
		to := cluster.NodeID("n1")
		if n.opt.Self == to {
			to = "n2"
		}
		err := n.Transfer(ctx, to)
		if err != nil {
			t.Logf("transfer: %v", err)
			return ErrNotLeader
		}
		return nil
	})
	eventually(t, "another leads or led", func() bool {
		return old.Status().State != cluster.RaftLeader || old.Status().Term > 1
	})
}

// L9: a follower wins against a living leader, once; a leader never campaigns.
func TestL9Campaign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	leader := w.leader()
	if err := leader.Campaign(t.Context()); !errors.Is(err, ErrIsLeader) && leader.Status().State == cluster.RaftLeader {
		t.Errorf("campaign of the leader: want ErrIsLeader, have %v", err)
	}
	var f *Node
	for _, n := range w.all() {
		if n != leader {
			f = n
		}
	}
	term := f.Status().Term
	if err := f.Campaign(t.Context()); err != nil {
		t.Fatalf("campaign: %v", err)
	}
	eventually(t, "an election by the campaign", func() bool { return f.Status().Term > term })
	w.onLeader("another leader than the one that campaigned", func(ctx context.Context, n *Node) error {
		if n != f {
			return nil
		}
		return errors.Join(n.Transfer(ctx, leader.opt.Self), ErrNotLeader) // who leads then is looked at in the next try
	})
	eventually(t, "the second campaign's answer as a follower", func() bool {
		err := f.Campaign(t.Context())
		if err == nil {
			t.Fatal("a second campaign was let through")
		}
		return errors.Is(err, ErrCampaigned)
	})
}

func TestMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	addr := w.listen("n4")
	w.open("n4")
	refusesUnsettled(t, w.leader(), addr)
	w.onLeader("its uid", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, cluster.Register{Node: cluster.Node{Name: "n4", UID: "uid-n4"}})
		return err
	})
	w.onLeader("a fourth voter", func(ctx context.Context, n *Node) error { return n.AddVoter(ctx, "n4", addr) })
	want := []cluster.NodeID{"n1", "n2", "n3", "n4"}
	for _, n := range w.all() {
		eventually(t, "four voters everywhere", func() bool {
			sets := n.Configs()
			return len(sets) == 1 && slices.Equal(sets[0], want)
		})
	}
	w.onLeader("a leader other than n4", func(ctx context.Context, n *Node) error {
		if n.opt.Self == "n4" {
			if err := n.Transfer(ctx, "n1"); err != nil {
				t.Logf("transfer: %v", err)
			}
			return ErrNotLeader
		}
		if n.server("n4") == nil { // an earlier try was committed without our knowing
			return nil
		}
		return n.RemoveServer(ctx, "n4")
	})
	eventually(t, "three voters", func() bool {
		return slices.Equal(w.leader().Status().Voters, []cluster.NodeID{"n1", "n2", "n3"})
	})
}

// refusesUnsettled: no change of the membership before the key is settled (L6). Each of these would be committed at once; with
// one that was, nothing of what follows in its test can be relied on.
func refusesUnsettled(t *testing.T, n *Node, addr string) {
	t.Helper()
	other := cluster.NodeID("n2")
	if n.opt.Self == other {
		other = "n1"
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for what, err := range map[string]error{
		"a voter's address": n.AddVoter(ctx, other, string(n.server(other).Address)),
		"a non-voter":       n.AddNonvoter(ctx, "n4", addr),
		"a removal":         n.RemoveServer(ctx, other),
	} {
		if !errors.Is(err, ErrUnsettled) && !errors.Is(err, ErrNotLeader) {
			t.Fatalf("L6: %s, before the key is settled: want ErrUnsettled, have %v", what, err)
		}
	}
}

// L6: the holder is never removed, and a node that is behind stays without a vote.
func TestL6HolderStaysAndAbsentNodeGetsNoVote(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	w.onLeader("a key", func(ctx context.Context, n *Node) error {
		if n.View().Key.Holder == "n2" {
			return nil
		}
		key := n.fsm.View()
		next := *key
		next.Key = cluster.LeaderKey{Holder: "n2", Term: 1}
		n.fsm.view.Store(&next)
		if err := n.RemoveServer(ctx, "n2"); err == nil || !strings.Contains(err.Error(), "holds the leader key") {
			t.Errorf("removal of the holder: %v", err)
		}
		return nil
	})
	w.onLeader("an absent node", func(ctx context.Context, n *Node) error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := n.AddVoter(short, "n9", "127.0.0.1:1")
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	})
	if s := w.leader().Status(); slices.Contains(s.Voters, "n9") || !slices.Contains(s.Nonvoters, "n9") {
		t.Errorf("absent node: want a non-voter, have %+v", s)
	}
}

// raft issue 717: a heartbeat on a closed store panics.
func TestCloseUnderHeartbeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	for range 3 {
		leader := w.leader()
		for _, n := range w.all() {
			if n != leader {
				name := n.opt.Self
				w.shut(name)
				if _, err := n.Attest(t.Context(), "n1"); !errors.Is(err, ErrClosed) {
					t.Errorf("attest after close: %v", err)
				}
				if _, err := n.Barrier(t.Context()); !errors.Is(err, ErrClosed) {
					t.Errorf("barrier after close: %v", err)
				}
				w.listen(name)
				w.open(name)
				break
			}
		}
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) { // not parallel: it looks at every goroutine of the process
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	leader := w.leader()
	for _, n := range w.all() {
		if n != leader {
			c, err := leader.DialPeer(t.Context(), n.opt.Self)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	w.close()
	eventually(t, "no goroutine left", func() bool {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left := 0
		for _, g := range bytes.Split(buf, []byte("\n\n")) {
			if bytes.Contains(g, []byte("hashicorp/raft")) || bytes.Contains(g, []byte("raftfsm.(*mux)")) ||
				bytes.Contains(g, []byte("raftfsm.(*leaseTransport)")) || bytes.Contains(g, []byte("raftfsm.(*Node)")) {
				left++
			}
		}
		return left == 0
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ok := func() Options {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		w := &world{t: t, heartbeat: testHeartbeat, base: t.TempDir(), dirs: map[cluster.NodeID]string{}, lns: map[cluster.NodeID]net.Listener{"n1": ln}}
		return w.options("n1")
	}
	for _, c := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"no scope", func(o *Options) { o.Scope = "" }, "scope"},
		{"no data dir", func(o *Options) { o.DataDir = "" }, "raft.data_dir"},
		{"members without self", func(o *Options) { o.Members = map[cluster.NodeID]string{"n2": "x:1"} }, "does not name this node"},
		{"no heartbeat", func(o *Options) { o.Heartbeat = 0 }, "heartbeat_timeout"},
		{"a threshold below nothing", func(o *Options) { o.SnapshotThreshold = -1 }, "snapshot threshold"},
		{"no clock", func(o *Options) { o.Clock = nil }, "clock"},
	} {
		opt := ok()
		c.edit(&opt)
		if n, err := Open(t.Context(), opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, have %v", c.name, c.want, err)
			if n != nil {
				n.Close(context.Background())
			}
		}
	}
}
