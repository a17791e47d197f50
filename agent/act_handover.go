package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// handOver gives up the key because this node's Postgres cannot serve (B1): fenced first, then released. The take-over
// that follows chooses among all, this node included.
func (a *Agent) handOver(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	a.event(ctx, "hand_over", d.Term, strings.TrimSuffix(string(d.Reason)+": "+d.Detail, ": "))
	if err := a.release(ctx, d.Term, string(d.Reason)); err != nil {
		return err
	}
	switch d.Reason {
	case decide.ReasonCannotPromote, decide.ReasonDiskFull, decide.ReasonNoWatchdog:
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	_, err := a.raft.Apply(ctx, cluster.Refuse{Node: a.opt.Self, Term: d.Term + 1, Reason: string(d.Reason)}) // K6
	return err
}

// release fences term t and gives the key back (U4: proposed only after the guard's fenced answer). Beside it, the
// promises of the next term are asked for.
func (a *Agent) release(ctx context.Context, t cluster.Term, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	a.keeper.end(t) // before the guard refuses it
	asked := make(chan struct{})
	go func() { // K4 needs neither fence nor release, and the standbys have nobody left to stream from
		defer close(asked)
		o := a.observe()
		if err := a.askPromises(ctx, o, decide.Decision{Action: decide.AskPromises, Term: t + 1}); err != nil {
			a.log.InfoContext(ctx, "promises not asked ahead; the take-over asks again", "reason", err)
		}
	}()
	if err := a.opt.Guard.Fence(ctx, t); err != nil {
		<-asked
		return err
	}
	_, err := a.raft.Apply(ctx, cluster.ReleaseLeader{Node: a.opt.Self, Term: t, Reason: reason, Time: now()})
	a.markPhase("released", a.opt.Clock())
	<-asked
	return err
}

// switchover is B1, planned: checkpoint while writes go on; then no health check shows this node as primary; fast
// stop; the candidate must have the shutdown checkpoint; fenced, released. If it does not, the old primary starts again
// in place: nothing happened.
func (a *Agent) switchover(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	t := o.View.Key.Term
	err := a.switchAway(ctx, o, d)
	if err == nil {
		return nil
	}
	if p := a.watch.refresh(ctx).postgres; p.State != cluster.PostgresRunning { // it failed after the stop had begun
		a.mu.Lock()
		a.resuming = t // until it runs again, see startPrimary
		a.mu.Unlock()
	}
	if o.Failed(d.Action) == 0 { // the tries after the first one are in the log only
		a.event(ctx, "switchover_failed", t, err.Error())
	}
	stands := string(a.opt.Self) + " stays primary"
	if _, state := a.keeper.current(); state != decide.LeaseLive { // it failed inside the release
		stands = string(a.opt.Self) + " has given up its lease: a take-over follows, look at GET /cluster"
	}
	a.endRequest(cluster.ActionResult{Code: cluster.ActionUnavailable, Text: "switchover failed: " + err.Error() + "; " + stands})
	a.setHiding(false)
	if o.Request != nil && o.Request.Leaving { // it is tried again, after a pause, until this node may stop
		return err
	}
	return nil // the request has its answer; it is not tried again by itself
}

func (a *Agent) switchAway(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	t := o.View.Key.Term
	if no := decide.CheckSwitchover(o); no != nil {
		return fmt.Errorf("%s", no.Text)
	}
	before, cancel := context.WithTimeout(ctx, checkpointLimit)
	defer cancel()
	if err := a.pg.Checkpoint(before); err != nil {
		return err
	}
	a.markPhase("noticed", a.opt.Clock())
	a.setHiding(true)
	if err := a.pg.Stop(ctx, o.View.Config.PrimaryStopTimeout); err != nil {
		return err
	}
	a.watch.refresh(ctx)
	a.markPhase("stopped", a.opt.Clock())
	end, clean, err := a.pg.ShutdownCheckpoint(ctx)
	if err != nil {
		return err
	}
	if !clean {
		return fmt.Errorf("postgres did not stop in good order within %v", o.View.Config.PrimaryStopTimeout)
	}
	if err := a.someoneHas(ctx, o, d.Node, cluster.Position{Timeline: o.View.Key.Timeline, LSN: end}); err != nil {
		return err
	}
	return a.release(ctx, t, "switchover")
}

// receiveLimit is how long a candidate has to show that it received the shutdown checkpoint. The primary's fast
// shutdown has waited for its walsenders already.
const receiveLimit = 2 * time.Second

// someoneHas waits until the candidate, or any node that may be promoted when none is named, has received want.
func (a *Agent) someoneHas(ctx context.Context, o *decide.Observation, candidate cluster.NodeID, want cluster.Position) error {
	ctx, cancel := context.WithTimeout(ctx, receiveLimit)
	defer cancel()
	nodes := []cluster.NodeID{candidate}
	if candidate == "" {
		nodes = decide.Candidates(o)
	}
	results := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { results <- a.waitPosition(ctx, n, want) }()
	}
	err := fmt.Errorf("no candidate for the shutdown checkpoint at %s", want.LSN)
	for range nodes {
		if err = <-results; err == nil {
			return nil
		}
	}
	return err
}

// leave is what SIGTERM does: hand over if this node is the primary, else leave the sync rules (S8); then stop Postgres.
func (a *Agent) leave(ctx context.Context) {
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	a.Wake()
	limit, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !a.mayStop() {
		select {
		case <-limit.Done():
			a.log.WarnContext(ctx, "stopping without a hand-over", "reason", "no other node took over", "waited", leaveLimit)
		case <-tick.C:
			continue
		}
		break
	}
	a.endRequest(cluster.ActionResult{Code: cluster.ActionUnavailable, Text: "switchover: the agent of " + string(a.opt.Self) + " is stopping; look at GET /cluster"})
	if err := a.pg.Stop(ctx, a.raft.View().Config.PrimaryStopTimeout); err != nil {
		a.log.ErrorContext(ctx, "postgres could not be stopped", "error", err)
	}
}

// leaveLimit is how long a stopping agent tries to hand over, or to be taken out of the sync rules.
const leaveLimit = 10 * time.Second

// mayStop says whether nothing depends on this node any more: another holds the key and leads Raft, and this node's
// data counts in no rule, or cannot be taken out without lowering k.
func (a *Agent) mayStop() bool { return decide.MayStop(a.observe()) }
