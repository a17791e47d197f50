package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// leaseGrain: the guard is told of an end that is later by this part of the lease or more; an end that is earlier (L6), at once.
const leaseGrain = 16

// keeper carries the lease from Raft's answers to the guard. It runs apart from the loop: nothing that the loop does
// may delay it. It decides nothing: L1 gives the end, L2 says when answers count, the guard has the last word.
type keeper struct {
	self  cluster.NodeID
	raft  Consensus
	guard Guard
	clock cluster.Clock
	log   *slog.Logger
	wake  func() // the loop: the state changed

	poke chan struct{}
	turn chan struct{} // full while an end is counted and given to the guard: what was counted before goes before

	mu    sync.Mutex
	state decide.LeaseState
	lease cluster.Lease   // Term: held or being acquired; End: newest E
	since cluster.Instant // answers to heartbeats sent before this do not count (L2)
	over  cluster.Term    // leases of this term and below have ended for good (L2, G1)
	lapse decide.Lapse    // the last live lease that ended by itself
}

func newKeeper(self cluster.NodeID, raft Consensus, guard Guard, clock cluster.Clock, log *slog.Logger, wake func()) *keeper {
	return &keeper{self: self, raft: raft, guard: guard, clock: clock, log: log, wake: wake, poke: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// answered is called for each counted heartbeat answer, and whenever something may have changed. It does not block.
func (k *keeper) answered() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// run renews until ctx ends. The timer catches the fence point when no answer comes any more.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.poke:
		case <-timer.C:
		}
		k.renew(ctx)
		timer.Reset(k.untilNext())
	}
}

// acquired starts the lease of a term that this node has just committed in Raft term r (L2). Answers count from now on.
func (k *keeper) acquired(term cluster.Term, r uint64) {
	k.mu.Lock()
	k.state, k.lease, k.since = decide.LeaseFresh, cluster.Lease{Term: term, RaftTerm: r}, k.clock()
	k.over = max(k.over, term-1)
	k.mu.Unlock()
	k.answered()
}

// continues takes up the lease that a guard still holds for a restarted agent (L9). L2 applies to what renews it.
func (k *keeper) continues(term cluster.Term, end cluster.Instant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.lease, k.since = decide.LeaseLive, cluster.Lease{Term: term, End: end}, 0
}

// end gives the lease up, for good.
func (k *keeper) end(term cluster.Term) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = max(k.over, term)
	if k.lease.Term <= term {
		k.state, k.lease = decide.LeaseNone, cluster.Lease{}
	}
}

// current gives the lease and its state.
func (k *keeper) current() (cluster.Lease, decide.LeaseState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease, k.state
}

// lapsed gives the last live lease that ended by itself.
func (k *keeper) lapsed() decide.Lapse {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lapse
}

// take waits for the turn. Who has it may wait for the guard, for a lease at the longest.
func (k *keeper) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keeper) leave() { <-k.turn }

// renew is one step: end what has ended, count what counts, tell the guard.
func (k *keeper) renew(ctx context.Context) {
	if k.take(ctx) != nil {
		return
	}
	defer k.leave()
	view, now := k.raft.View(), k.clock()
	k.mu.Lock()
	lease, state, since := k.lease, k.state, k.since
	k.mu.Unlock()
	if state == decide.LeaseNone {
		return
	}
	if why := k.ended(view, lease, state, now); why != "" {
		k.finish(lease.Term, why)
		return
	}
	if view.Key.Holder != k.self || view.Key.Term != lease.Term { // not applied here yet
		return
	}
	r, end, ok := k.raft.LeaseEnd(view.Key.Lease.TTL)
	if !ok || k.raft.BarrierTerm() != r { // L2: only after a Barrier of R
		return
	}
	if r != lease.RaftTerm { // leadership came back to the holder: answers of the new R count from now on
		k.mu.Lock()
		k.lease.RaftTerm, k.since = r, now
		k.mu.Unlock()
		return
	}
	if end.Add(-view.Key.Lease.TTL).Before(since) {
		return
	}
	if gain := end.Sub(lease.End); state == decide.LeaseLive && gain >= 0 && gain < view.Key.Lease.TTL/leaseGrain {
		return // the next answer comes soon, and an earlier end than L1 gives is always right
	}
	k.extend(ctx, cluster.Lease{Term: lease.Term, RaftTerm: r, End: end}, view.Key.Lease)
}

// ended says why the lease has ended: its fence point has passed, the key has moved on, or leadership was lost before
// the first quorum of answers.
func (k *keeper) ended(view *cluster.View, lease cluster.Lease, state decide.LeaseState, now cluster.Instant) string {
	switch {
	case view.Key.Term > lease.Term:
		return "the key has moved on"
	case view.Key.Term == lease.Term && (view.Key.Holder != k.self || view.Key.Released):
		return "the key is released or names another node"
	case state == decide.LeaseLive && !lease.Live(view.Key.Lease, now):
		return "no quorum has answered in time"
	case state == decide.LeaseFresh && k.raft.Status().Term > lease.RaftTerm:
		return "leadership was lost before the first quorum of answers"
	}
	return ""
}

// extend tells the guard first, and counts on the new end only when the guard has taken it (U2).
func (k *keeper) extend(ctx context.Context, l cluster.Lease, p cluster.LeaseParams) {
	_, before := k.current()
	ctx, cancel := context.WithTimeout(ctx, p.TTL)
	defer cancel()
	err := k.guard.Lease(ctx, l, p)
	k.mu.Lock()
	if k.lease.Term != l.Term || k.over >= l.Term {
		k.mu.Unlock()
		return
	}
	if err != nil {
		k.mu.Unlock()
		if !errors.Is(err, context.Canceled) {
			k.finish(l.Term, "the guard did not take it: "+err.Error())
		}
		return
	}
	k.state, k.lease = decide.LeaseLive, l
	k.mu.Unlock()
	if before == decide.LeaseFresh {
		k.wake()
	}
}

// lower gives the guard, before a change of the membership is proposed, the end that the lease has over the new voters too
// (L6); Raft counts over them already, so that no later renewal goes beyond it. An end that is too near to live on, or that
// cannot be counted, keeps the change from being proposed, and the guard what it has. A leader that does not hold the key
// has nothing to lower.
func (k *keeper) lower(ctx context.Context) error {
	if err := k.take(ctx); err != nil {
		return fmt.Errorf("lease: its renewal, which waits for the guard, goes first: %w", err)
	}
	defer k.leave()
	view, now := k.raft.View(), k.clock()
	k.mu.Lock()
	held, state, since := k.lease, k.state, k.since
	k.mu.Unlock()
	key, p := view.Key, view.Key.Lease
	if state == decide.LeaseNone && (key.Holder != k.self || key.Released) {
		return nil
	}
	r, end, ok := k.raft.LeaseEnd(p.TTL)
	next := cluster.Lease{Term: held.Term, RaftTerm: r, End: end}
	switch left := next.FencePoint(p).Sub(now); {
	case state != decide.LeaseLive || key.Term != held.Term:
		return fmt.Errorf("term %d of the key: this holder has no live lease of it", key.Term)
	case !ok:
		return fmt.Errorf("lease of term %d: a quorum of the new voters has not answered", held.Term)
	case k.raft.BarrierTerm() != r || r != held.RaftTerm || end.Add(-p.TTL).Before(since): // L2
		return fmt.Errorf("lease of term %d: want answers of raft term %d since it was taken up, the newest quorum is of raft term %d", held.Term, held.RaftTerm, r)
	case left < p.TTL/4:
		return fmt.Errorf("lease of term %d: with the new voters its fence point is %v away, want %v at least", held.Term, left, p.TTL/4)
	}
	k.extend(ctx, next, p)
	if got, _ := k.current(); got != next {
		return fmt.Errorf("lease of term %d: the guard did not take the end that the new voters give", held.Term)
	}
	return nil
}

// finish marks the term's lease as over and wakes the loop.
func (k *keeper) finish(term cluster.Term, why string) {
	k.mu.Lock()
	if k.state == decide.LeaseLive && k.lease.Term == term {
		k.lapse = decide.Lapse{Term: term, At: k.clock()}
	}
	k.mu.Unlock()
	k.end(term)
	k.log.Info("lease ended", "term", term, "reason", why)
	k.wake()
}

// untilNext is the pause until renew is due without an answer: the fence point, and for a single voter, to whom nobody
// answers, an eighth of the lease.
func (k *keeper) untilNext() time.Duration {
	pause := k.untilFence()
	_, state := k.current()
	if s := k.raft.Status(); state != decide.LeaseNone && len(s.Voters) == 1 && s.Voters[0] == k.self {
		pause = min(pause, k.raft.View().Key.Lease.TTL/8)
	}
	return max(pause, time.Millisecond)
}

// untilFence is the time until the fence point, an hour when there is none.
func (k *keeper) untilFence() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != decide.LeaseLive {
		return time.Hour
	}
	return max(time.Millisecond, k.lease.FencePoint(k.raft.View().Key.Lease).Sub(k.clock())+time.Millisecond)
}
