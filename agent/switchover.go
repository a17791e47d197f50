package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// pendingSwitchover is an accepted request and where its answer goes.
type pendingSwitchover struct {
	cluster.SwitchoverRequest
	reason string
	answer chan cluster.ActionResult // one place: the first answer counts
}

// switchoverLimit bounds a switchover from the request to the answer.
const switchoverLimit = 60 * time.Second

// Switchover moves the primary, from any node: it is carried out by the key's holder and passed on to it.
func (a *Agent) Switchover(ctx context.Context, q cluster.SwitchoverRequest) cluster.ActionResult {
	ctx, cancel := context.WithTimeout(ctx, switchoverLimit)
	defer cancel()
	holder := a.raft.View().Key.Holder
	if holder == a.opt.Self || holder == "" {
		return a.switchoverHere(ctx, q)
	}
	var result cluster.ActionResult
	err := a.peers.call(ctx, holder, "/switchover", q, &result)
	var refused *peerError
	switch {
	case err == nil:
		return result
	case errors.As(err, &refused):
		return cluster.ActionResult{Code: cluster.ActionUnavailable, Text: fmt.Sprintf("switchover passed on to %s: %s", holder, refused.Text)}
	}
	return cluster.ActionResult{Code: cluster.ActionUnknown,
		Text: fmt.Sprintf("switchover passed on to %s, which holds the key: %v; whether it was carried out is not known: look at GET /cluster", holder, err)}
}

// CheckSwitchover says what a switchover would do, and changes nothing.
func (a *Agent) CheckSwitchover(ctx context.Context, q cluster.SwitchoverRequest) cluster.ActionResult {
	q.DryRun = true
	return a.Switchover(ctx, q)
}

// switchoverHere carries a switchover out on the holder.
func (a *Agent) switchoverHere(ctx context.Context, q cluster.SwitchoverRequest) cluster.ActionResult {
	a.peers.all(func(n cluster.NodeID) { a.peers.look(ctx, n, statusFresh) }) // what is missing shows in the check
	a.watch.refresh(ctx)
	o := a.observe()
	o.Request = &decide.Request{SwitchoverRequest: q}
	if no := decide.CheckSwitchover(o); no != nil {
		return *no
	}
	if q.DryRun {
		return cluster.ActionResult{Code: cluster.ActionDone, Text: decide.DescribeSwitchover(o)}
	}
	p := &pendingSwitchover{SwitchoverRequest: q, reason: "switchover", answer: make(chan cluster.ActionResult, 1)}
	a.mu.Lock()
	if a.request != nil {
		other := a.request.Candidate
		a.mu.Unlock()
		return cluster.ActionResult{Code: cluster.ActionUnavailable, Text: fmt.Sprintf("another switchover (to %q) is running: wait for it, then look at GET /cluster", other)}
	}
	a.request = p
	a.mu.Unlock()
	a.Wake()
	return a.awaitSwitchover(ctx, o.View.Key.Term, p)
}

// awaitSwitchover waits until another node serves as primary in a later term, or the request was answered otherwise.
func (a *Agent) awaitSwitchover(ctx context.Context, before cluster.Term, p *pendingSwitchover) cluster.ActionResult {
	defer a.clearRequest(p)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		k := a.raft.View().Key
		if k.Term > before && a.serves(ctx, k) {
			return cluster.ActionResult{Code: cluster.ActionDone, Leader: k.Holder, Text: fmt.Sprintf("Successfully switched over to %q", k.Holder)}
		}
		select {
		case r := <-p.answer:
			return r
		case <-ctx.Done():
			return cluster.ActionResult{Code: cluster.ActionUnknown,
				Text: fmt.Sprintf("switchover from %s has not ended in time; the key is held by %q in term %d: look at GET /cluster", p.Leader, k.Holder, k.Term)}
		case <-tick.C:
		}
	}
}

// serves says whether the key's holder runs its primary on the key's timeline.
func (a *Agent) serves(ctx context.Context, k cluster.LeaderKey) bool {
	var s cluster.NodeStatus
	if k.Holder == a.opt.Self {
		s = a.localStatus(a.watch.latest())
	} else {
		var err error
		if s, err = a.peers.look(ctx, k.Holder, statusFresh); err != nil {
			return false
		}
	}
	return s.Postgres.State == cluster.PostgresRunning && s.Postgres.Role == cluster.RolePrimary && s.Postgres.Timeline == k.Timeline
}

// endRequest answers the pending switchover, if there is one.
func (a *Agent) endRequest(r cluster.ActionResult) {
	a.mu.Lock()
	p := a.request
	a.request = nil
	a.mu.Unlock()
	if p == nil {
		return
	}
	select {
	case p.answer <- r:
	default:
	}
}

func (a *Agent) clearRequest(p *pendingSwitchover) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.request == p {
		a.request = nil
	}
	a.hiding = false
}

// setHiding makes /primary 503 while the primary is on its way out, before another's can be 200.
func (a *Agent) setHiding(hide bool) {
	a.mu.Lock()
	a.hiding = hide
	a.mu.Unlock()
	a.publish(a.observe())
}
