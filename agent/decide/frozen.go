package decide

import (
	"fmt"
	"time"

	"pgquorum/cluster"
)

// Soft fence (U6, docs/adr/0031): a primary whose lease ran out is frozen by its guard. It goes on only under the lease of
// the next term, if this node itself acquired that in place: then nobody was between, and what it acknowledged stands.

// frozen says whether the guard has stopped the processes of the local Postgres.
func (o *Observation) frozen() bool { return o.Local.Guard.Frozen != 0 }

// leftToGuard says whether the lease ran out so lately that the guard may still be at it, or that it was not looked at
// since, and until when it is left alone: a fence by order would end what can be frozen. The guard needs no agent for
// either. A look takes as long as a Postgres may take to answer.
func leftToGuard(o *Observation) (until cluster.Instant, leave bool) {
	k, lapsed := o.View.Key, o.lapsed()
	until = lapsed.At.Add(o.Heartbeat / 4)
	if o.LookedAt <= lapsed.At {
		until = lapsed.At.Add(LookPatience)
	}
	return until, o.SoftFence && lapsed.Term == k.Term && k.Term != 0 && k.Holder == o.Self && !k.Released && o.Now.Before(until)
}

// lapsed is the lease that ran out last, also one that is over although the keeper has not said so yet: its timer and the
// loop's go off at the same moment, in either order.
func (o *Observation) lapsed() Lapse {
	if k := o.View.Key; o.LeaseState == LeaseLive && o.Lease.Term == k.Term && !o.Lease.Live(k.Lease, o.Now) {
		return Lapse{Term: k.Term, At: o.Lease.FencePoint(k.Lease)}
	}
	return o.Lapsed
}

// LookPatience is how long the agent waits for a look that began after the lease had run out.
const LookPatience = 3 * time.Second

// fenceFrozen ends a frozen primary that can never go on: the key has passed through other hands, or is released.
func fenceFrozen(o *Observation) (Decision, bool) {
	if mayThawYet(o) {
		return Decision{}, false
	}
	d := Decision{Action: Fence, Reason: ReasonLeaseLost, Term: o.View.Key.Term, Detail: fmt.Sprintf("frozen in term %d", o.Local.Guard.Frozen)}
	if o.View.Key.Holder != o.Self {
		d.Reason = ReasonNotHolder
	}
	return d, true
}

// mayThawYet says whether a frozen primary may still go on: the key is this node's in the term in which it froze, or in
// the next one, acquired in place, whose lease has not ended. Two terms in a row that are this node's leave no room for
// another's. An agent that came back may not have heard of the term at all yet.
func mayThawYet(o *Observation) bool {
	k, t := o.View.Key, o.Local.Guard.Frozen
	switch {
	case k.Term < t:
		return true
	case k.Holder != o.Self || k.Released:
		return false
	case k.Term == t:
		return true
	}
	return k.Term == t+1 && acquiredInPlace(o) && (o.holds() || o.acquiring())
}

// acquiredInPlace says whether the key's term goes on with the timeline of the term before.
func acquiredInPlace(o *Observation) bool {
	k := o.View.Key
	return o.View.Forks[k.Timeline].Term != k.Term
}

// reacquire is what the holder of a frozen primary does when it leads Raft (again): it acquires the next term in place, once
// a quorum answers it. Of the steps of section 5 it needs the Barrier alone: the old lease is its own and over (K5), and
// the primary of the newest rule, whose processes are stopped and whose data is intact, satisfies every rule (C1 b, c).
// Without fresh answers the command might be committed long after, by another leader, when nobody waits for it.
func reacquire(o *Observation) (Decision, bool) {
	k := o.View.Key
	if !o.frozen() || o.Local.Guard.Frozen != k.Term || k.Holder != o.Self || k.Released || leaving(o) {
		return Decision{}, false
	}
	if (cluster.Lease{End: o.Answers}).FencePoint(k.Lease).Sub(o.Now) < k.Lease.TTL/4 {
		return Decision{Action: Wait, Reason: ReasonFrozen, Wake: o.Now.Add(o.Heartbeat / 50)}, true
	}
	return acquireInPlace(o, ReasonThaw, fmt.Sprintf("frozen in term %d", k.Term)), true
}

// thaw lets a frozen primary go on under the live lease of the next term. Before it, fenceFrozen has looked at the rest.
func thaw(o *Observation) (Decision, bool) {
	k, t := o.View.Key, o.Local.Guard.Frozen
	if k.Term != t+1 {
		return Decision{Action: Wait, Reason: ReasonFrozen, Detail: fmt.Sprintf("in term %d, the lease is of term %d", t, k.Term)}, true
	}
	return Decision{Action: Thaw, Reason: ReasonKeyHeld, Term: k.Term}, true
}

// thawsAtOnce is K3 for a holder whose primary is frozen: as Raft leader it acquires in place and goes on, sooner than
// anybody could be promoted. One that has promised a later term, is leaving, cannot write, or whose guard is about to
// end what is frozen, gets nothing back.
func thawsAtOnce(o *Observation, s cluster.NodeStatus) bool {
	k := o.View.Key
	return s.Guard.Alive && s.Guard.Frozen == k.Term && s.Guard.FrozenLeft > thawTime(o) && s.Promised <= k.Term && s.DiskFault == "" && !s.Stopping
}

// thawTime is what a hand-back, an acquisition and its first answers may take.
func thawTime(o *Observation) time.Duration { return o.Heartbeat / 2 }
