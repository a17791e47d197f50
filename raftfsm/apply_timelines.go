package raftfsm

import (
	"fmt"
	"math"

	"pgquorum/cluster"
)

// allot gives the timeline number of an acquisition that makes a new one, or says why there is none (F1). The number is
// above all that Raft ever allotted and all that any disk has seen, so it was never used by anybody.
func allot(v *cluster.View, c cluster.AcquireLeader) (t cluster.Timeline, why string) {
	first := v.Key.Term == 0
	switch {
	case first && c.Parent == 0 && c.SeenMax > 1:
		return 0, fmt.Sprintf("timeline 1 for %q: a history file has used %d, so the cluster is not new and a parent is wanted", c.Node, c.SeenMax)
	case first && c.Parent == 0:
		return 1, ""
	case c.Parent == 0:
		return 0, fmt.Sprintf("timeline without a parent for %q: only a new cluster's first has none, the term is %d", c.Node, v.Key.Term)
	}
	top := v.UsedTimeline(c.Parent, c.SeenMax)
	if top >= math.MaxUint32-cluster.TimelineStep+1 {
		return 0, fmt.Sprintf("timeline for %q above %d: there is none", c.Node, top)
	}
	return top + cluster.TimelineStep, ""
}

// enterFork makes the key's timeline known from its acquisition on (F1).
func enterFork(v *cluster.View, c cluster.AcquireLeader) {
	v.Forks = with(v.Forks, v.Key.Timeline, cluster.Fork{Timeline: v.Key.Timeline, Parent: c.Parent,
		Node: c.Node, Term: v.Key.Term, Reason: c.Reason, Time: c.Time})
}

// applyRecordFork adds the LSN at which an allotted timeline left its parent (F1). Any node may supply it, once.
func applyRecordFork(v *cluster.View, c cluster.RecordFork) outcome {
	fork, known := v.Forks[c.Timeline]
	switch {
	case !known:
		return refuse(c, "timeline %d at %s: it was never allotted (F3)", c.Timeline, c.LSN)
	case fork.Parent != c.Parent:
		return refuse(c, "timeline %d from %d: it was allotted as a child of %d", c.Timeline, c.Parent, fork.Parent)
	case c.LSN == 0:
		return refuse(c, "timeline %d at 0/0: want the LSN of the fork", c.Timeline)
	case fork.LSN == c.LSN:
		return same(nil)
	case fork.LSN != 0:
		return refuse(c, "timeline %d at %s: its fork stands at %s", c.Timeline, c.LSN, fork.LSN)
	}
	fork.LSN = c.LSN
	v.Forks = with(v.Forks, c.Timeline, fork)
	record(v, "", "fork_recorded", fork.Node, "timeline %d left %d at %s", c.Timeline, c.Parent, c.LSN)
	return done(nil)
}

// applyRecordLSN notes how far the holder is, for the mode off (C1 d). It only moves on: forward on the holder's
// timeline, or to that of a later term. There is no event: it comes every second.
func applyRecordLSN(v *cluster.View, c cluster.RecordLSN) outcome {
	if why := notHolder(v, c.Node, c.Term); why != "" {
		return refuse(c, "%s", why)
	}
	last := v.LastLSN
	want := cluster.LastLSN{Term: c.Term, Position: c.Position}
	switch {
	case !c.Position.Known() || c.Position.Timeline != v.Key.Timeline:
		return refuse(c, "position %s on timeline %d: the key's timeline is %d", c.Position.LSN, c.Position.Timeline, v.Key.Timeline)
	case last == want:
		return same(nil)
	case last.Position.Timeline == c.Position.Timeline && c.Position.LSN < last.Position.LSN:
		return refuse(c, "position %s on timeline %d: %s was recorded in term %d", c.Position.LSN, c.Position.Timeline, last.Position.LSN, last.Term)
	}
	v.LastLSN = want
	return done(nil)
}
