package decide

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pgquorum/cluster"
)

// The second model of C1 and C2, deliberately simple. It knows nothing of n-k+1, nor of m: it looks at every commit, one
// at a time, and at every set of standbys that may have confirmed it. A commit under rule (P, S, k) at LSN c was on P
// and on each member of some k-subset of S. Whoever promised, promised with everything that it had; so a subset (or P)
// of which one member promised below c cannot have been it. What a later acquired primary has, it has from whoever it
// took over from: a commit that it lacks was not acknowledged under an older rule.

// lsns are all positions there are on a timeline in the model.
const lsns = 6

// mayHaveBeenAcknowledged says whether a commit at c under rule i can have been acknowledged, for all that Q tells.
func mayHaveBeenAcknowledged(v *cluster.View, i int, c cluster.Position, q map[cluster.NodeID]cluster.Promise) bool {
	lacks := func(m cluster.Member) bool {
		p, in := q[m.Node]
		return in && p.Member == m && v.Forks.Compare(p.Position, c) < 0
	}
	r := v.Rules[i]
	if p, in := q[r.Primary.Node]; in && p.Fenced && lacks(r.Primary) {
		return false
	}
	for _, later := range v.Rules[i+1:] {
		if p, in := q[later.Primary.Node]; in && p.Fenced && later.Term > r.Term && lacks(later.Primary) {
			return false
		}
	}
	for subset := range 1 << len(r.Standbys) {
		if bits.OnesCount(uint(subset)) != r.K {
			continue
		}
		possible := true
		for j, s := range r.Standbys {
			if subset&(1<<j) != 0 && lacks(s) {
				possible = false
			}
		}
		if possible {
			return true
		}
	}
	return false
}

// lost names a commit that may have been acknowledged and that a node at x does not have; empty: there is none.
func lost(v *cluster.View, q map[cluster.NodeID]cluster.Promise, x cluster.Position) string {
	for i, r := range v.Rules {
		for lsn := cluster.LSN(1); lsn <= lsns; lsn++ {
			c := pos(r.Timeline, lsn)
			if v.Forks.Compare(x, c) < 0 && mayHaveBeenAcknowledged(v, i, c, q) {
				return fmt.Sprintf("%d/%d of rule %d", c.Timeline, c.LSN, r.ID)
			}
		}
	}
	return ""
}

// drawTaker draws a taker n2 with random rules, promises and obstacles. One timeline, unless there are several terms.
func drawTaker(t *rapid.T) *Observation {
	o := taking()
	n := rapid.IntRange(2, 5).Draw(t, "nodes")
	var all []cluster.Member
	o.Raft.Voters = nil
	clear(o.View.Nodes)
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("n%d", i)
		id := cluster.NodeID(name)
		all = append(all, member(name))
		o.Raft.Voters = append(o.Raft.Voters, id)
		tags := cluster.Tags{FailoverPriority: rapid.IntRange(1, 3).Draw(t, name+" priority"), NoFailover: rapid.IntRange(0, 2).Draw(t, name+" nofailover") == 0}
		o.View.Nodes[id] = cluster.Node{Name: id, Incarnation: member(name).Incarnation, Tags: tags}
		if i != 2 {
			o.TakeOver.Statuses[id] = statusFor("n3")
		}
	}
	terms := rapid.IntRange(1, 3).Draw(t, "terms")
	o.View.Forks = cluster.Forks{}
	o.View.Rules = nil
	for term := 1; term <= terms; term++ {
		tl := cluster.Timeline(term)
		o.View.Forks[tl] = cluster.Fork{Timeline: tl, Parent: tl - 1, LSN: 1, Term: cluster.Term(term)}
		primary := rapid.SampledFrom(all).Draw(t, "primary")
		for range rapid.IntRange(1, 2).Draw(t, "rules of the term") {
			s := slices.DeleteFunc(rapid.SliceOfDistinct(rapid.SampledFrom(all), rapid.ID[cluster.Member]).Draw(t, "s"), func(m cluster.Member) bool { return m == primary })
			cluster.SortMembers(s)
			if len(s) > 0 && rapid.IntRange(0, 7).Draw(t, "former life") == 0 {
				s[0].Incarnation = "former"
			}
			o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: uint64(len(o.View.Rules) + 1), Term: cluster.Term(term), Primary: primary, Timeline: tl,
				Standbys: s, K: rapid.IntRange(0, len(s)).Draw(t, "k"), Mode: cluster.SyncQuorum})
		}
	}
	o.View.Key = cluster.LeaderKey{Holder: o.View.Rules[len(o.View.Rules)-1].Primary.Node, Term: 3, Timeline: cluster.Timeline(terms)}
	clear(o.TakeOver.Promises)
	for _, m := range all {
		if rapid.IntRange(0, 3).Draw(t, string(m.Node)+" promises") > 0 {
			p := promised(string(m.Node), 4, pos(cluster.Timeline(rapid.IntRange(1, terms).Draw(t, "timeline")), cluster.LSN(rapid.IntRange(1, lsns-1).Draw(t, "lsn"))))
			p.Fenced = rapid.IntRange(0, 5).Draw(t, "fenced") > 0
			o.TakeOver.Promises[m.Node] = p
		}
	}
	return o
}

// C1, C2, P2: whoever is chosen, and whatever m a candidate must have, has every commit that may have been acknowledged.
// Under one timeline the model and C1 also agree on whether there is such a candidate at all, so that C1 waits for no
// more than it must, and m is no lower, and with one confirmation to be found no higher, than the model's.
func TestC1AgainstASecondModel(t *testing.T) {
	satisfied, waited, chosen := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := drawTaker(t)
		v := o.View
		q := Valid(v, 4, o.TakeOver.Promises)
		m, missing := Satisfied(v, q)
		if missing == "" {
			satisfied++
			if l := lost(v, q, m); l != "" {
				t.Fatalf("m %+v leaves %s behind, rules %+v, promises %+v", m, l, v.Rules, q)
			}
		} else {
			waited++
		}
		if len(v.Forks) == 1 {
			if bound := lost(v, q, pos(1, lsns-1)); (bound == "") != (missing == "") {
				t.Fatalf("C1 says %q, the model that %q could be missing at the highest position; rules %+v, promises %+v", missing, bound, v.Rules, q)
			}
		}
		c := Choose(o)
		switch {
		case c.Node == "":
		case missing != "":
			t.Fatalf("chosen %+v while %s", c, missing)
		default:
			from := c.Node
			if c.CatchUp != "" {
				from = c.CatchUp
			}
			chosen++
			if l := lost(v, q, q[from].Position); l != "" {
				t.Fatalf("chosen %+v at %+v lacks %s; rules %+v, promises %+v", c, q[from].Position, l, v.Rules, q)
			}
			if v.Nodes[c.Node].Tags.NoFailover {
				t.Fatalf("C2: chosen %+v is nofailover", c)
			}
		}
		if d := choose(o); d.Action == Acquire {
			if l := lost(v, q, q[o.Self].Position); l != "" {
				t.Fatalf("K7: acquires at %+v and lacks %s; rules %+v, promises %+v", q[o.Self].Position, l, v.Rules, q)
			}
		}
	})
	if satisfied == 0 || waited == 0 || chosen == 0 {
		t.Fatalf("satisfied %d, waited %d, chosen %d: too few to mean anything", satisfied, waited, chosen)
	}
}

// G3: a rule that asks the same of the same primary on the same timeline as a newer one says nothing more: with it and without
// it C1 gives the same answer, so that the state machine need not keep it (docs/adr/0018).
func TestG3SameRuleTwiceIsOne(t *testing.T) {
	satisfied, waited := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := drawTaker(t)
		v := o.View
		q := Valid(v, 4, o.TakeOver.Promises)
		i := rapid.IntRange(0, len(v.Rules)-1).Draw(t, "again")
		again := v.Rules[i]
		again.Term = v.Rules[len(v.Rules)-1].Term + cluster.Term(rapid.IntRange(0, 1).Draw(t, "acquired"))
		both, one := *v, *v
		both.Rules = append(slices.Clone(v.Rules), again)
		one.Rules = slices.Delete(slices.Clone(both.Rules), i, i+1)
		m, missing := Satisfied(&both, q)
		n, lacking := Satisfied(&one, q)
		if m != n || (missing == "") != (lacking == "") {
			t.Fatalf("rule %d twice: %+v %q; once: %+v %q; rules %+v, promises %+v", i, m, missing, n, lacking, both.Rules, q)
		}
		if missing == "" {
			satisfied++
		} else {
			waited++
		}
	})
	if satisfied == 0 || waited == 0 {
		t.Fatalf("satisfied %d, waited %d: too few to mean anything", satisfied, waited)
	}
}

// C1 (a): m is the highest position in Q ∩ S, which the model confirms to be no more than is needed where exactly one
// member of any k-subset is known to be in Q.
func TestC1mIsNoHigherThanNeeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawTaker(t)
		v := o.View
		q := Valid(v, 4, o.TakeOver.Promises)
		m, missing := Satisfied(v, q)
		if len(v.Forks) > 1 || len(v.Rules) > 1 || missing != "" {
			return
		}
		r, in := v.Rules[0], 0
		for _, s := range r.Standbys {
			if p, promised := q[s.Node]; promised && p.Member == s {
				in++
			}
		}
		if r.K > 0 && in > len(r.Standbys)-r.K+1 {
			return // more promised than needed: (a) takes the highest of them all the same
		}
		if lower := pos(1, m.LSN-1); m.LSN > 1 && lost(v, q, lower) == "" {
			t.Fatalf("m %+v, but %+v would do; rule %+v, promises %+v", m, lower, r, q)
		}
	})
}
