package decide

import (
	"slices"
	"time"

	"pgquorum/cluster"
)

// RuleChange is a wanted sync rule. Every change to it goes the one joint path of S2, with all four steps: the two
// short cuts that S2 allows save a millisecond and are not taken.
type RuleChange struct {
	Standbys []cluster.Member
	K        int
	Mode     cluster.SyncMode
}

// LowerAfter is how long fewer than k of S must be unable to confirm before k is lowered (S5).
const LowerAfter = 3 * time.Second

// DataNodes is D of S1: registered voters with data that may be promoted and stream directly.
func DataNodes(v *cluster.View, voters []cluster.NodeID) []cluster.Member {
	var d []cluster.Member
	for _, name := range v.Names() {
		n := v.Nodes[name]
		m, hasData := n.Member()
		if hasData && slices.Contains(voters, name) && !n.Tags.NoFailover && !n.Tags.NoSync {
			d = append(d, m)
		}
	}
	return d
}

// others are the members of D but a primary: those that may confirm its commits. A primary counts in |D| whatever its
// tags say of it as a standby.
func others(o *Observation, primary cluster.NodeID) []cluster.Member {
	return slices.DeleteFunc(DataNodes(o.View, o.Raft.Voters), func(m cluster.Member) bool { return m.Node == primary })
}

// FullFor is k_full while primary is the primary (S1).
func FullFor(o *Observation, primary cluster.NodeID) int {
	return KFull(len(others(o, primary))+1, len(o.Raft.Voters), o.View.Config.SynchronousNodeCount)
}

// KFull is k_full of S1 for |D| data nodes and N voters: min(n, max(floor(|D|/2), f)), f = N-q. The operator's
// synchronous_node_count can raise it, not lower it.
func KFull(d, voters, nodeCount int) int {
	n := max(d-1, 0)
	f := voters - cluster.Quorum(voters)
	return min(n, max(d/2, f, nodeCount))
}

// WantedRule is the rule that the holder should have now: the standbys that stream, those that already count, less
// those that asked to leave, with k as high as they allow (S1), and lowered only by S5.
func WantedRule(o *Observation) RuleChange {
	d := others(o, o.Self)
	cur, _ := o.View.Current()
	mode := o.View.Config.SynchronousMode
	if mode == cluster.SyncOff {
		return RuleChange{Mode: mode}
	}
	full := KFull(len(d)+1, len(o.Raft.Voters), o.View.Config.SynchronousNodeCount)
	var s, leaving []cluster.Member
	for _, m := range d {
		switch {
		case wantsOut(o, m) && cur.Has(m):
			leaving = append(leaving, m)
		case !wantsOut(o, m) && (streams(o, m) || cur.Has(m)):
			s = append(s, m)
		}
	}
	k := min(full, len(s)+len(leaving))
	if lower, may := lowered(o, len(d)+1, s, k); may {
		k = lower
	}
	if len(s) < k { // only S5 lowers k: until it may, nobody leaves
		s = append(s, leaving...)
	}
	k = min(k, len(s))
	if mode == cluster.SyncOn {
		s = named(o, cur, s, k)
	}
	cluster.SortMembers(s)
	return RuleChange{Standbys: s, K: k, Mode: mode}
}

// lowered is S5: with fewer than k of S able to confirm for LowerAfter, k goes down to what can, not below 1 if there
// are three data nodes or more, to 0 if there are two; never in strict mode. A rule lowered before stays so until
// enough stream again.
func lowered(o *Observation, d int, s []cluster.Member, k int) (int, bool) {
	if o.View.Config.SynchronousModeStrict || k == 0 {
		return 0, false
	}
	can := countAble(o, s)
	cur, _ := o.View.Current()
	lasted := !o.StandbyLackingSince.IsZero() && o.Now.Sub(o.StandbyLackingSince) >= LowerAfter
	if can >= k || !lasted && cur.K >= k {
		return 0, false
	}
	floor := 1
	if d <= 2 {
		floor = 0
	}
	if !lasted { // lowered before: no higher than what can confirm, no lower than it stands
		return max(min(can, k), cur.K), cur.K < k
	}
	return max(can, floor), true
}

// named picks exactly k members for the mode on (S7): those that count already first.
func named(o *Observation, cur cluster.SyncRule, s []cluster.Member, k int) []cluster.Member {
	ordered := slices.Clone(s)
	slices.SortStableFunc(ordered, func(a, b cluster.Member) int {
		return rank(o, cur, a) - rank(o, cur, b)
	})
	return ordered[:k]
}

func rank(o *Observation, cur cluster.SyncRule, m cluster.Member) int {
	switch {
	case able(o, m) && cur.Has(m):
		return 0
	case streams(o, m):
		return 1
	case cur.Has(m):
		return 2
	}
	return 3
}

// wantsOut says whether the member's node has asked to be taken out of the rules: it is about to rewind, to be cloned
// or to stop (V5, S8), or its data is gone.
func wantsOut(o *Observation, m cluster.Member) bool {
	p, known := o.Peers[m.Node]
	return known && !p.At.IsZero() && p.Status.WantsOut == m.Incarnation
}

// Unable says whether fewer than k of the newest rule's standbys stream, so that commits wait (S5).
func Unable(o *Observation) bool {
	cur, ok := o.View.Current()
	return ok && countAble(o, cur.Standbys) < cur.K
}

func countAble(o *Observation, ms []cluster.Member) int {
	n := 0
	for _, m := range ms {
		if able(o, m) {
			n++
		}
	}
	return n
}

// rules are the holder's duties towards the sync rules: one change at a time, the older ones settled first (G3), but
// that a rule which cannot be settled for want of standbys may be followed by the wanted one: k lowered (S5), a member
// that streams added, one that asks to leave taken out. A further rule only adds to what a candidate must satisfy.
func rules(o *Observation) (Decision, bool) {
	cur, ok := o.View.Current()
	if !ok || !o.leads() {
		return Decision{}, false
	}
	want := WantedRule(o)
	differs := cur.K != want.K || cur.Mode != want.Mode || !slices.Equal(cur.Standbys, want.Standbys)
	settled := RuleSettled(o)
	switch {
	case differs && (settled || want.K < cur.K || Unable(o)):
		return Decision{Action: ChangeRule, Reason: ReasonRuleDiffers, Rule: want}, true
	case !settled:
		return Decision{Action: SettleRule, Reason: ReasonRuleUnsettled}, true
	}
	return Decision{}, false
}

// AcquireRule is the rule that an acquisition by candidate adds (K7). If the promised members that can follow it without
// a rewind reach k_full, it names all data nodes, as StandbyList does: that list is in force already, and a member that
// must rewind can be taken out at once, since the others suffice (V5). If they do not, the data nodes that have not
// promised are added, so that taking over never lowers k by itself (S5 does, later, and says so); one that must rewind
// counts then only if there is no other, for as long as it counts it may not rewind.
func AcquireRule(o *Observation, candidate cluster.NodeID, q map[cluster.NodeID]cluster.Promise) RuleChange {
	mode := o.View.Config.SynchronousMode
	if mode == cluster.SyncOff {
		return RuleChange{Mode: mode}
	}
	d := others(o, candidate)
	full := KFull(len(d)+1, len(o.Raft.Voters), o.View.Config.SynchronousNodeCount)
	var ready, silent, diverged []cluster.Member
	for _, m := range d {
		p, promised := q[m.Node]
		switch {
		case !promised || p.Member != m:
			silent = append(silent, m)
		case FollowsWithoutRewind(o.View.Forks, p.Position, q[candidate].Position):
			ready = append(ready, m)
		default:
			diverged = append(diverged, m)
		}
	}
	var s []cluster.Member
	switch {
	case len(ready) >= full && mode == cluster.SyncQuorum:
		s = slices.Concat(ready, silent, diverged) // StandbyList: proven already, and the ready ones suffice
	case len(ready) >= full:
		s = ready
	case len(ready)+len(silent) > 0:
		s = slices.Concat(ready, silent)
	default:
		s = diverged
	}
	k := min(full, len(s))
	if mode == cluster.SyncOn {
		s = s[:k]
	}
	cluster.SortMembers(s)
	return RuleChange{Standbys: s, K: k, Mode: mode}
}

// FollowsWithoutRewind says whether WAL that ends at p is the beginning of a candidate's. Only then may a standby stream from
// it: PostgreSQL admits others too, and takes their word for WAL that they do not have (S6).
func FollowsWithoutRewind(f cluster.Forks, p, candidate cluster.Position) bool {
	return f.Relate(p, candidate.Timeline) == cluster.Prefix && f.Compare(p, candidate) <= 0
}

// FollowsByItself says whether a standby whose WAL ends at p may stream a timeline without an order of its holder. As long as
// its fork is not recorded it may not: the holder may be a standby yet, whose promotion leaves out the end of what it would send (S6).
func FollowsByItself(f cluster.Forks, p cluster.Position, t cluster.Timeline) bool {
	return f.Relate(p, t) == cluster.Prefix && (p.Timeline == t || !f.Pending(t))
}

// SendsWholeRecords says whether a candidate's walsenders can have sent nothing that its promotion leaves out, and can send no such
// thing any more: it is cut off. Of the last record that it has received only a piece may be there, which is sent on all the same:
// PostgreSQL would count what a standby has said of that for the first commits of the new timeline, for as long as nothing newer
// comes from there (S6, docs/adr/0036).
func SendsWholeRecords(p cluster.PostgresStatus) bool {
	cutOff := p.Source == "" && !p.Streaming
	return p.State == cluster.PostgresRunning && (p.Role == cluster.RolePrimary || cutOff && p.Received <= p.Replayed)
}

// NextTimeline is the number that this node's own acquisition would most likely be given (F1): its list bears it beforehand.
func NextTimeline(o *Observation, seen ...cluster.Timeline) cluster.Timeline {
	return o.View.UsedTimeline(append(seen, o.Local.SeenMax)...) + cluster.TimelineStep
}

// StandbyList is the list that a data node runs with while it is no primary (S3): never empty once another member is
// known, so that the checkpointer's flag is set long before a promotion needs it.
func StandbyList(o *Observation) RuleChange {
	mode := o.View.Config.SynchronousMode
	if mode == cluster.SyncOff {
		return RuleChange{Mode: mode}
	}
	s := others(o, o.Self)
	k := min(max(1, KFull(len(s)+1, len(o.Raft.Voters), o.View.Config.SynchronousNodeCount)), len(s))
	if mode == cluster.SyncOn {
		s = s[:k]
	}
	return RuleChange{Standbys: s, K: k, Mode: mode}
}
