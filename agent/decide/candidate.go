package decide

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgquorum/cluster"
)

// Valid filters the promises that count for term: made for exactly that term, by the incarnation that the FSM has for
// the node (V5), with a known position on a timeline that Raft allotted, or that was adopted with this node's data (F3).
func Valid(v *cluster.View, term cluster.Term, promises map[cluster.NodeID]cluster.Promise) map[cluster.NodeID]cluster.Promise {
	q := make(map[cluster.NodeID]cluster.Promise, len(promises))
	for name, p := range promises {
		member, registered := v.Nodes[name].Member()
		allotted := v.Forks.Counts(name, p.Position)
		if p.Term == term && registered && p.Member == member && p.Position.Known() && allotted {
			q[name] = p
		}
	}
	return q
}

// inHand are the promises that count for the term being taken, without those whose data has gone since: a node that has
// lost its directory, or has another life in it, has not what it promised with (V5).
func inHand(o *Observation) map[cluster.NodeID]cluster.Promise {
	q := Valid(o.View, o.TakeOver.Term, o.TakeOver.Promises)
	maps.DeleteFunc(q, func(n cluster.NodeID, p cluster.Promise) bool {
		s, known := statusOf(o, n)
		data := s.Postgres.Data
		return known && (data == cluster.DataAbsent || data == cluster.DataOurs && s.Postgres.Incarnation != p.Member.Incarnation)
	})
	return q
}

// Satisfied evaluates C1 over all recorded rules: m is the position that a candidate must have, the highest over the
// rules, where each rule counts with the lowest m of the ways in which it is satisfied. missing says, for an operator,
// which rule is not satisfied and for whom the cluster waits (B5).
func Satisfied(v *cluster.View, q map[cluster.NodeID]cluster.Promise) (m cluster.Position, missing string) {
	for i, r := range v.Rules {
		low, ok := ruleSatisfied(v, r, v.Rules[i+1:], q)
		if !ok {
			return cluster.Position{}, waitsFor(r, q)
		}
		if !m.Known() || v.Forks.Compare(low, m) > 0 {
			m = low
		}
	}
	return m, ""
}

// ruleSatisfied is C1 for one rule; later are the rules recorded after it.
func ruleSatisfied(v *cluster.View, r cluster.SyncRule, later []cluster.SyncRule, q map[cluster.NodeID]cluster.Promise) (low cluster.Position, ok bool) {
	consider := func(p cluster.Position) {
		if !ok || v.Forks.Compare(p, low) < 0 {
			low, ok = p, true
		}
	}
	if p, has := confirmedByQ(v, r, q); has { // (a)
		consider(p)
	}
	if p, in := q[r.Primary.Node]; in && p.Member == r.Primary && p.Fenced { // (b)
		consider(p.Position)
	}
	for _, l := range later { // (c)
		if p, in := q[l.Primary.Node]; l.Term > r.Term && in && p.Member == l.Primary && p.Fenced {
			consider(p.Position)
		}
	}
	if p, has := withinLag(v, r, q); r.Mode == cluster.SyncOff && has { // (d)
		consider(p)
	}
	return low, ok
}

// confirmedByQ is C1 (a): at least n-k+1 of S have promised, so that every acknowledged commit is on one of them. The
// highest position among them has them all.
func confirmedByQ(v *cluster.View, r cluster.SyncRule, q map[cluster.NodeID]cluster.Promise) (top cluster.Position, ok bool) {
	in := 0
	for _, s := range r.Standbys {
		p, promised := q[s.Node]
		if !promised || p.Member != s {
			continue
		}
		in++
		if !top.Known() || v.Forks.Compare(p.Position, top) > 0 {
			top = p.Position
		}
	}
	return top, r.K > 0 && in >= len(r.Standbys)-r.K+1
}

// withinLag is C1 (d): some node of Q is on the primary's timeline within maximum_lag_on_failover of its last recorded
// position; m is then the highest position in Q.
func withinLag(v *cluster.View, r cluster.SyncRule, q map[cluster.NodeID]cluster.Promise) (top cluster.Position, ok bool) {
	last := v.LastLSN.Position
	for _, p := range q {
		if !top.Known() || v.Forks.Compare(p.Position, top) > 0 {
			top = p.Position
		}
		if last.Known() && last.Timeline == r.Timeline && p.Position.Timeline == r.Timeline &&
			p.Position.LSN.Behind(last.LSN) <= v.Config.MaximumLagOnFailover {
			ok = true
		}
	}
	return top, ok
}

// waitsFor says whose promise would satisfy the rule.
func waitsFor(r cluster.SyncRule, q map[cluster.NodeID]cluster.Promise) string {
	var absent []string
	for _, s := range r.Standbys {
		if p, in := q[s.Node]; !in || p.Member != s {
			absent = append(absent, string(s.Node))
		}
	}
	need := len(r.Standbys) - r.K + 1
	if r.K == 0 {
		return fmt.Sprintf("acknowledged commits may be only on %s (term %d, k 0): waiting for %s", r.Primary.Node, r.Term, r.Primary.Node)
	}
	return fmt.Sprintf("acknowledged commits of term %d may be only on nodes without a promise: waiting for %s, or for %d of its %d standbys (missing: %s)",
		r.Term, r.Primary.Node, need, len(r.Standbys), strings.Join(absent, ", "))
}

// madeByHand says whose promises count for nothing because their WAL is on a timeline that was not allotted (F3).
func madeByHand(o *Observation) string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(o.TakeOver.Promises)) {
		p := o.TakeOver.Promises[n]
		if p.Position.Known() && !o.View.Forks.Counts(n, p.Position) {
			names = append(names, fmt.Sprintf("%s (timeline %d)", n, p.Position.Timeline))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; somebody has promoted by hand, so that these count for nothing: " + strings.Join(names, ", ")
}

// Choice is the outcome of the candidate rule C2.
type Choice struct {
	Node    cluster.NodeID
	CatchUp cluster.NodeID // Node must first stream from this one
	Missing string         // why there is none
}

// Choose applies C2: a voter, eligible, at or above m; among those the highest position, then priority, location, this
// node; one that has refused, and one whose disks are short of space (B2), come after the others. nofailover, location and non-voter never lower m: if only a node that is not eligible holds m, the best
// eligible one must first stream from it.
func Choose(o *Observation) Choice {
	_, c := chosenAmong(o)
	return c
}

// among is C2 with these promises.
func among(o *Observation, q map[cluster.NodeID]cluster.Promise) Choice {
	m, missing := Satisfied(o.View, q)
	if missing != "" {
		return Choice{Missing: missing + madeByHand(o)}
	}
	names := ranked(o, q)
	if len(names) == 0 {
		return Choice{Missing: "no node that promised may be promoted: " + whyNot(o, q)}
	}
	above := slices.DeleteFunc(slices.Clone(names), func(n cluster.NodeID) bool { return o.View.Forks.Compare(q[n].Position, m) < 0 })
	if len(above) > 0 {
		return Choice{Node: preferred(o, above)}
	}
	sources, waited := holdersOf(o, q, m)
	var pairs []Choice
	for _, src := range sources {
		for _, n := range names {
			if o.View.Forks.Relate(q[n].Position, q[src].Position.Timeline) != cluster.Diverged {
				pairs = append(pairs, Choice{Node: n, CatchUp: src})
			}
		}
	}
	switch {
	case len(pairs) > 0:
		return pairs[o.TakeOver.CatchUps%len(pairs)] // what cannot be done by one may be by another
	case len(sources) > 0:
		return Choice{Missing: fmt.Sprintf("position %s on timeline %d is needed; %s has it and may not be promoted (%s), and nobody else can follow it: %s",
			m.LSN, m.Timeline, sources[0], Ineligible(o, sources[0]), whyNot(o, q))}
	}
	return Choice{Missing: fmt.Sprintf("position %s on timeline %d is needed: waiting for %s", m.LSN, m.Timeline, strings.Join(waited, " or "))}
}

// preferred is the operator's candidate if it is among the good ones, else the best.
func preferred(o *Observation, above []cluster.NodeID) cluster.NodeID {
	if o.Request != nil && slices.Contains(above, o.Request.Candidate) && !refused(o, o.Request.Candidate) {
		return o.Request.Candidate
	}
	return above[0]
}

// ranked gives the nodes of Q that may be promoted, the best first.
func ranked(o *Observation, q map[cluster.NodeID]cluster.Promise) []cluster.NodeID {
	var names []cluster.NodeID
	for name := range q {
		if Ineligible(o, name) == "" {
			names = append(names, name)
		}
	}
	home := o.View.Nodes[o.View.Key.Holder].Tags.Location
	slices.SortFunc(names, func(a, b cluster.NodeID) int {
		na, nb := o.View.Nodes[a], o.View.Nodes[b]
		switch c := o.View.Forks.Compare(q[b].Position, q[a].Position); {
		case refused(o, a) != refused(o, b):
			return before(refused(o, b))
		case short(o, a) != short(o, b): // B2
			return before(short(o, b))
		case c != 0:
			return c
		case na.Tags.FailoverPriority != nb.Tags.FailoverPriority:
			return nb.Tags.FailoverPriority - na.Tags.FailoverPriority
		case (na.Tags.Location == home) != (nb.Tags.Location == home):
			return before(na.Tags.Location == home)
		case (a == o.Self) != (b == o.Self):
			return before(a == o.Self)
		}
		return strings.Compare(string(a), string(b))
	})
	return names
}

// refused says whether a node has said that it cannot take over in the next term (K6): it comes last, so that leadership
// does not go to and fro, and is tried again only when nobody else will do.
func refused(o *Observation, name cluster.NodeID) bool {
	r, ok := o.View.Refusals[name]
	return ok && r.Term == o.View.Key.Term+1
}

// short says whether a node is the last choice for its disks' sake (B2).
func short(o *Observation, name cluster.NodeID) bool {
	s, answered := statusOf(o, name)
	return answered && worse(s) != ""
}

func before(first bool) int {
	if first {
		return -1
	}
	return 1
}

// Ineligible says why a node that promised may not be promoted; empty: it may.
func Ineligible(o *Observation, name cluster.NodeID) string {
	status, answered := statusOf(o, name)
	switch {
	case !slices.Contains(o.Raft.Voters, name):
		return "it is not a voter"
	case o.View.Nodes[name].Tags.NoFailover:
		return "it is tagged nofailover"
	case name == o.Self && o.Request != nil && o.Request.Leaving:
		return "it is stopping"
	case !answered, silent(o, name):
		return "it did not answer"
	case status.CanPromote != "":
		return status.CanPromote
	}
	return ""
}

// statusOf gives a node's answer of this Raft term; this node's own status is always at hand.
func statusOf(o *Observation, name cluster.NodeID) (cluster.NodeStatus, bool) {
	if name == o.Self {
		return o.Local, true
	}
	s, ok := o.TakeOver.Statuses[name]
	return s, ok
}

// silent says whether a node did not answer when it was last asked for its status, whatever it said before: leadership cannot
// be given to it, nor WAL be had from it.
func silent(o *Observation, name cluster.NodeID) bool {
	_, is := o.TakeOver.Silent[name]
	return is && name != o.Self
}

// holdersOf finds the nodes of Q at or above m from which a candidate can stream; waited says of the others, for an operator,
// who has it and why it cannot be had from there.
func holdersOf(o *Observation, q map[cluster.NodeID]cluster.Promise, m cluster.Position) (sources []cluster.NodeID, waited []string) {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if o.View.Forks.Compare(q[name].Position, m) < 0 {
			continue
		}
		s, answered := statusOf(o, name)
		switch {
		case !answered, silent(o, name):
			waited = append(waited, fmt.Sprintf("%s (it did not answer)", name))
		case s.Postgres.State != cluster.PostgresRunning:
			waited = append(waited, fmt.Sprintf("%s (its postgres is %s)", name, cmp.Or(s.Postgres.State, "not looked at yet")))
		default:
			sources = append(sources, name)
		}
	}
	return sources, waited
}

// whyNot names each node of Q with the reason why it may not be promoted.
func whyNot(o *Observation, q map[cluster.NodeID]cluster.Promise) string {
	var parts []string
	for _, name := range o.View.Names() {
		if _, in := q[name]; in {
			parts = append(parts, fmt.Sprintf("%s: %s", name, cmp.Or(Ineligible(o, name), "it has WAL of its own")))
		}
	}
	return strings.Join(parts, "; ")
}
