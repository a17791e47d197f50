package decide

// KeySettled says whether the key is settled in this leader's Raft term, so that it may change the membership (L6): after
// its Barrier it holds the key under a lease that was proven in this Raft term, and the newest rule of the key's term has
// been settled since, or it has seen the holder well and has begun no take-over; before the first key nothing is to settle.
// before: it was settled already for this Raft term and this term of the key; a rule that is changed later does not undo
// that, the loss of the lease does (G1).
func KeySettled(o *Observation, before bool) bool {
	switch {
	case !o.leads():
		return false
	case o.View.Key.Term == 0: // no key was ever given: there is no lease that a change could touch
		return true
	case o.holds():
		return o.Lease.RaftTerm == o.Raft.Term && (before || RuleSettled(o))
	}
	return holderWell(o)
}

// holderWell says whether another node has answered in this Raft term that it runs the primary under a live lease, and
// this leader takes nothing over: it is about to hand leadership back (K3). After the last hand-back it takes over.
func holderWell(o *Observation) bool {
	k := o.View.Key
	s, answered := o.TakeOver.Statuses[k.Holder]
	return k.Holder != o.Self && !k.Released && answered && leaseOutlives(o, s) && isPrimary(s) &&
		o.TakeOver.RaftTerm == o.Raft.Term && o.TakeOver.PromisedAt.IsZero() && o.View.Handbacks < MaxHandbacks
}
