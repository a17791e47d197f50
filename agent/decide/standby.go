package decide

import (
	"fmt"
	"slices"
	"time"

	"pgquorum/cluster"
)

// standby holds the duties of every node that the key does not name: have data, run read-only, stream from the holder,
// rewind or clone when its WAL does not lead there (docs/design.md, section 5). It never promotes.
func standby(o *Observation) (Decision, bool) {
	k := o.View.Key
	if k.Holder == o.Self && !k.Released && (o.holds() || o.acquiring()) {
		return Decision{}, false
	}
	if o.Refused != "" {
		return Decision{Action: Wait, Reason: ReasonForeignData, Detail: o.Refused}, true
	}
	if o.View.SystemID == "" {
		return Decision{}, false // bootstrap is the leader's business
	}
	if d, ok := register(o); ok {
		return d, true
	}
	switch o.Local.Postgres.Data {
	case cluster.DataOurs:
		if k.Term == 0 { // the first term starts it, in place: as a standby it would have to be promoted, to a timeline that nobody allotted
			return Decision{}, false
		}
		if have := o.View.Nodes[o.Self].Incarnation; have != o.Local.Postgres.Incarnation { // what is done to one must not count as the other (docs/adr/0032)
			return Decision{Action: Wait, Reason: ReasonNotRegistered, Detail: fmt.Sprintf("the data directory is of incarnation %s, the registry has %q", o.Local.Postgres.Incarnation, have)}, true
		}
		return withData(o)
	case cluster.DataAbsent:
		return noData(o)
	case cluster.DataRewinding:
		return rewindAgain(o)
	case cluster.DataUnclaimed:
		if _, wait := heldByRule(o, "the holder takes this node's former data out of the rules first"); wait != nil {
			return *wait, true
		}
		if o.Local.Postgres.State != cluster.PostgresStopped { // its connections bear the name of the former life
			return Decision{Action: StopPostgres, Reason: ReasonNotRegistered, Detail: o.Local.Postgres.DataDetail}, true
		}
		return Decision{Action: ClaimData, Reason: ReasonNotRegistered}, true
	}
	return Decision{Action: Wait, Reason: ReasonForeignData, Detail: o.Local.Postgres.DataDetail}, true
}

// noData clones, once the life that this node had before (if any) counts in no rule, or nobody can take it out. The copy is
// a new life in any case: what is not there may come back, such as a disk that was not mounted (docs/adr/0032).
func noData(o *Observation) (Decision, bool) {
	if _, wait := heldByRule(o, "the holder takes this node's lost data out of the rules first"); wait != nil {
		return *wait, true
	}
	src, why := copySource(o)
	if src == "" {
		return Decision{Action: Wait, Reason: ReasonNoData, Detail: why}, true
	}
	return Decision{Action: Clone, Reason: ReasonNoData, Source: src, Term: o.View.Key.Term}, true
}

// rewindAgain repeats a rewind that broke off: until it ends the directory has no incarnation (V5).
func rewindAgain(o *Observation) (Decision, bool) {
	if _, wait := heldByRule(o, "the holder takes this node's half-rewound data out of the rules first"); wait != nil {
		return *wait, true
	}
	src, why := copySource(o)
	if src == "" {
		return Decision{Action: Wait, Reason: ReasonRewindBroken, Detail: why}, true
	}
	if !o.UseRewind || o.Failed(Rewind) >= MaxRewinds { // by a new life: this one's data is lost (docs/adr/0032)
		return Decision{Action: Clone, Reason: ReasonRewindImpossible, Source: src, Term: o.View.Key.Term}, true
	}
	return Decision{Action: Rewind, Reason: ReasonRewindBroken, Source: src, Term: o.View.Key.Term}, true
}

// withData follows the key's holder where it can, and else runs read-only, without a source.
func withData(o *Observation) (Decision, bool) {
	p := o.Local.Postgres
	src, why := source(o)
	if src != "" && o.View.Forks.Relate(o.Position, o.View.Key.Timeline) == cluster.Diverged {
		return leaveHistory(o, src)
	}
	if src != "" && o.Removed != "" {
		return cloneAnew(o)
	}
	followed := followsKey(o, src) // by the taker's order, which knows the positions
	if src != "" && !followed && !FollowsByItself(o.View.Forks, o.Position, o.View.Key.Timeline) {
		why = "the fork of the key's timeline is not recorded yet"
		src = ""
	}
	switch p.State {
	case cluster.PostgresStopped:
		if until := handedOver(o); o.Now.Before(until) {
			return Decision{Action: Wait, Reason: ReasonHandedOver, Detail: why, Wake: until}, true
		}
		if until := fullPause(o); o.Now.Before(until) { // B2: its WAL receiver ends it as soon as there is WAL to write
			return Decision{Action: Wait, Reason: ReasonDiskFull, Detail: Short(o.Local), Wake: until}, true
		}
		return Decision{Action: StartStandby, Reason: ReasonStopped, Source: src, Term: o.View.Key.Term, Detail: why}, true
	case cluster.PostgresRunning:
		return streaming(o, src, why)
	}
	return Decision{}, false
}

// HandOverPatience is how long a node whose Postgres has just ended waits for the new primary before it starts read-only
// without a source: starting at once would only mean to change the source, or to stop again for a rewind.
const HandOverPatience = 2 * time.Second

// handedOver gives the moment until which a stopped Postgres stays stopped: another is taking over, by this node's own
// release or because it has acquired the key and its fork is about to be recorded; or this node does not know yet where
// its own WAL ends. Zero: no such wait.
func handedOver(o *Observation) cluster.Instant {
	k := o.View.Key
	acquired := k.Holder != o.Self && o.View.Forks.Pending(k.Timeline)
	unread := !o.Position.Known() // the end of WAL on disk is still being looked for
	if o.StoppedSince.IsZero() || !(k.Released || acquired || unread) {
		return 0
	}
	return o.StoppedSince.Add(HandOverPatience)
}

// Follows says whether a standby was told to follow a node as the primary of a timeline, in whatever term.
func Follows(p cluster.PostgresStatus, src cluster.NodeID, t cluster.Timeline) bool {
	return p.Source == src && p.SourceTimeline == t
}

// followsKey says whether this standby was told to follow a node as the primary of the key's timeline, in its term.
func followsKey(o *Observation, src cluster.NodeID) bool {
	p := o.Local.Postgres
	return Follows(p, src, o.View.Key.Timeline) && p.SourceTerm == o.View.Key.Term
}

// streaming keeps a running standby on the right source.
func streaming(o *Observation, src cluster.NodeID, why string) (Decision, bool) {
	p := o.Local.Postgres
	if p.Role != cluster.RoleStandby {
		return Decision{}, false
	}
	if src == "" {
		return Decision{Action: Wait, Reason: ReasonSource, Detail: why}, true // a promise has cut it already; without one it keeps what it has
	}
	if !followsKey(o, src) {
		return Decision{Action: Follow, Reason: ReasonSource, Source: src, Term: o.View.Key.Term}, true
	}
	return Decision{}, false
}

// leaveHistory gives up WAL that the key's timeline does not have: out of the rules first, then stop, then rewind.
func leaveHistory(o *Observation, src cluster.NodeID) (Decision, bool) {
	if seen, key := o.Local.Postgres.SourceTerm, o.View.Key.Term; seen > key { // such as right after a start of the agent
		return Decision{Action: Wait, Reason: ReasonSource, Detail: fmt.Sprintf("this node has followed a source of term %d, and knows of term %d only", seen, key)}, true
	}
	life, wait := heldByRule(o, "the holder takes this node out of the rules before its rewind")
	switch {
	case wait != nil:
		return *wait, true
	case life != "":
		return copyOver(o, ReasonHeld, life, o.whereDiverged())
	case o.Local.Postgres.State != cluster.PostgresStopped:
		return Decision{Action: StopPostgres, Reason: ReasonDiverged, Detail: o.whereDiverged()}, true
	}
	if from, why := copySource(o); from == "" {
		return Decision{Action: Wait, Reason: ReasonDiverged, Detail: why}, true
	}
	foreign := o.View.Forks.Foreign(o.Position) || o.View.Forks.Twinned(o.Position) // pg_rewind tells timelines apart by their numbers alone (F3)
	if !o.UseRewind || foreign || o.Failed(Rewind) >= MaxRewinds {
		return Decision{Action: Clone, Reason: ReasonRewindImpossible, Source: src, Term: o.View.Key.Term}, true
	}
	return Decision{Action: Rewind, Reason: ReasonDiverged, Source: src, Term: o.View.Key.Term, Detail: o.whereDiverged()}, true
}

// cloneAnew replaces a directory whose next WAL its source has removed: nothing else can bring it back, and until then it
// would be a standby that confirms nothing.
func cloneAnew(o *Observation) (Decision, bool) {
	life, wait := heldByRule(o, "the holder takes this node out of the rules before it is cloned anew")
	if wait != nil {
		return *wait, true
	}
	return copyOver(o, ReasonRemoved, life, o.Removed)
}

// copyOver stops and clones, once there is somebody to clone from.
func copyOver(o *Observation, reason Reason, life cluster.Incarnation, detail string) (Decision, bool) {
	from, why := copySource(o)
	switch {
	case from == "":
		return Decision{Action: Wait, Reason: reason, Detail: why}, true
	case o.Local.Postgres.State != cluster.PostgresStopped:
		return Decision{Action: StopPostgres, Reason: reason, Detail: detail}, true
	}
	return Decision{Action: Clone, Reason: reason, Source: from, Term: o.View.Key.Term, Life: life, Detail: detail}, true
}

// Dry says whether a standby that should stream from the key's holder, from where it knows its own WAL to end, does not.
func Dry(o *Observation) bool {
	p := o.Local.Postgres
	src, _ := source(o)
	return !p.Streaming && src != "" && followsKey(o, src) && o.Position.Known()
}

// RemovedPatience is how long a standby has not streamed from its source before it asks whether the WAL is still there.
const RemovedPatience = 10 * time.Second

// MaxRewinds is how often a rewind is tried before the directory is cloned anew, beside the old one (docs/design.md,
// section 5).
const MaxRewinds = 6

// source is whom to stream from: the key's holder, unless a promise forbids it (V1). why says what is missing.
func source(o *Observation) (src cluster.NodeID, why string) {
	k := o.View.Key
	switch {
	case k.Holder == "" || k.Holder == o.Self:
		return "", "no other node holds the key"
	case k.Released:
		return "", fmt.Sprintf("%s has released the key of term %d", k.Holder, k.Term)
	case o.Promised > k.Term:
		return "", fmt.Sprintf("promised term %d, the key is in term %d", o.Promised, k.Term)
	}
	return k.Holder, ""
}

// copySource is whom to copy from: the source, once it is known to serve the key's timeline.
func copySource(o *Observation) (src cluster.NodeID, why string) {
	src, why = source(o)
	p, k := o.Peers[src].Status.Postgres, o.View.Key
	if src != "" && (p.State != cluster.PostgresRunning || p.Role != cluster.RolePrimary || p.Timeline != k.Timeline) {
		return "", fmt.Sprintf("%s is not yet the running primary of timeline %d", src, k.Timeline)
	}
	return src, why
}

// inRule says whether the life that the registry has for this node counts in any recorded rule: as a standby, or as
// the primary whose data C1 (b) relies on. Older rules go as soon as the new primary's is settled (S4).
func inRule(o *Observation, n cluster.Node) bool {
	m, ok := n.Member()
	if !ok {
		return false
	}
	return slices.ContainsFunc(o.View.Rules, func(r cluster.SyncRule) bool { return r.Has(m) || r.Primary == m })
}

// WantsOut is the life that this node asks the holder to take out of the rules: its WAL will be rewound, its directory
// replaced, or its data is gone (V5), or it is about to stop in good order (S8).
func WantsOut(o *Observation) cluster.Incarnation {
	n := o.View.Nodes[o.Self]
	d, _ := standby(o)
	replaced := n.Incarnation != o.Local.Postgres.Incarnation && inRule(o, n) && o.View.Key.Holder != o.Self
	if replaced || d.Reason == ReasonInRule || !o.HeldSince.IsZero() || o.Request != nil && o.Request.Leaving && o.View.Key.Holder != o.Self {
		return n.Incarnation
	}
	return ""
}

func (o *Observation) whereDiverged() string {
	fork := o.View.Forks[o.View.Key.Timeline]
	if own := o.View.Forks[o.Position.Timeline]; own.Adopted && o.View.Forks.Foreign(o.Position) {
		return fmt.Sprintf("own WAL ends on timeline %d, which was made by hand and adopted with the data of %s: nothing tells whether it is the same", own.Timeline, own.Node)
	}
	if o.View.Forks.Foreign(o.Position) {
		return fmt.Sprintf("own timeline %d left timeline %d, the one of that number which was allotted left %d: somebody promoted by hand",
			o.Position.Timeline, o.Position.Parent, o.View.Forks[o.Position.Timeline].Parent)
	}
	return fmt.Sprintf("own WAL ends at %s on timeline %d; timeline %d left timeline %d at %s",
		o.Position.LSN, o.Position.Timeline, fork.Timeline, fork.Parent, fork.LSN)
}
