package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/agent/decide"
)

// ErrRestart is Run's error when the agent must be started anew: it could not write for a while, has closed its Raft
// transport for that, and can write again (B2); or it leads Raft and can propose nothing (decide.Stuck).
var ErrRestart = errors.New("the agent must be started again")

// isolation is how far a node that cannot write has withdrawn (B2).
type isolation struct {
	why    string // the disk's problem that began it
	fenced bool   // the fence was ordered; whether it is durable the guard alone knows
	closed bool   // Raft's transport is
}

// fenceWait is how long the guard's word on a fence is waited for. The lease is over before the guard is asked, and the
// guard kills Postgres before it writes; what it cannot do on a disk that hangs is to make that durable and say so (U4).
// A taker needs no word: it waits until the lease is over (K5). The guard's SIGKILL comes 100 ms after the order at the latest.
const fenceWait = 300 * time.Millisecond

// mindEvery is how often B2 is looked at without an event.
const mindEvery = time.Second

// minding carries out decide.Disk until ctx ends, apart from the loop: an action that hangs in a write must not keep the
// node from giving up what it holds.
func (a *Agent) minding(ctx context.Context) error {
	tick := time.NewTicker(mindEvery) // a node may come to lead Raft after its disk has failed
	defer tick.Stop()
	for {
		for ctx.Err() == nil {
			again, err := a.mindDisk(ctx)
			if err != nil {
				return err
			}
			if !again {
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.disk.changed:
		}
	}
}

// mindDisk takes one step of B2, and answers true when the next may follow at once.
func (a *Agent) mindDisk(ctx context.Context) (again bool, err error) {
	o := a.observe()
	if d, stuck := decide.Stuck(o); stuck {
		return false, fmt.Errorf("%w: %s (%s)", ErrRestart, d.Reason, d.Detail)
	}
	d, ok := decide.Disk(o)
	a.showDisk(ctx, o, d)
	a.alarms(ctx, o)
	if !ok {
		return false, nil
	}
	switch d.Action {
	case decide.Fence:
		a.fenceForDisk(ctx, o, d)
		return true, nil
	case decide.CloseTransport:
		a.closeTransport(ctx, d)
		return true, nil
	case decide.EndAgent:
		a.mu.Lock()
		defer a.mu.Unlock()
		return false, fmt.Errorf("%w: it could not write (%s) and closed its raft transport, and can write again now", ErrRestart, a.isolated.why)
	}
	return false, nil
}

// showDisk logs that the disk fails or works again, once, and shows it at once: the loop may hang.
func (a *Agent) showDisk(ctx context.Context, o *decide.Observation, d decide.Decision) {
	problem := o.Local.DiskFault
	a.mu.Lock()
	before := a.diskSaid
	a.diskSaid = problem
	if problem != "" {
		a.phase = phaseOf(o, d)
		if before == "" && !a.isolated.closed {
			a.isolated = isolation{why: problem}
		}
	} else if !a.isolated.closed {
		a.isolated = isolation{}
	}
	a.mu.Unlock()
	if problem == before {
		return
	}
	if problem == "" {
		a.log.WarnContext(ctx, "node can write again", "reason", before)
	} else {
		a.log.ErrorContext(ctx, "node cannot write", "reason", problem, "next", d.Action, "term", d.Term)
	}
	a.publish(o)
	a.Wake()
}

// fenceForDisk ends the lease and orders the fence, and does not wait long for the guard's word.
func (a *Agent) fenceForDisk(ctx context.Context, o *decide.Observation, d decide.Decision) {
	limit, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	if err := a.fence(limit, o, d); err != nil {
		a.log.WarnContext(ctx, "fence ordered, its durable end is not known", "term", d.Term, "reason", err)
	}
	a.mu.Lock()
	a.isolated.fenced = true
	a.mu.Unlock()
}

// closeTransport ends Raft's part of the channel, once.
func (a *Agent) closeTransport(ctx context.Context, d decide.Decision) {
	err := a.raft.CloseTransport()
	a.mu.Lock()
	a.isolated.closed = true
	a.mu.Unlock()
	a.log.ErrorContext(ctx, "raft transport closed until the agent is started again", "reason", d.Reason, "detail", d.Detail, "error", err)
}
