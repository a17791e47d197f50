package decide

import (
	"slices"
	"time"

	"pgquorum/cluster"
)

// HeldPatience is how long a node waits to be taken out of the rules before its life goes on in a copy. With any standby
// that follows it takes a moment, or the 3 s after which k is lowered (S5).
const HeldPatience = 10 * time.Second

// heldByRule says whether this node must wait for the holder to take it out of the rules before its data makes way (V5).
// Where too few of the standbys that the newest rule names can follow, that never comes to pass: a rule is settled only by
// their confirmations. Then one that was patient goes on. What takes the place of data that is there bears the life that
// the rules name: the holder has all that was ever acknowledged under them (C1), so a copy of it has what this life
// confirmed (docs/adr/0025). Lost data makes way for a new life (docs/adr/0032). life is empty for a node in no rule.
func heldByRule(o *Observation, detail string) (life cluster.Incarnation, wait *Decision) {
	me := o.View.Nodes[o.Self]
	if !inRule(o, me) {
		return "", nil
	}
	d := &Decision{Action: Wait, Reason: ReasonInRule, Detail: detail}
	switch until := o.HeldSince.Add(HeldPatience); {
	case onlyHere(o):
		d.Detail += "; a rule lets commits be on this node alone, so that it is not copied over without a person"
		return "", d
	case o.HeldSince.IsZero():
		return "", d
	case o.Now.Before(until):
		d.Wake = until
		return "", d
	}
	return me.Incarnation, nil
}

// Held says whether this node's data can follow nobody as it is, or is not there, while it counts in a rule that nobody
// else can settle, and while there is a holder to copy from.
func Held(o *Observation) bool {
	src, _ := copySource(o)
	if _, fresh := o.lately(src); src == "" || !fresh || !inRule(o, o.View.Nodes[o.Self]) || othersSettle(o) {
		return false
	}
	switch o.Local.Postgres.Data {
	case cluster.DataRewinding, cluster.DataAbsent, cluster.DataUnclaimed:
		return true
	case cluster.DataOurs:
		if !o.Position.Known() { // right after a stop: what was so, is
			return !o.HeldSince.IsZero()
		}
		return o.Removed != "" || o.View.Forks.Relate(o.Position, o.View.Key.Timeline) == cluster.Diverged
	}
	return false
}

// othersSettle says whether enough of the newest rule's other standbys stream from the holder: it will be settled, and this
// node let go.
func othersSettle(o *Observation) bool {
	cur, ok := o.View.Current()
	if !ok {
		return false
	}
	n := 0
	for _, m := range cur.Standbys {
		s, fresh := o.lately(m.Node)
		p := s.Postgres
		if m.Node != o.Self && fresh && p.Incarnation == m.Incarnation && p.Streaming && p.Source == o.View.Key.Holder {
			n++
		}
	}
	return n >= cur.K
}

// onlyHere says whether a recorded rule lets commits be acknowledged that only this life has: nobody copies over that (B4),
// also where the holder should have it all.
func onlyHere(o *Observation) bool {
	me, _ := o.View.Nodes[o.Self].Member()
	return slices.ContainsFunc(o.View.Rules, func(r cluster.SyncRule) bool { return r.Primary == me && r.K == 0 })
}

// Outlived says whether the term has ended in which a copy for a held life was begun: its source may be a former primary,
// and a taker needs this node's Postgres.
func Outlived(d Decision, k cluster.LeaderKey, promised cluster.Term) bool {
	return d.Life != "" && (k.Term != d.Term || k.Released || promised > d.Term)
}
