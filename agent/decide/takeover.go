package decide

import (
	"fmt"
	"time"

	"pgquorum/cluster"
)

// MaxHandbacks bounds the hand-backs of leadership to one holder in one term (K3).
const MaxHandbacks = 2

// takeOver is section 5 of the protocol, step by step, for a Raft leader that is not covered by a live lease. Each call
// looks at what has been gathered and names the next step, so that any step can be tried again.
func takeOver(o *Observation) (Decision, bool) {
	if o.Raft.State != cluster.RaftLeader {
		return Decision{}, false
	}
	if !o.Barrier { // K1; for a holder to which leadership came back L2 asks the same: its lease is not renewed before
		return Decision{Action: Barrier, Reason: ReasonNewLeader}, true
	}
	if o.holds() || o.acquiring() {
		return Decision{}, false
	}
	if o.Job.Action == HandOver || o.Job.Action == Switchover {
		return Decision{Action: Wait, Reason: ReasonJob, Detail: string(o.Job.Action)}, true // the key is about to be released
	}
	if d, ok := reacquire(o); ok { // U6
		return d, true
	}
	if chosen(o) { // K6: what the former leader gathered is enough
		return acquire(o), true
	}
	released := o.View.Key.Released && o.TakeOver.PromisedAt.IsZero()
	if released && o.View.SystemID != "" { // K2 goes with K4: there is nobody to hand back to
		return Decision{Action: AskPromises, Reason: ReasonPromises, Term: o.TakeOver.Term}, true
	}
	if o.TakeOver.AskedAt.IsZero() && !o.View.Key.Released { // K2
		return Decision{Action: AskStatus, Reason: ReasonHolderUnknown}, true
	}
	if o.View.Key.Term == 0 || o.View.SystemID == "" {
		return bootstrap(o)
	}
	if d, ok := handBack(o); ok { // K3
		return d, true
	}
	if o.TakeOver.PromisedAt.IsZero() { // K4
		return Decision{Action: AskPromises, Reason: ReasonPromises, Term: o.TakeOver.Term}, true
	}
	if heir := heir(o); heir != "" {
		return unlessResting(o, Decision{Action: Transfer, Reason: ReasonCannotVouch, Node: heir, Term: o.TakeOver.Term}), true
	}
	if !leaseOver(o) { // K5
		return again(o, Decision{Action: Wait, Reason: ReasonLeaseNotOver,
			Detail: fmt.Sprintf("lease of %s in term %d, %v at most", o.View.Key.Holder, o.View.Key.Term, waitLeft(o).Round(time.Millisecond))}), true
	}
	return choose(o), true
}

// chosen says whether leadership came with promises under which this node may acquire at once: the key is released, so
// that neither a hand-back nor a wait is due, and the promises satisfy every rule.
func chosen(o *Observation) bool {
	return o.TakeOver.Came && o.View.Key.Released && o.TakeOver.AskedAt.IsZero() && acquire(o).Action == Acquire
}

// handBack is K3: the holder lives under a lease that outlives a transfer, and runs as primary or comes back sooner than
// another could take over; or its primary is frozen and can go on (U6). Twice in a term; after that the take-over goes on,
// so that a holder that cannot keep leadership does not keep the cluster waiting. A restart in place is bound to the lease
// of the term, so any other holder whose lease is over gets nothing back here: it starts as a standby and is chosen, if it
// has most, by K6.
func handBack(o *Observation) (Decision, bool) {
	k := o.View.Key
	s, answered := o.TakeOver.Statuses[k.Holder]
	if k.Holder == o.Self || k.Released || o.View.Handbacks >= MaxHandbacks || !answered {
		return Decision{}, false
	}
	d := Decision{Action: HandBack, Reason: ReasonHolderWell, Node: k.Holder, Term: k.Term}
	if thawsAtOnce(o, s) { // U6
		d.Reason = ReasonHolderFrozen
		return d, true
	}
	if !leaseOutlives(o, s) {
		return Decision{}, false
	}
	if servesOrWill(o, s) {
		return d, true
	}
	d.Reason = ReasonHolderSooner
	return d, comesBackSooner(o, s)
}

// leaseOutlives says whether the holder's status shows a lease of the key's term that outlives a transfer, which no
// promise of a later term has ended.
func leaseOutlives(o *Observation, s cluster.NodeStatus) bool {
	k := o.View.Key
	return s.LeaseTerm == k.Term && s.Lease > transferTime(o) && s.Promised <= k.Term && s.Guard.Alive
}

// servesOrWill says whether the holder runs as primary, or is the standby that its own acquisition is about to promote. An
// agent that has just come back, and has not looked at its Postgres yet (L9), is judged by its lease alone: promises asked
// meanwhile would cut every standby from a primary that is well.
func servesOrWill(o *Observation, s cluster.NodeStatus) bool {
	fork := o.View.Forks[o.View.Key.Timeline]
	promoted := fork.Term == o.View.Key.Term && fork.Node == o.View.Key.Holder
	return s.Postgres.State == "" || isPrimary(s) || s.Postgres.State == cluster.PostgresRunning && promoted
}

func isPrimary(s cluster.NodeStatus) bool {
	return s.Postgres.State == cluster.PostgresRunning && s.Postgres.Role == cluster.RolePrimary
}

// comesBackSooner is C3 seen by a taker: the holder's Postgres is down or recovers, nobody is ready at once, and by the
// estimate its redo ends before another, for whom the lease must be over first, could be promoted. One that is of
// unknown length is waited for only if nobody else could take over at all.
func comesBackSooner(o *Observation, s cluster.NodeStatus) bool {
	p := s.Postgres
	down := p.State == cluster.PostgresStopped || p.State == cluster.PostgresStarting
	if !down || p.Data != cluster.DataOurs || p.State == cluster.PostgresStopped && p.Timeline != o.View.Key.Timeline {
		return false
	}
	_, takes, can := soonest(o, func(n cluster.NodeID) (cluster.NodeStatus, bool) { return statusOf(o, n) })
	redo, known := redoTime(s)
	switch {
	case !can:
		return true
	case takes <= ReadyWithin || !known:
		return false
	}
	return redo < max(waitLeft(o), 0)+takes
}

// HolderNotWaitedFor says whether a take-over goes on without the holder's status, once all others have answered (K2): the
// holder is silent to Raft, too, and the others' attests show that its lease is over. One that Raft hears has its time: it may
// be back from a cut, with a primary that is only frozen (U6), and a promise would end that.
func HolderNotWaitedFor(o *Observation) bool {
	return !o.HolderHeard && leaseAttested(o)
}

// AsksBack says whether a node that asks for leadership (L9) is the holder whose key this leader may take over: then its
// status is wanted at once, for K3.
func AsksBack(o *Observation, from cluster.NodeID) bool {
	return from != "" && from != o.Self && from == o.View.Key.Holder && o.leads() && !o.View.Key.Released
}

// transferTime is what a transfer of leadership and the first answers under it may take: two heartbeat intervals.
func transferTime(o *Observation) time.Duration { return o.Heartbeat / 5 }

// heir names a voter that promised, when this node is the holder itself, has lost its lease, and cannot promise (its guard
// cannot reap, or its disk hangs): as a leader it would never see its own lease end, another will.
func heir(o *Observation) cluster.NodeID {
	k := o.View.Key
	_, own := o.TakeOver.Promises[o.Self]
	if k.Holder != o.Self || k.Released || own || o.TakeOver.Began.IsZero() || o.Now.Sub(o.TakeOver.Began) < k.Lease.Wait()+heirAfter {
		return ""
	}
	var heirs []cluster.NodeID
	for _, n := range o.View.Names() {
		if _, promised := o.TakeOver.Promises[n]; promised && n != o.Self && Ineligible(o, n) == "" {
			heirs = append(heirs, n)
		}
	}
	if len(heirs) == 0 {
		return ""
	}
	return heirs[o.TakeOver.Hops%len(heirs)]
}

// heirAfter is how much longer than W a former holder tries to promise itself before it gives leadership away.
const heirAfter = 2 * time.Second

// leaseOver is K5: released, fenced, attested, or waited for. The extended lease (L8) and the open lease of a pause
// (B3) are never over by themselves.
func leaseOver(o *Observation) bool {
	k := o.View.Key
	switch {
	case o.View.Extension != nil && o.View.Extension.Term == k.Term, o.View.Pause != nil && o.View.Pause.Term == k.Term:
		return false
	case k.Released, holderFenced(o):
		return true
	}
	return leaseAttested(o) || waitLeft(o) <= 0
}

// leaseAttested says whether the attests show that the holder's lease is over (K5).
func leaseAttested(o *Observation) bool {
	k := o.View.Key
	return cluster.LeaseSurelyOver(k.Lease.Wait(), o.Raft.Term, k.Holder, o.Voters, o.TakeOver.Attests)
}

// holderFenced says whether the holder itself has promised: a holder promises only after its guard answered fenced.
func holderFenced(o *Observation) bool {
	p, ok := o.TakeOver.Promises[o.View.Key.Holder]
	return ok && p.Fenced && p.Term == o.TakeOver.Term
}

// waitLeft is what remains of W since the Barrier of this Raft term. A ledger that began later in the term, after this
// node's own acquisition, has no such moment: its own lease ends by release or fence only.
func waitLeft(o *Observation) time.Duration {
	if o.TakeOver.BarrierAt.IsZero() {
		return o.View.Key.Lease.Wait()
	}
	return o.TakeOver.BarrierAt.Add(o.View.Key.Lease.Wait()).Sub(o.Now)
}

// choose is K6 and K7.
func choose(o *Observation) Decision {
	c := Choose(o)
	switch {
	case c.Node == "":
		return again(o, Decision{Action: Wait, Reason: ReasonNoCandidate, Detail: c.Missing})
	case c.CatchUp != "":
		return unlessResting(o, Decision{Action: CatchUp, Reason: ReasonBehind, Node: c.Node, Source: c.CatchUp, Term: o.TakeOver.Term})
	case c.Node != o.Self && (o.TakeOver.Hops < len(o.Raft.Voters)+1 || acquire(o).Action != Acquire && rested(o)):
		return unlessResting(o, Decision{Action: Transfer, Reason: ReasonBetterCandidate, Node: c.Node, Term: o.TakeOver.Term})
	case c.Node != o.Self && Ineligible(o, o.Self) != "":
		return again(o, Decision{Action: Wait, Reason: ReasonNoCandidate, Detail: fmt.Sprintf("%s is the candidate, but leadership came back %d times", c.Node, o.TakeOver.Hops)})
	}
	return acquire(o)
}

// unlessResting gives a step that needs another node. While a try of it that failed rests, all are asked anew instead: the node
// may be gone, and who is silent then is passed over.
func unlessResting(o *Observation, step Decision) Decision {
	next := o.retryAfter(step.Action)
	if next.IsZero() {
		return step
	}
	d := again(o, Decision{Action: Wait, Reason: ReasonRetry, Detail: fmt.Sprintf("%s by %s did not succeed", step.Action, step.Node)})
	if d.Action == Wait {
		d.Wake = min(d.Wake, next)
	}
	return d
}

// rested says whether a leader that cannot acquire itself may hand on once more: leadership that has come back too often
// rests for a heartbeat timeout here, and not for good.
func rested(o *Observation) bool { return o.Now.Sub(o.TakeOver.HandedAt) >= o.Heartbeat }

// acquire is K7. A candidate that leadership keeps coming back to takes over itself if it, too, is good enough.
func acquire(o *Observation) Decision {
	q, _ := chosenAmong(o)
	m, missing := Satisfied(o.View, q)
	if missing != "" { // B5
		return again(o, Decision{Action: Wait, Reason: ReasonNoCandidate, Detail: missing + madeByHand(o)})
	}
	mine, promised := q[o.Self]
	if !promised || o.View.Forks.Compare(mine.Position, m) < 0 || Ineligible(o, o.Self) != "" {
		return again(o, Decision{Action: Wait, Reason: ReasonNoCandidate, Detail: "this node does not satisfy the recorded rules itself"})
	}
	rule := AcquireRule(o, o.Self, inHand(o))
	seen := o.Local.SeenMax
	for _, s := range o.TakeOver.Statuses {
		seen = max(seen, s.SeenMax)
	}
	return Decision{Action: Acquire, Reason: ReasonBestCandidate, Term: o.TakeOver.Term, Acquire: cluster.AcquireLeader{
		Node: o.Self, ExpectTerm: o.View.Key.Term, RulesVersion: o.View.RulesVersion, Member: mine.Member,
		Parent: mine.Position.Timeline, SeenMax: seen, Lease: o.Lease0,
		Standbys: rule.Standbys, K: rule.K, Mode: rule.Mode,
	}}
}

// again asks anew for what is missing once a quarter of the heartbeat timeout has passed since the last round began, and a
// moment since it ended: in between this node's own duties have their turn, such as to start its Postgres.
func again(o *Observation, wait Decision) Decision {
	next := max(o.TakeOver.AskedAt, o.TakeOver.PromisedAt).Add(o.Heartbeat / 4)
	if over := o.TakeOver.RoundAt; !over.IsZero() { // a round that waits for silent nodes lasts as long as that
		next = max(next, over.Add(o.Heartbeat/20))
	}
	if o.Now.Before(next) {
		wait.Wake = next
		if left := waitLeft(o); wait.Reason == ReasonLeaseNotOver && left > 0 {
			wait.Wake = min(next, o.Now.Add(left))
		}
		return wait
	}
	return Decision{Action: AskPromises, Reason: wait.Reason, Detail: wait.Detail, Term: o.TakeOver.Term}
}

// MayPromise says why a node refuses a promise for term to a taker that leads in raftTerm; empty: it may. The promise
// itself is checked again where it is made durable (V1).
func MayPromise(o *Observation, term cluster.Term, raftTerm uint64) string {
	switch {
	case raftTerm < o.Raft.Term:
		return fmt.Sprintf("asked in raft term %d, this node is in %d", raftTerm, o.Raft.Term)
	case term <= o.View.Key.Term:
		return fmt.Sprintf("asked for term %d, the key is in term %d already", term, o.View.Key.Term)
	case o.Promised > term:
		return fmt.Sprintf("promised term %d already", o.Promised)
	case o.holds() && term > o.View.Key.Term:
		return fmt.Sprintf("this node holds the key under a live lease of term %d", o.View.Key.Term)
	case o.Local.DiskFault != "":
		return noWrite(o.Local)
	case o.Refused != "":
		return o.Refused
	}
	if _, ok := o.me(); !ok {
		return fmt.Sprintf("data directory is %s: no incarnation, no promise", o.Local.Postgres.Data)
	}
	return ""
}
