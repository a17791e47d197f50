package raftfsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pgquorum/cluster"
)

// How far a recovery moves on from what the surviving store knows. The lost nodes may have gone on without it: what they
// did in a term, or on a timeline, must not bear the number of what comes now. Each timeline number costs the candidate
// one small file (F2).
const (
	recoverTerms     = 1000
	recoverTimelines = 32
)

// applyRecover lets go of every node but one (B5). What remains is one rule: all that is left of the acknowledged commits is
// on that node's data. The key is released on the operator's word that nobody else runs.
func applyRecover(v *cluster.View, c cluster.Recover) outcome {
	switch {
	case v.Key.Term == 0 || v.SystemID == "":
		return refuse(c, "the cluster never had a primary")
	case c.Member.Node != c.Node || !registered(v, c.Member):
		return refuse(c, "by %q with data %q: the registered incarnation is %q", c.Node, c.Member.Life(), v.Nodes[c.Node].Incarnation)
	case c.ClusterID == "" || c.ClusterID == v.ClusterID:
		return refuse(c, "as cluster id %q: want another than %q", c.ClusterID, v.ClusterID)
	}
	for _, f := range c.Forks {
		known, is := v.Forks[f.Timeline]
		if _, hangs := v.Forks[f.Parent]; is && !known.Adopted || !hangs || f.LSN == 0 {
			return refuse(c, "with timeline %d, which left %d at %s: want one that is not known, of a parent that is", f.Timeline, f.Parent, f.LSN)
		}
		v.Forks = with(v.Forks, f.Timeline, cluster.Fork{Timeline: f.Timeline, Parent: f.Parent, LSN: f.LSN, Node: c.Node, Adopted: true,
			Term: v.Key.Term + recoverTerms, Reason: "found on the data that pgquorum recover goes on with", Time: c.Time})
	}
	losses, former := Losses(v, c.Member), v.ClusterID
	nodes := make(map[cluster.NodeID]cluster.Node, len(v.Nodes))
	var lost []string
	for _, name := range v.Names() {
		n := v.Nodes[name]
		if name != c.Node {
			n.Incarnation, n.UID = "", "" // its data is let go, and its store: the name may come back, anew (Readmit)
			lost = append(lost, string(name))
		}
		nodes[name] = n
	}
	last, _ := v.Current()
	v.Nodes, v.ClusterID, v.Committed = nodes, c.ClusterID, []cluster.NodeID{c.Node}
	v.Floor = max(v.Floor, v.Forks.Newest()) + recoverTimelines
	v.Key.Term += recoverTerms
	v.Key.Released = true
	v.Handbacks, v.Refusals, v.LastLSN = 0, map[cluster.NodeID]cluster.Refusal{}, cluster.LastLSN{}
	v.Extension, v.Pause = nil, nil
	v.Rules = []cluster.SyncRule{{ID: last.ID + 1, Term: v.Key.Term, Primary: c.Member, Timeline: v.Key.Timeline,
		Standbys: []cluster.Member{}, Mode: v.Config.SynchronousMode}}
	v.RulesVersion++
	text := "nothing that this node knows to have been acknowledged is lost"
	if len(losses) > 0 {
		text = strings.Join(losses, "; ")
	}
	record(v, c.Time, "recovered", c.Node, "an operator gave up %s; the cluster goes on from %s alone, as cluster id %s (before: %s): %s",
		cmp.Or(strings.Join(lost, ", "), "nobody"), c.Node, c.ClusterID, former, text)
	return done(nil)
}

// Unknown gives the timelines in the history of a data directory, whose WAL ends at end, that a state does not know: those of a
// promotion by hand, or of primaries of which its store has not heard; and those that were adopted with another's data, where
// node's ends on such a one. It is an error if the history contradicts the state.
func Unknown(v *cluster.View, node cluster.NodeID, history []cluster.Fork, end cluster.Position) (unknown []cluster.Fork, err error) {
	last := cluster.Timeline(0) // of unknown
	on := v.Forks[end.Timeline]
	again := on.Adopted && on.Node != node
	for _, f := range history {
		known, is := v.Forks[f.Timeline]
		_, hangs := v.Forks[f.Parent]
		switch {
		case is && (last != 0 && !known.Adopted || known.Parent != f.Parent || known.LSN != 0 && known.LSN != f.LSN):
			return nil, fmt.Errorf("timeline %d left %d at %s there, and the cluster's %d left %d at %s", f.Timeline, f.Parent, f.LSN, f.Timeline, known.Parent, known.LSN)
		case is && !(known.Adopted && again):
			continue
		case !hangs && f.Parent != last:
			return nil, fmt.Errorf("timeline %d left %d at %s there, and the cluster knows neither", f.Timeline, f.Parent, f.LSN)
		}
		unknown, last = append(unknown, f), f.Timeline
	}
	if _, is := v.Forks[end.Timeline]; end.Known() && !is && end.Timeline != last {
		return nil, fmt.Errorf("its WAL ends on timeline %d, of which neither its history files nor the cluster say where it began", end.Timeline)
	}
	return unknown, nil
}

// Losses says, rule by rule, which acknowledged commits may be lost when only m's data remains: those that others may have
// confirmed in its place. Empty: none of those that this state knows of.
func Losses(v *cluster.View, m cluster.Member) []string {
	var losses []string
	for i, r := range v.Rules {
		later := slices.ContainsFunc(v.Rules[i+1:], func(l cluster.SyncRule) bool { return l.Term > r.Term && l.Primary == m })
		if r.Primary == m || later || r.Has(m) && r.K == len(r.Standbys) {
			continue
		}
		others := []string{string(r.Primary.Node)}
		for _, s := range r.Standbys {
			if s != m {
				others = append(others, string(s.Node))
			}
		}
		losses = append(losses, fmt.Sprintf("commits acknowledged under rule %d of term %d (primary %s, confirmed by %d of %d standbys, mode %s) may be on %s only",
			r.ID, r.Term, r.Primary.Node, r.K, len(r.Standbys), r.Mode, strings.Join(others, ", ")))
	}
	return losses
}
