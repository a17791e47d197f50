package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// barrier is K1.
func (a *Agent) barrier(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	a.markPhase("elected", o.Now)
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	r, err := a.raft.Barrier(ctx)
	if err != nil {
		return err
	}
	a.keeper.answered()
	a.observe() // turns the ledger to this Raft term
	a.fill(r, func(t *decide.TakeOver) { t.BarrierAt = a.opt.Clock() })
	return nil
}

// fill changes the ledger of Raft term r, and does nothing when leadership has moved on meanwhile.
func (a *Agent) fill(r uint64, f func(*decide.TakeOver)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ledger.RaftTerm == r {
		a.ledger = copyLedger(a.ledger)
		f(&a.ledger)
	}
}

// askStatus is K2 with the attests of K5: all nodes, in parallel, each with a deadline.
func (a *Agent) askStatus(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.AskedAt = o.Now })
	round, over := context.WithTimeout(ctx, a.peers.deadline())
	defer over()
	var left sync.Map
	for _, n := range a.peers.others() {
		left.Store(n, true)
	}
	enough := func(n cluster.NodeID) {
		left.Delete(n)
		alone := true
		left.Range(func(k, _ any) bool { alone = alone && k == o.View.Key.Holder; return true })
		if alone && decide.HolderNotWaitedFor(a.observe()) {
			over()
		}
	}
	a.attestSelf(round, o)
	a.peers.all(func(n cluster.NodeID) {
		defer enough(n)
		var wg sync.WaitGroup
		wg.Go(func() { a.askAttest(round, o, n) })
		s, err := a.peers.look(round, n, statusFresh)
		wg.Wait()
		a.fill(o.Raft.Term, func(t *decide.TakeOver) {
			if err != nil {
				t.Silent[n] = err.Error()
				return
			}
			t.Statuses[n] = s
			delete(t.Silent, n)
		})
	})
	local, cancel := context.WithTimeout(ctx, a.peers.deadline())
	defer cancel()
	a.watch.refresh(local)
	return ctx.Err()
}

// askAttest asks one voter how long ago it last acknowledged the holder.
func (a *Agent) askAttest(ctx context.Context, o *decide.Observation, n cluster.NodeID) {
	if o.View.Key.Holder == "" || n == o.View.Key.Holder {
		return
	}
	var at cluster.Attest
	if err := a.peers.call(ctx, n, "/attest", attestRequest{Holder: o.View.Key.Holder}, &at); err != nil || at.Voter != n {
		return
	}
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.Attests[n] = at })
}

func (a *Agent) attestSelf(ctx context.Context, o *decide.Observation) {
	if at, err := a.raft.Attest(ctx, o.View.Key.Holder); err == nil && o.View.Key.Holder != a.opt.Self {
		a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.Attests[a.opt.Self] = at })
	}
}

// askPromises is K4, and asks again for attests and statuses on the way.
func (a *Agent) askPromises(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.PromisedAt = o.Now })
	round, over := context.WithTimeout(ctx, a.peers.deadline())
	defer over()
	q := promiseRequest{Term: d.Term, RaftTerm: o.Raft.Term, From: a.opt.Self}
	own, others := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(own)
		if o.Local.Postgres.State == cluster.PostgresStopped && a.goodWithout(round, others) {
			return
		}
		p, err := a.promise(context.WithoutCancel(ctx), q)
		a.enter(o.Raft.Term, a.opt.Self, p, err)
	}()
	a.attestSelf(round, o)
	a.peers.all(func(n cluster.NodeID) {
		if _, silent := o.TakeOver.Silent[n]; silent && o.TakeOver.PromisedAt.IsZero() {
			a.enter(o.Raft.Term, n, cluster.Promise{}, fmt.Errorf("it did not answer"))
			go a.askLater(context.WithoutCancel(ctx), o, n, q) // it must not hold up those that answer
			return
		}
		a.askNode(round, o, n, q)
	})
	close(others)
	if a.otherChosen() {
		return ctx.Err() // another is good enough: this node's own WAL need not be read first
	}
	select {
	case <-own:
	case <-ctx.Done():
	}
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.RoundAt = a.opt.Clock() })
	return ctx.Err()
}

// otherChosen says whether another node can be promoted as things stand.
func (a *Agent) otherChosen() bool {
	c := decide.Choose(a.observe())
	return c.Node != "" && c.Node != a.opt.Self && c.CatchUp == ""
}

// goodWithout lets the others answer first, for a moment: the position of a stopped Postgres is read from its WAL, and
// that work would only be in the way of a standby that is ready. It says whether one is.
func (a *Agent) goodWithout(ctx context.Context, others <-chan struct{}) bool {
	head := time.NewTimer(a.opt.Heartbeat / 20)
	defer head.Stop()
	select {
	case <-others:
		return a.otherChosen()
	case <-head.C:
	case <-ctx.Done():
	}
	return false
}

// askNode asks one node for its promise, and for status and attest where they are missing.
func (a *Agent) askNode(ctx context.Context, o *decide.Observation, n cluster.NodeID, q promiseRequest) {
	var wg sync.WaitGroup
	wg.Go(func() {
		var p cluster.Promise
		err := a.peers.call(ctx, n, "/promise", q, &p)
		a.enter(o.Raft.Term, n, p, err)
	})
	wg.Go(func() { a.askAttest(ctx, o, n) })
	if !o.TakeOver.PromisedAt.IsZero() || o.TakeOver.Statuses[n].Node == "" { // K2
		wg.Go(func() {
			s, err := a.peers.look(ctx, n, statusFresh)
			a.fill(o.Raft.Term, func(t *decide.TakeOver) {
				if err != nil {
					t.Silent[n] = err.Error() // what it said before stands, but nobody hands over to who is silent
					return
				}
				t.Statuses[n] = s
				delete(t.Silent, n)
			})
		})
	}
	wg.Wait()
}

// askLater tries a silent node apart from the round.
func (a *Agent) askLater(ctx context.Context, o *decide.Observation, n cluster.NodeID, q promiseRequest) {
	ctx, cancel := context.WithTimeout(ctx, a.peers.deadline())
	defer cancel()
	a.askNode(ctx, o, n, q)
	a.Wake()
}

// enter notes a promise, or why there is none. A promise once given is not lost by a later call that fails.
func (a *Agent) enter(r uint64, n cluster.NodeID, p cluster.Promise, err error) {
	a.fill(r, func(t *decide.TakeOver) {
		switch {
		case err != nil:
			t.NoPromise[n] = err.Error()
		case p.Term == t.Term && p.Member.Node == n:
			t.Promises[n] = p
			delete(t.NoPromise, n)
		}
	})
}

// handBack is K3: counted first, so that the count stands even if the transfer's outcome is not known.
func (a *Agent) handBack(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	if _, err := a.raft.Apply(ctx, cluster.CountHandback{Term: d.Term}); err != nil {
		return err
	}
	return a.leadTo(ctx, d.Node)
}

// leadTo transfers Raft leadership and waits until this node no longer leads.
func (a *Agent) leadTo(ctx context.Context, to cluster.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, a.opt.Heartbeat)
	defer cancel()
	return a.raft.Transfer(ctx, to)
}

// catchUp is C2: the candidate streams from the node that has the highest position, then promises anew. Whatever came of
// it, the next round asks everybody again: who may be promoted, and who serves, may be another by now.
func (a *Agent) catchUp(ctx context.Context, o *decide.Observation, d decide.Decision) (err error) {
	q := followRequest{Term: d.Term, RaftTerm: o.Raft.Term, Source: d.Source, Addr: o.View.Nodes[d.Source].PostgresAddr, CatchUp: true}
	want := o.TakeOver.Promises[d.Source].Position
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	defer a.fill(o.Raft.Term, func(t *decide.TakeOver) {
		t.PromisedAt, t.Statuses = 0, map[cluster.NodeID]cluster.NodeStatus{}
		if err != nil {
			t.CatchUps++
		}
	})
	if d.Node == a.opt.Self {
		_, err = a.followOrder(ctx, q)
	} else {
		err = a.peers.call(ctx, d.Node, "/follow", q, nil)
	}
	if err != nil {
		return err
	}
	if err := a.waitPosition(ctx, d.Node, want); err != nil {
		return err
	}
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { delete(t.Promises, d.Node) })
	return nil
}

// catchUpLimit bounds one try of a catch-up; the next goes on where it ended.
const catchUpLimit = 5 * time.Second

// waitPosition polls a node's status until its position has reached want.
func (a *Agent) waitPosition(ctx context.Context, n cluster.NodeID, want cluster.Position) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var pos cluster.Position
	for {
		if n == a.opt.Self {
			pos = a.watch.refresh(ctx).position
		} else if s, err := a.peers.look(ctx, n, statusFresh); err == nil {
			pos = s.Position
		}
		if pos.Timeline >= want.Timeline && pos.LSN >= want.LSN {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("catch-up of %s: at %s, wanted %s: %w", n, pos.LSN, want.LSN, ctx.Err())
		case <-tick.C:
		}
	}
}

// transfer is K6: the promises travel ahead, then leadership. A candidate that leaves this node in office is asked
// again, and passed over once it has refused or is silent.
func (a *Agent) transfer(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	a.markPhase("chosen", a.opt.Clock())
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	q := handoverRequest{Term: d.Term, Promises: o.TakeOver.Promises, Hops: o.TakeOver.Hops + 1, Reason: string(d.Reason)}
	if o.Request != nil {
		q.Wanted = o.Request.Candidate
	}
	a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.Hops++ })
	defer a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.HandedAt = a.opt.Clock() })
	told, done := context.WithTimeout(ctx, a.opt.Heartbeat) // a host that is gone does not even refuse
	defer done()
	if err := a.peers.call(told, d.Node, "/handover", q, nil); err != nil {
		return err
	}
	return a.leadTo(ctx, d.Node)
}

// acquire is K7 up to the lease: the new rule is set and proven here while the key is committed, the first answers are
// asked for at once, and the siblings that can follow are told to.
func (a *Agent) acquire(life context.Context, o *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(life, applyLimit)
	defer cancel()
	cmd := d.Acquire
	cmd.Reason, cmd.Time = string(d.Reason), now()
	if d.Detail != "" {
		cmd.Reason += ": " + d.Detail
	}
	preparing := a.startPreparing(ctx, o, cmd)
	defer preparing()
	result, err := a.raft.Apply(ctx, cmd)
	if err != nil {
		return err
	}
	key, ok := result.(cluster.LeaderKey)
	if !ok {
		return fmt.Errorf("acquire term %d: the FSM answered %T", d.Term, result)
	}
	a.keeper.acquired(key.Term, o.Raft.Term)
	a.markPhase("acquired", a.opt.Clock())
	go a.siblings(life, o, key, cmd)
	if err := a.raft.Kick(ctx); err != nil {
		a.log.InfoContext(ctx, "heartbeats not hastened", "reason", err)
	}
	return nil
}

// startPreparing puts the new rule's list in force on a standby that is about to be promoted, beside the commit of the
// key: a list decides nothing on a standby. The function it gives waits for it; what fails is done again before the
// promotion.
func (a *Agent) startPreparing(ctx context.Context, o *decide.Observation, cmd cluster.AcquireLeader) (wait func()) {
	p := o.Local.Postgres
	if p.State != cluster.PostgresRunning || p.Role != cluster.RoleStandby {
		return func() {}
	}
	list := SyncList{Mode: cmd.Mode, K: cmd.K, Members: cmd.Standbys, Timeline: decide.NextTimeline(o, cmd.SeenMax, cmd.Parent)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.prepareNow(ctx, list, p.StartTime); err != nil {
			a.log.InfoContext(ctx, "list not prepared; it is tried again before the promotion", "reason", err)
		}
	}()
	return func() { <-done }
}
