package raftfsm

import (
	"context"
	"errors"
	"slices"
	"sync"
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
}

// L1: E is counted from before a heartbeat was sent. A lease counted from the answer would be longer by the delay that
// the followers put before it.
func TestL1CountsFromBeforeSending(t *testing.T) {
	t.Parallel()
	const h, delay = 2 * time.Second, 200 * time.Millisecond
	w := newWorld(t, h, func(o *Options) {
		o.beforeAnswer = func(cluster.NodeID) { time.Sleep(delay) } // the delay itself is what is tested
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

// spyStore is a StableStore in memory whose writes of the term can be watched.
type spyStore struct {
	*raft.InmemStore
	onTerm func(uint64)
}

func (s *spyStore) SetUint64(key []byte, v uint64) error {
	if string(key) == string(keyTerm) {
		s.onTerm(v)
	}
	return s.InmemStore.SetUint64(key, v)
}

// spiedStable has the terms 1 to first persisted.
func spiedStable(t *testing.T, first uint64, onTerm func(uint64)) (*stableStore, *answers) {
	t.Helper()
	spy := &spyStore{InmemStore: raft.NewInmemStore(), onTerm: func(uint64) {}}
	if err := spy.SetUint64(keyTerm, first); err != nil {
		t.Fatal(err)
	}
	spy.onTerm = onTerm
	a := newAnswers()
	s, err := newStableStore(spy, a)
	if err != nil {
		t.Fatal(err)
	}
	return s, a
}

// L1: when a higher term reaches the disk, nothing of the lower one counts any more.
func TestL1CountingEndsBeforeHigherTermIsPersisted(t *testing.T) {
	t.Parallel()
	var s *stableStore
	var a *answers
	wrote := false
	s, a = spiedStable(t, 3, func(v uint64) {
		wrote = true
		if a.count(3, "n2", 10) {
			t.Error("an answer of 3 counted while 4 was being written")
		}
		if _, ok := a.of(3); ok {
			t.Error("answers of 3 could be read while 4 was being written")
		}
		if s.Term() != 3 {
			t.Errorf("persisted term is given as %d before 4 is written", s.Term())
		}
	})
	if !a.count(3, "n2", 5) {
		t.Error("an answer of the persisted term did not count")
	}
	if err := s.SetUint64(keyTerm, 4); err != nil || !wrote || s.Term() != 4 {
		t.Errorf("after the write: err %v, written %v, term %d", err, wrote, s.Term())
	}
}

// K1, K5: the persisted term never goes down, whatever Raft asks for.
func TestK1PersistedTermNeverFalls(t *testing.T) {
	t.Parallel()
	s, _ := spiedStable(t, 5, func(v uint64) {
		if v < 5 {
			t.Errorf("term %d written over 5", v)
		}
	})
	if err := s.SetUint64(keyTerm, 4); err != nil || s.Term() != 5 {
		t.Errorf("after a lower term: err %v, term %d", err, s.Term())
	}
	if s.handle(4, func() { t.Error("a heartbeat below the persisted term reached Raft") }) {
		t.Error("a heartbeat below the persisted term was taken")
	}
}

// K1: Raft's main loop does not raise the term while a heartbeat of the present one is in Raft's handler, which may
// write that term itself.
func TestK1HeartbeatAndTermChangeTakeTurns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []uint64
	s, _ := spiedStable(t, 3, func(v uint64) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, v)
	})
	raised := make(chan error, 1)
	took := s.handle(3, func() {
		go func() { raised <- s.SetUint64(keyTerm, 4) }()
		select {
		case err := <-raised:
			raised <- err
			t.Error("the term was raised while a heartbeat was in handling")
		case <-time.After(50 * time.Millisecond):
		}
		if err := s.SetUint64(keyTerm, 3); err != nil { // what raft's appendEntries does as a candidate
			t.Error(err)
		}
	})
	if err := <-raised; err != nil || !took {
		t.Fatalf("raise: %v, handled: %v", err, took)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order, []uint64{3, 4}) || s.Term() != 4 {
		t.Errorf("terms written: %v, persisted %d", order, s.Term())
	}
}

// L3: a follower's age of its leader stays small, and grows once the leader is cut off. After a restart it is "just now".
func TestL3AttestAges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	n := w.leader()
	var f *Node
	for _, other := range w.all() {
		if other != n {
			f = other
		}
	}
	eventually(t, "a young attest in the leader's term", func() bool {
		a, err := f.Attest(t.Context(), n.opt.Self)
		return err == nil && a.Voter == f.opt.Self && a.Holder == n.opt.Self && a.RaftTerm == f.Status().Term && a.Age < testHeartbeat
	})
	w.cut(n.opt.Self)
	wait := cluster.DefaultLease(testHeartbeat).Wait()
	eventually(t, "an attest as old as W", func() bool {
		a, err := f.Attest(t.Context(), n.opt.Self)
		return err == nil && a.Age >= wait
	})
	name := f.opt.Self
	w.shut(name)
	w.listen(name)
	opened := f.opt.Clock()
	f = w.open(name)
	if a, err := f.Attest(t.Context(), n.opt.Self); err != nil || a.Age > f.opt.Clock().Sub(opened) {
		t.Errorf("attest after a restart: %+v, %v: want an age from the start of the process", a, err)
	}
}

// L3: a follower's stamp is never older than the sending that the leader counts: else an attest could say "W ago" while
// the lease lives.
func TestL3StampIsNotBeforeTheCountedSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	compared := 0
	eventually(t, "some comparisons", func() bool {
		n := w.leader()
		sent, _ := n.answers.of(n.BarrierTerm())
		for _, f := range w.all() {
			if at, ok := sent[f.opt.Self]; ok {
				f.acks.mu.Lock()
				stamp := f.acks.last[n.opt.Self]
				f.acks.mu.Unlock()
				compared++
				if stamp.Before(at) {
					t.Fatalf("%s stamped %v before the counted send", f.opt.Self, at.Sub(stamp))
				}
			}
		}
		return compared > 50
	})
}

// K5: an attest waits for the heartbeats that were in handling when it was asked for, and reads the record after.
func TestK5AttestWaitsForHeartbeatInHandling(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(1000)
	a := newAcks(func() cluster.Instant { return cluster.Instant(now.Load()) })
	n := &Node{opt: Options{Self: "n2"}, acks: a, ending: make(chan struct{})}
	n.stable, _ = spiedStable(t, 7, func(uint64) {})
	end, _ := a.begin()
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := n.Attest(short, "n1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("attest beside a heartbeat in handling: want it to wait, have %v", err)
	}
	got := make(chan cluster.Attest, 1)
	go func() {
		att, err := n.Attest(t.Context(), "n1")
		if err != nil {
			t.Error(err)
		}
		got <- att
	}()
	now.Store(5000)
	a.stamp("n1")
	now.Store(5400)
	end()
	if att := <-got; att.Age != 400 || att.RaftTerm != 7 {
		t.Errorf("attest: want age 400 at raft term 7, have %+v", att)
	}
	if _, ok := a.begin(); !ok {
		t.Error("a heartbeat was not let in before stop")
	}
	if err := a.stop(short); err == nil {
		t.Error("stop did not wait for the heartbeat in handling")
	}
	if _, ok := a.begin(); ok {
		t.Error("a heartbeat was let in after stop")
	}
}

// L3, K1: the transport stamps a yes on both paths, a no on none, and refuses a heartbeat below the persisted term
// without asking Raft.
func TestL3ReceiverStampsOnBothPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"fast", "slow"} {
		for _, c := range []struct {
			name    string
			term    uint64
			success bool
			stamped bool
		}{{"yes", 7, true, true}, {"no", 7, false, false}, {"older term", 6, true, false}} {
			var now atomic.Int64
			now.Store(100)
			clock := func() cluster.Instant { return cluster.Instant(now.Load()) }
			tr := &leaseTransport{acks: newAcks(clock), before: func(cluster.NodeID) { now.Store(900) }, rpcs: make(chan raft.RPC, 1), ending: make(chan struct{})}
			tr.stable, _ = spiedStable(t, 7, func(uint64) {})
			reply := make(chan raft.RPCResponse, 1)
			args := &raft.AppendEntriesRequest{Term: c.term, RPCHeader: raft.RPCHeader{ID: []byte("n1")}}
			rpc := raft.RPC{Command: args, RespChan: reply}
			respond := func(r raft.RPC) { r.Respond(&raft.AppendEntriesResponse{Term: 7, Success: c.success}, nil) }
			if path == "fast" {
				tr.heartbeat(rpc, respond)
			} else {
				tr.passHeartbeat(args, rpc)
				if c.term == 7 {
					respond(<-tr.rpcs)
				}
			}
			got := (<-reply).Response.(*raft.AppendEntriesResponse)
			if got.Success != c.stamped || got.Term != 7 {
				t.Errorf("%s, %s: answer %+v", path, c.name, got)
			}
			if stamped := tr.acks.last["n1"] == 900; stamped != c.stamped {
				t.Errorf("%s, %s: stamped %v at %d", path, c.name, stamped, tr.acks.last["n1"])
			}
			tr.pump.Wait()
			if len(tr.acks.busy) != 0 {
				t.Errorf("%s, %s: still in handling", path, c.name)
			}
		}
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
