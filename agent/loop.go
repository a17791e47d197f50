package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// loop goes round the circle until ctx ends: observe, decide, act. An action that did something is followed by the
// next turn at once; else the loop sleeps until an event, the decision's own wake time, or the tick.
func (a *Agent) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wakeUp:
		case <-timer.C:
		}
		for ctx.Err() == nil {
			o := a.observe()
			d := decide.Next(o)
			a.publish(o)
			a.note(ctx, o, d)
			a.noteShown(ctx, o)
			a.noteWatchdog(ctx, o)
			a.settle(o)
			if d.Action == decide.None || d.Action == decide.Wait {
				timer.Reset(a.sleep(o, d))
				break
			}
			if !a.act(ctx, o, d) {
				timer.Reset(min(a.sleep(o, d), a.untilRetry(d.Action)))
				break
			}
		}
	}
}

// sleep is how long nothing needs to be looked at: the safety net's tick at most.
func (a *Agent) sleep(o *decide.Observation, d decide.Decision) time.Duration {
	tick := min(time.Second, a.opt.Heartbeat)
	if o.Now.Before(d.Wake) {
		tick = min(tick, d.Wake.Sub(o.Now))
	}
	if opens := a.gateOpens(); o.Now.Before(opens) { // /primary is shown when its second has passed, not at the next tick (S4)
		tick = min(tick, opens.Sub(o.Now))
	}
	return max(tick, time.Millisecond)
}

// untilRetry is the rest of the pause after a failure of an action that the loop itself carried out. A job wakes the loop
// when it ends.
func (a *Agent) untilRetry(action decide.Action) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.retry[action]
	if at.IsZero() {
		return decide.LongestPause
	}
	return max(at.Sub(a.opt.Clock()), time.Millisecond)
}

// note logs a decision when it differs from the last, be it that it asks again where it waited for answers, and keeps what the node asks of the holder.
func (a *Agent) note(ctx context.Context, o *decide.Observation, d decide.Decision) {
	wants := decide.WantsOut(o)
	a.mu.Lock()
	same := (a.said.Action == d.Action || a.said.Action.Asks() && d.Action.Asks()) && a.said.Reason == d.Reason && a.said.Detail == d.Detail && a.said.Node == d.Node
	asked := wants != "" && wants != a.wantsOut
	began := o.Local.Postgres.Streaming && !a.streamed // the holder adds a standby only on its own answer (S8)
	serves := o.Local.Postgres.State == cluster.PostgresRunning && o.Local.Postgres.Role == cluster.RolePrimary
	opened := serves && !a.served // who copies or rewinds waits until it sees the primary run
	a.said, a.wantsOut, a.streamed, a.served = d, wants, o.Local.Postgres.Streaming, serves
	a.phase = phaseOf(o, d)
	a.mu.Unlock()
	switch {
	case opened:
		go a.peers.all(func(n cluster.NodeID) { a.nudge(context.WithoutCancel(ctx), n) })
	case (asked || began) && o.View.Key.Holder != "" && o.View.Key.Holder != a.opt.Self:
		go a.nudge(context.WithoutCancel(ctx), o.View.Key.Holder)
	}
	if same || d.Action == decide.None {
		return
	}
	level := slog.LevelInfo
	if d.Reason == decide.ReasonJob {
		level = slog.LevelDebug
	}
	a.log.Log(ctx, level, "action chosen", "action", d.Action, "reason", d.Reason, "detail", d.Detail, "node", d.Node,
		"source", d.Source, "term", o.View.Key.Term, "raft_term", o.Raft.Term, "raft", o.Raft.State, "position", o.Position.LSN.String())
}

// nudge makes another node look at this one now rather than within a second.
func (a *Agent) nudge(ctx context.Context, n cluster.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, a.peers.deadline())
	defer cancel()
	if err := a.peers.call(ctx, n, "/nudge", nudgeRequest{}, nil); err != nil {
		a.log.DebugContext(ctx, "node not nudged", "node", n, "reason", err)
	}
}

// phaseOf says in words what the node is doing.
func phaseOf(o *decide.Observation, d decide.Decision) string {
	switch {
	case o.Job.Action != "":
		return fmt.Sprintf("%s: %s", o.Job.Action, o.Job.Reason)
	case d.Action == decide.None && o.LeaseState == decide.LeaseLive:
		return "holds the key"
	case d.Action == decide.None:
		return "following"
	case d.Detail != "":
		return fmt.Sprintf("%s: %s: %s", d.Action, d.Reason, d.Detail)
	}
	return fmt.Sprintf("%s: %s", d.Action, d.Reason)
}

// tried keeps the book of an action's outcome: growing pauses after failures, none after success.
func (a *Agent) tried(ctx context.Context, d decide.Decision, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		delete(a.retry, d.Action)
		delete(a.failures, d.Action)
		switch d.Action {
		case decide.Clone, decide.Rewind: // whatever comes of it, neither is repeated at once, nor is the other's past held against it
			delete(a.failures, decide.Rewind)
			a.retry[d.Action] = a.opt.Clock().Add(decide.LongestPause)
		}
		return
	}
	var soon interface{ Waits() bool }
	if errors.As(err, &soon) && soon.Waits() { // nothing has failed, and nothing else would be sooner
		a.retry[d.Action] = a.opt.Clock().Add(waitPause)
		a.log.InfoContext(ctx, "action waits", "action", d.Action, "for", err)
		return
	}
	failed := a.failures[d.Action].Plus(d.Term)
	pause := decide.PauseAfter(d.Action, failed)
	a.failures[d.Action], a.retry[d.Action] = failed, a.opt.Clock().Add(pause)
	if errors.Is(err, context.Canceled) {
		return
	}
	a.log.WarnContext(ctx, "action did not succeed", "action", d.Action, "reason", d.Reason, "tries", failed.InARow, "pause", pause, "error", err)
}

// waitPause is that of an action that waits for what comes by itself.
const waitPause = 200 * time.Millisecond

// listenToGuard turns the guard's events into wake-ups, after a fresh look.
func (a *Agent) listenToGuard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-a.opt.Guard.Events():
			a.log.InfoContext(ctx, "guard event", "kind", e.Kind, "detail", e.Detail)
			if e.Kind != GuardExited {
				a.markPhase("noticed", e.At)
			}
			switch e.Kind {
			case GuardGone:
				a.reviveGuard(ctx)
			case GuardFrozen:
				a.watch.interrupt() // a question to what is frozen has no answer
			}
			look, cancel := context.WithTimeout(ctx, a.opt.Heartbeat/4)
			a.watch.refresh(look)
			cancel()
			a.Wake()
		}
	}
}

// reviveGuard is U5: without a guard the lease is over, whatever its time, and everything it ran is ended.
func (a *Agent) reviveGuard(ctx context.Context) {
	l, _ := a.keeper.current()
	a.keeper.end(l.Term)
	for ctx.Err() == nil {
		err := a.opt.Guard.Revive(ctx)
		if err == nil {
			return
		}
		a.log.ErrorContext(ctx, "guard could not be started again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
