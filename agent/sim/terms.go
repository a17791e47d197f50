package sim

import "pgquorum/cluster"

// tenure is who holds the key in a term, with which life of its data, and on which timeline.
type tenure struct {
	member   cluster.Member
	timeline cluster.Timeline
}

// terms are all terms as any node ever knew of them, over all nodes and all time.
type terms struct {
	of     map[cluster.Term]tenure         // by the key, as any node has applied it
	leased map[cluster.Term]cluster.NodeID // by the guards: where a lease of the term was armed
	newest map[cluster.NodeID]cluster.Term // that a node was ever named the holder of
	broken map[cluster.Term]bool           // it was said once
}

func newTerms() terms {
	return terms{of: map[cluster.Term]tenure{}, leased: map[cluster.Term]cluster.NodeID{}, newest: map[cluster.NodeID]cluster.Term{}, broken: map[cluster.Term]bool{}}
}

// allotted is the term in which a timeline was allotted; 0: no view has shown one. Later terms of the same holder have it, too.
func (t terms) allotted(tli cluster.Timeline) (first cluster.Term) {
	for term, now := range t.of {
		if now.timeline == tli && (first == 0 || term < first) {
			first = term
		}
	}
	return first
}

// named checks that a term is one holder's, with one life, on one timeline, whichever node's view says so and when (K7, F1). by
// is the node whose view it is. It is called for each view that a node applies, before anybody acts on it.
func (w *World) named(by cluster.NodeID, k cluster.LeaderKey) {
	if k.Term == 0 {
		return
	}
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	now := tenure{k.Member, k.Timeline}
	if k.Holder != k.Member.Node {
		w.brokenTerm(k.Term, "K7: term %d is %s's by the view of %s, with the data of %s", k.Term, k.Holder, by, k.Member.Node)
	}
	if was, known := h.terms.of[k.Term]; known && was != now {
		w.brokenTerm(k.Term, "K7: term %d is %s's on timeline %d by the view of %s, and was %s's on timeline %d", k.Term, now.member.Life(), now.timeline, by, was.member.Life(), was.timeline)
	}
	if armed, known := h.terms.leased[k.Term]; known && armed != k.Holder {
		w.brokenTerm(k.Term, "L2: term %d is %s's by the view of %s, and %s's guard had a lease of it", k.Term, k.Holder, by, armed)
	}
	h.terms.of[k.Term] = now
	h.terms.newest[k.Holder] = max(h.terms.newest[k.Holder], k.Term)
}

// forked checks that a timeline is that of the term in which it was allotted, as the key of that term was ever seen (F1).
func (w *World) forked(by cluster.NodeID, f cluster.Fork) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if of, known := h.terms.of[f.Term]; known && (of.member.Node != f.Node || of.timeline != f.Timeline) {
		w.brokenTerm(f.Term, "F1: timeline %d of term %d is %s's by the view of %s, and the key of that term was %s's on timeline %d", f.Timeline, f.Term, f.Node, by, of.member.Node, of.timeline)
	}
}

// armed checks that no two guards ever have leases of one term, and that nobody's has one of another's (L2, U2).
func (w *World) armed(node cluster.NodeID, t cluster.Term) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, known := h.terms.leased[t]; known && other != node {
		w.brokenTerm(t, "L2: the guards of %s and %s both had leases of term %d", other, node, t)
	}
	if of, known := h.terms.of[t]; known && of.member.Node != node {
		w.brokenTerm(t, "L2: the guard of %s has a lease of term %d, which is %s's", node, t, of.member.Node)
	}
	h.terms.leased[t] = node
}

// brokenTerm says once of a term what is wrong with it. Called with the history's mu.
func (w *World) brokenTerm(t cluster.Term, format string, args ...any) {
	if !w.history.terms.broken[t] {
		w.history.terms.broken[t] = true
		w.violated(format, args...)
	}
}
