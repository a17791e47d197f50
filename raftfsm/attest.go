package raftfsm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pgquorum/cluster"
)

// Attest states how long ago this node last acknowledged a heartbeat of holder (L3), in the order that K5 asks for: the
// persisted Raft term is read, then the heartbeats already in handling are waited for, then the record is read. So
// every heartbeat of an older Raft term is either in the answer or will be refused. A holder that this process never
// acknowledged counts from the process's start, and this node itself from now. It fails when ctx ends first.
func (n *Node) Attest(ctx context.Context, holder cluster.NodeID) (cluster.Attest, error) {
	if n.closed() {
		return cluster.Attest{}, ErrClosed
	}
	a := cluster.Attest{Voter: n.opt.Self, Holder: holder, RaftTerm: n.stable.Term()}
	if err := n.acks.wait(ctx); err != nil {
		return cluster.Attest{}, fmt.Errorf("attest for %s: a heartbeat in handling did not end: %w", holder, err)
	}
	if holder != n.opt.Self {
		a.Age = n.acks.age(holder)
	}
	return a, nil
}

// acks is the receiver's record: when this node last acknowledged a heartbeat of each sender (L3), and which
// heartbeats are in handling now.
type acks struct {
	clock  cluster.Clock
	opened cluster.Instant // before any stamp of this process, age counts from here

	mu     sync.Mutex
	last   map[cluster.NodeID]cluster.Instant
	next   uint64
	busy   map[uint64]chan struct{} // heartbeats in handling
	closed bool
}

func newAcks(clock cluster.Clock) *acks {
	return &acks{
		clock:  clock,
		opened: clock(),
		last:   map[cluster.NodeID]cluster.Instant{},
		busy:   map[uint64]chan struct{}{},
	}
}

// begin enters a heartbeat into handling; end must be called once its answer was stamped or it was dropped. ok is
// false after stop: the heartbeat must not be handled.
func (a *acks) begin() (end func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, false
	}
	id, done := a.next, make(chan struct{})
	a.next++
	a.busy[id] = done
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, id)
		close(done)
	}, true
}

// stamp records that sender is being acknowledged now.
func (a *acks) stamp(sender cluster.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[sender] = a.clock()
}

// age is the time since sender was last acknowledged, or since this process opened Raft.
func (a *acks) age(sender cluster.NodeID) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	return max(0, now.Sub(max(a.opened, a.last[sender])))
}

// wait returns when every heartbeat that was in handling at the call has ended, or with ctx's error.
func (a *acks) wait(ctx context.Context) error {
	a.mu.Lock()
	busy := make([]chan struct{}, 0, len(a.busy))
	for _, done := range a.busy {
		busy = append(busy, done)
	}
	a.mu.Unlock()
	for _, done := range busy {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stop lets no further heartbeat in and waits for those in handling: Raft panics on a heartbeat whose store is closed.
func (a *acks) stop(ctx context.Context) error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	return a.wait(ctx)
}
