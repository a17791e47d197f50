package cluster

import "slices"

// Position is the end of valid WAL on a node's disk (V3), with the timeline of that LSN in the node's own history (V4).
type Position struct {
	Timeline Timeline `json:"timeline"`
	LSN      LSN      `json:"lsn"`
	Parent   Timeline `json:"parent,omitempty"` // the timeline that this one left, in the node's own history; 0: it is the first, or not told
}

// Known says whether there is a position at all.
func (p Position) Known() bool { return p.Timeline != 0 && p.LSN != 0 }

// Fork is one timeline number, allotted by AcquireLeader (F1), and where it left its parent.
type Fork struct {
	Timeline Timeline `json:"timeline"`
	Parent   Timeline `json:"parent"` // 0 for the first
	LSN      LSN      `json:"lsn"`    // where it left its parent; 0: not recorded (yet, or never promoted)
	Node     NodeID   `json:"node"`
	Term     Term     `json:"term"`
	Reason   string   `json:"reason,omitempty"`
	Time     string   `json:"time,omitempty"` // RFC 3339, as the proposer gave it

	// Adopted: Raft never allotted it; pgquorum recover took it over with the data of Node. Others may have made one of the same number
	// from the same parent, and nothing tells which: it is an ancestor, and nobody else's WAL on it counts or is followed by more.
	Adopted bool `json:"adopted,omitempty"`
}

// Forks are all timelines that Raft ever allotted, by number.
type Forks map[Timeline]Fork

// Relation says how a node's WAL stands to a timeline.
type Relation int

// The relations.
const (
	Unknown  Relation = iota // a fork's LSN is missing, so nothing can be said yet
	Prefix                   // the node's WAL is a beginning of that timeline: it can follow
	Diverged                 // the node has WAL that the timeline does not: it must be rewound
)

// String names the relation.
func (r Relation) String() string { return [...]string{"unknown", "prefix", "diverged"}[r] }

// Foreign says whether a position is on a timeline that bears a known number and is not known to be that one: somebody promoted
// a standby by hand, more than once, until it came to an allotted number, or came to one that was adopted (F3). WAL that is being
// streamed bears no parent: nobody is ordered to stream whose position is foreign.
func (f Forks) Foreign(pos Position) bool {
	fork, known := f[pos.Timeline]
	return known && pos.Parent != 0 && (fork.Adopted || pos.Parent != fork.Parent)
}

// Twinned says whether a position is on a timeline of an unknown number that may hang from the twin of an adopted one: its history
// reads as if it were the cluster's, although its WAL is not.
func (f Forks) Twinned(pos Position) bool {
	if _, known := f[pos.Timeline]; known {
		return false
	}
	for _, fork := range f {
		if fork.Adopted {
			return true
		}
	}
	return false
}

// Counts says whether a node's position is on a timeline that Raft allotted, or on one that was adopted with this node's own data.
func (f Forks) Counts(node NodeID, pos Position) bool {
	fork := f[pos.Timeline]
	_, allotted := f.TermOf(pos)
	return allotted || fork.Adopted && fork.Node == node && pos.Parent == fork.Parent
}

// Relate says how WAL that ends at pos stands to target, by walking from target to its ancestors: pos is a prefix if
// its timeline is one of them and it ends no later than where the chain leaves that timeline.
func (f Forks) Relate(pos Position, target Timeline) Relation {
	if !pos.Known() || target == 0 {
		return Unknown
	}
	if f.Foreign(pos) {
		if f[pos.Timeline].LSN == 0 && f.leadsTo(pos.Timeline, target) { // no history file has confirmed the parent yet
			return Unknown
		}
		return Diverged
	}
	if pos.Timeline == target {
		return Prefix
	}
	for t, hops := target, 0; hops <= len(f); hops++ {
		fork, known := f[t]
		if !known {
			return Diverged // F3: what Raft did not allot is never followed
		}
		if fork.Parent == pos.Timeline {
			switch {
			case fork.LSN == 0:
				return Unknown
			case pos.LSN <= fork.LSN:
				return Prefix
			default:
				return Diverged
			}
		}
		if fork.Parent == 0 {
			return Diverged
		}
		t = fork.Parent
	}
	return Diverged
}

// Pending says whether a timeline was allotted and no history file has shown yet where it left its parent: it may still have to
// be made, by a promotion, or never was.
func (f Forks) Pending(t Timeline) bool { return f[t].Parent != 0 && f[t].LSN == 0 }

// leadsTo says whether a timeline is the target or an ancestor of it.
func (f Forks) leadsTo(t, target Timeline) bool {
	for hops := 0; target != 0 && hops <= len(f); hops++ {
		if t == target {
			return true
		}
		target = f[target].Parent
	}
	return false
}

// TermOf gives the term under which a position's timeline was allotted; ok is false for one that Raft never allotted.
func (f Forks) TermOf(pos Position) (t Term, ok bool) {
	fork, ok := f[pos.Timeline]
	return fork.Term, ok && !f.Foreign(pos)
}

// Compare orders positions by (term of the timeline, LSN) (V4): negative when a is lower. A position whose timeline
// Raft never allotted is lower than any other (F3).
func (f Forks) Compare(a, b Position) int {
	ta, oka := f.TermOf(a)
	tb, okb := f.TermOf(b)
	switch {
	case oka != okb && okb, oka && okb && ta < tb:
		return -1
	case oka != okb && oka, oka && okb && ta > tb:
		return 1
	case a.LSN < b.LSN:
		return -1
	case a.LSN > b.LSN:
		return 1
	}
	return 0
}

// TimelineStep is how far each allotted number is above all that were ever used: the one between is left free. PostgreSQL takes
// the first number after its own when somebody promotes it by hand: also on a node that nobody can reach then, whose disk
// says so only later. It must never be a number that is allotted to another meanwhile, with which it could not be told apart
// (F3, docs/adr/0034).
const TimelineStep = 2

// UsedTimeline is the highest number that was ever used: that Raft allotted, that a recovery left behind, or that a disk has seen.
func (v *View) UsedTimeline(seen ...Timeline) Timeline {
	return max(v.Forks.Newest(), v.Floor, slices.Max(append(seen, 0)))
}

// Newest is the highest number ever allotted.
func (f Forks) Newest() Timeline {
	var top Timeline
	for t := range f {
		top = max(top, t)
	}
	return top
}

// Divergence is where the histories of two timelines part: the last position that both have. from is where a node's own
// WAL is, target where it must go. Zero when they have no timeline in common, or its LSN is not recorded.
func (f Forks) Divergence(from, target Timeline) Position {
	left := map[Timeline]LSN{} // where the history of target leaves each of its ancestors
	for t, hops := target, 0; t != 0 && hops <= len(f); hops++ {
		left[f[t].Parent] = f[t].LSN
		t = f[t].Parent
	}
	var own LSN // where the history of from leaves the timeline looked at; 0: it ends there
	for t, hops := from, 0; t != 0 && hops <= len(f); hops++ {
		if lsn, common := left[t]; common {
			if own != 0 && own < lsn {
				lsn = own
			}
			return Position{Timeline: t, LSN: lsn}
		}
		own, t = f[t].LSN, f[t].Parent
	}
	return Position{}
}
