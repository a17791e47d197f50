package raftfsm

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

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
