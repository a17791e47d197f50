package raftfsm

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// L1: the lease moves on while followers answer, and ends by itself once they are cut off.
func TestL1LeaseMovesAndEnds(t *testing.T) {
	t.Parallel()
	var answered atomic.Int64
	w := newWorld(t, testHeartbeat, func(o *Options) { o.OnAnswer = func() { answered.Add(1) } }, "n1", "n2", "n3")
	ttl := cluster.DefaultLease(testHeartbeat).TTL
	var n *Node
	var first cluster.Instant
	eventually(t, "a live lease", func() bool {
		n = w.leader()
		r, end, ok := n.LeaseEnd(ttl)
		first = end
		return ok && r == n.BarrierTerm() && n.opt.Clock().Before(end)
	})
	eventually(t, "the lease to move on", func() bool {
		n = w.leader()
		_, end, ok := n.LeaseEnd(ttl)
		return ok && first.Before(end)
	})
	if answered.Load() == 0 {
		t.Error("OnAnswer was never called")
	}
	for _, f := range w.all() {
		if _, _, ok := f.LeaseEnd(ttl); ok && f != n && f.Status().State != cluster.RaftLeader {
			t.Errorf("%s follows and has a lease", f.opt.Self)
		}
	}
	var others []cluster.NodeID
	for _, f := range w.all() {
		if f != n {
			others = append(others, f.opt.Self)
		}
	}
	w.cut(others...)
	cutAt := n.opt.Clock()
	eventually(t, "the lease to end", func() bool {
		now := n.opt.Clock()
		_, end, ok := n.LeaseEnd(ttl)
		if ok && cutAt.Add(ttl).Before(end) {
			t.Fatalf("lease ends %v after the cut, want at most ttl %v", end.Sub(cutAt), ttl)
		}
		return !ok || end.Before(now)
	})
	if r, end, ok := n.LeaseEnd(ttl); ok && n.opt.Clock().Before(end) {
		t.Errorf("a lease lives without a quorum: raft term %d, %v left", r, end.Sub(n.opt.Clock()))
	}
	w.heal()
	eventually(t, "a lease again", func() bool {
		n = w.leader()
		_, end, ok := n.LeaseEnd(ttl)
		return ok && n.opt.Clock().Before(end)
	})
}

// L1: E is counted from before a heartbeat was sent. A lease counted from the answer would be longer by the delay that

// the followers put before it.
func TestL1CountsFromBeforeSending(t *testing.T) {
	t.Parallel()
	const h, delay = 2 * time.Second, 200 * time.Millisecond
	w := newWorld(t, h, func(o *Options) {
		o.beforeAnswer = func(cluster.NodeID) { <-time.After(delay) } // the delay itself is what is tested
	}, "n1", "n2", "n3")
	ttl := cluster.DefaultLease(h).TTL
	ends := map[cluster.Instant]bool{}
	eventually(t, "a lease seen at five different answers", func() bool {
		n := w.leader()
		_, end, ok := n.LeaseEnd(ttl)
		now := n.opt.Clock()
		if ok {
			ends[end] = true
			if left := end.Sub(now); left > ttl-delay {
				t.Fatalf("lease has %v left, want at most ttl %v less the delay %v of every answer", left, ttl, delay)
			}
		}
		return len(ends) >= 5
	})
}

// L1: answers of another Raft term are dropped, older sends never replace newer ones, and the end of a term is final.
func TestL1AnswersBook(t *testing.T) {
	t.Parallel()
	a := newAnswers()
	for _, step := range []struct {
		r       uint64
		peer    cluster.NodeID
		sent    cluster.Instant
		counted bool
	}{
		{2, "n2", 10, true},
		{2, "n2", 9, true}, // late, counts as an answer but moves nothing
		{1, "n3", 50, false},
		{3, "n3", 20, true},
		{2, "n2", 60, false},
	} {
		if got := a.count(step.r, step.peer, step.sent); got != step.counted {
			t.Errorf("count(%d, %s, %d): want %v, have %v", step.r, step.peer, step.sent, step.counted, got)
		}
	}
	if _, ok := a.of(2); ok {
		t.Error("term 2 still counts after answers of 3")
	}
	if sent, ok := a.of(3); !ok || len(sent) != 1 || sent["n3"] != 20 {
		t.Errorf("of(3): %v, %v", sent, ok)
	}
	if sent, ok := a.of(4); !ok || len(sent) != 0 {
		t.Errorf("of(4), nothing sent yet: %v, %v", sent, ok)
	}
	a.endBelow(4)
	if a.count(3, "n3", 70) {
		t.Error("an answer of 3 counted after counting below 4 had ended")
	}
	if _, ok := a.of(3); ok {
		t.Error("term 3 still counts after counting below 4 had ended")
	}
}

// L1: only a yes to a heartbeat counts, and only in the Raft term in which it was sent.
func TestL1WhichAnswersCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		edit  func(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse)
		count bool
	}{
		{"yes", func(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) {}, true},
		{"no", func(_ *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) { a.Success = false }, false},
		{"higher term", func(_ *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) { a.Term = 8 }, false},
		{"lower term", func(_ *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) { a.Term = 6 }, false},
		{"commit index", func(r *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) { r.LeaderCommitIndex = 1 }, false},
		{"previous entry", func(r *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) { r.PrevLogEntry = 1 }, false},
		{"previous term", func(r *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) { r.PrevLogTerm = 1 }, false},
		{"entries", func(r *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) { r.Entries = []*raft.Log{{}} }, false},
	} {
		told := false
		tr := &leaseTransport{answers: newAnswers(), progress: newProgress(), onAnswer: func() { told = true }}
		args, answer := &raft.AppendEntriesRequest{Term: 7}, &raft.AppendEntriesResponse{Term: 7, Success: true}
		c.edit(args, answer)
		tr.answered("n2", args, answer, 50)
		sent, _ := tr.answers.of(7)
		if counted := sent["n2"] == 50; counted != c.count || told != c.count {
			t.Errorf("%s: want counted %v, have %v, told %v", c.name, c.count, counted, told)
		}
		if !tr.progress.hears("n2", 7) || tr.progress.hears("n2", 8) || tr.progress.hears("n3", 7) {
			t.Errorf("%s: whatever n2 says in term 7, it is heard, in that term", c.name)
		}
	}
}

// L1: the persisted term alone is no leadership: a lone voter that has not been elected yet has no lease.
func TestL1OnlyALeaderHasALease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2*time.Second, nil, "n1")
	ttl := cluster.DefaultLease(2 * time.Second).TTL
	if _, _, ok := w.leader().LeaseEnd(ttl); !ok {
		t.Error("a lone leader has no lease")
	}
	w.shut("n1")
	w.listen("n1")
	n := w.open("n1")
	if _, _, ok := n.LeaseEnd(ttl); ok && n.Status().State != cluster.RaftLeader {
		t.Error("a lone voter has a lease before it leads")
	}
	n = w.leader()
	w.shut("n1")
	if _, _, ok := n.LeaseEnd(ttl); ok {
		t.Error("a closed node has a lease")
	}
}
