package raftfsm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// givenTo is an entry that gives n2's name away.
func givenTo(t *testing.T, index uint64, from, to cluster.UID) *raft.Log {
	t.Helper()
	data, err := encodeCommand(cluster.Readmit{Node: "n2", From: from, UID: to})
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data}
}

// identified gives the cluster an id and registers its nodes.
func (p *prepared) identified() {
	p.t.Helper()
	p.onLeader("the cluster's id", func(ctx context.Context, leader *Node) error {
		_, err := leader.Apply(ctx, cluster.Claim{Node: leader.opt.Self, ClusterID: "c1", Config: testConfig()})
		return err
	})
	p.register()
}

// After a start the state machine is empty, and the log may hold more than one entry about a name: those before the state in
// which the bearer was seen do not bar it.
func TestNameGivenAwayTwiceAfterAStart(t *testing.T) {
	t.Parallel()
	n := single(t)
	go acceptAll(n.PeerListener())
	known(n, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-c"})
	v := *n.fsm.View()
	v.Index = 61
	n.fsm.view.Store(&v)
	if err := n.place.learn(&v); err != nil {
		t.Fatal(err)
	}
	n.fsm.view.Store(&cluster.View{})
	n.mux.names.note(givenTo(t, 30, "uid-a", "uid-b"))
	n.mux.names.note(givenTo(t, 60, "uid-b", "uid-c"))
	for uid, welcome := range map[cluster.UID]bool{"uid-a": false, "uid-b": false, "uid-c": true} {
		if _, a := greetWith(t, n, hello{Proto: helloProto, Scope: "test", ClusterID: "c1", Node: "n2", UID: uid, Kind: kindPeer}); a.OK != welcome {
			t.Errorf("%s: answer %+v", uid, a)
		}
	}
}

// The same in a whole cluster: n3 is replaced twice, all nodes stop, and n1 and n3 alone must find each other.
func TestReplacedTwiceThenAllRestart(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.identified()
	for range 2 {
		p.stop("n3")
		p.wipe("n3", false)
		p.start("n3")
		uid := p.nodes["n3"].opt.UID
		eventually(t, "the leader knows of it", func() bool {
			return slices.ContainsFunc(p.leader().Applicants(), func(a cluster.Applicant) bool { return a.UID == uid })
		})
		p.onLeader("n3 is taken in", func(ctx context.Context, leader *Node) error {
			return takeIn(ctx, leader, cluster.Applicant{Node: "n3", UID: uid, RaftAddr: p.members["n3"]})
		})
		eventually(t, "all know its uid", func() bool {
			return !slices.ContainsFunc(p.all(), func(n *Node) bool { return n.View().Nodes["n3"].UID != uid })
		})
	}
	p.stop("n1", "n2", "n3")
	p.start("n1", "n3")
	p.leader()
}

// An entry that only one node has stored gives nothing away: when the bearer leads without it, that node follows.
func TestStoredAloneBarsNoLeader(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.identified()
	old := p.leader()
	keeps := p.nodes["n1"]
	if keeps == old {
		keeps = p.nodes["n2"]
	}
	name := keeps.opt.Self
	eventually(t, "it is registered everywhere", func() bool {
		return keeps.View().Nodes[name].UID == keeps.opt.UID && old.View().Nodes[name].UID == keeps.opt.UID
	})
	data, err := encodeCommand(cluster.Readmit{Node: name, From: keeps.opt.UID, UID: "uid-other", RaftAddr: "x"})
	if err != nil {
		t.Fatal(err)
	}
	p.cut(old.opt.Self)
	old.raft.RemoveServer(raft.ServerID(name), 0, time.Second)
	if old.raft.Apply(data, time.Second).Error() == nil {
		t.Fatal("committed without a quorum")
	}
	if !old.mux.names.bars(name, keeps.opt.UID, old.View().Index) {
		t.Fatal("the entry is not stored: nothing is shown")
	}
	lead := func() bool {
		l := p.leader()
		if l == keeps {
			return true
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := l.Transfer(ctx, name)
		return err == nil && keeps.Status().State == cluster.RaftLeader
	}
	eventually(t, "the one that keeps its name leads", lead)
	p.heal()
	var last uint64
	eventually(t, "it leads with a quorum", func() bool {
		if !lead() {
			return false
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := keeps.Apply(ctx, event(1))
		last = keeps.View().Index
		return err == nil
	})
	eventually(t, "the other one follows it", func() bool {
		return old.View().Index >= last && old.Status().Leader == keeps.Status().Leader
	})
}

// What a peer answered before its name was given away counts as nobody's.
func TestL1FormerBearersAnswersAreForgotten(t *testing.T) {
	t.Parallel()
	n := single(t)
	n.answers.count(5, "n2", cluster.Boottime())
	n.answers.count(5, "n3", cluster.Boottime())
	n.progress.note("n2", 5, 70)
	n.mux.names.note(givenTo(t, 40, "uid-a", "uid-b"))
	sent, _ := n.answers.of(5)
	if _, counts := sent["n2"]; counts || len(sent) != 1 {
		t.Errorf("answers %v", sent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := n.progress.wait(ctx, "n2", 5, 70); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its log still counts as caught up: %v", err)
	}
}
