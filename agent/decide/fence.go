package decide

import "pgquorum/cluster"

// fence is I2: a local primary without a live lease for the key's term is ended. The guard has most likely done so
// already, at E - F and without this agent; this rule is for what the guard could not know, such as a Postgres that
// someone promoted by hand. A primary whose node has just acquired in place runs on under the lease of the term before,
// which the guard ends by itself, until the first quorum of answers.
func fence(o *Observation) (Decision, bool) {
	if o.frozen() {
		return fenceFrozen(o)
	}
	p := o.Local.Postgres
	if p.State == cluster.PostgresStopped || p.Role != cluster.RolePrimary || o.holds() || o.ahead() || o.acquiring() {
		return Decision{}, false
	}
	if until, leave := leftToGuard(o); leave {
		return Decision{Action: Wait, Reason: ReasonLeftToGuard, Wake: until}, true
	}
	reason := ReasonLeaseLost
	if o.View.Key.Holder != o.Self {
		reason = ReasonNotHolder
	}
	return Decision{Action: Fence, Reason: reason, Term: o.View.Key.Term}, true
}

// ahead says whether the guard holds a live lease of a term that this node's copy of the FSM has not reached yet: an
// agent that came back to a running primary. The lease ends by itself if the FSM does not follow.
func (o *Observation) ahead() bool {
	return o.LeaseState == LeaseLive && o.Lease.Term > o.View.Key.Term
}
