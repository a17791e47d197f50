package decide

import (
	"slices"
	"time"

	"pgquorum/cluster"
)

// The numbers of the estimate that C3 and K3 decide by (docs/protocol.md section 11, ADR 0019).
const (
	RedoRate     = 64 << 20               // bytes of WAL replayed in a second; not measured in this version
	TakeOverBase = 100 * time.Millisecond // a take-over by a standby with nothing to replay
	// ReadyWithin is the estimate up to which a standby counts as ready at once. What it is made from is up to two
	// seconds old, so that a finer line would be drawn by chance.
	ReadyWithin = time.Second
)

// seen gives a node's status as far as a decision may rely on it.
type seen func(cluster.NodeID) (cluster.NodeStatus, bool)

// lately is a status that came of late, for a holder: nobody is asked anew.
func (o *Observation) lately(name cluster.NodeID) (cluster.NodeStatus, bool) {
	p, ok := o.Peers[name]
	return p.Status, ok && !p.At.IsZero() && p.Err == "" && o.Now.Sub(p.At) <= ReachableFor
}

// replayTime estimates how long a number of bytes of WAL take to be replayed.
func replayTime(bytes uint64) time.Duration {
	return time.Duration(float64(bytes) / RedoRate * float64(time.Second))
}

// redoTime estimates how long a Postgres that does not run needs to come back in place: the bytes since redo; nothing
// after a stop in good order. known is false when either end is not known.
func redoTime(s cluster.NodeStatus) (t time.Duration, known bool) {
	p := s.Postgres
	switch {
	case p.State == cluster.PostgresStopped && p.Clean:
		return 0, true
	case p.Redo == 0 || s.Position.LSN < p.Redo:
		return 0, false
	}
	return replayTime(p.Redo.Behind(s.Position.LSN)), true
}

// soonest estimates how soon another than the key's holder could take over, and who: a standby that may be promoted, by
// what it has still to receive and to replay. ok is false when nobody could: no such standby, or too few of a recorded
// rule's for the take-over to find a majority of promises (C1 a), or a rule with k = 0 (B5). The candidate that C2 will
// choose may be another, and slower: who has what is known only when all have promised.
func soonest(o *Observation, see seen) (name cluster.NodeID, t time.Duration, ok bool) {
	if name, t, ok = soonestOf(o, see, func(s cluster.NodeStatus) bool { return worse(s) == "" }); ok { // the one that K6 will choose (B2)
		return name, t, ok
	}
	return soonestOf(o, see, func(cluster.NodeStatus) bool { return true })
}

// soonestOf is soonest among the nodes whose status fits.
func soonestOf(o *Observation, see seen, fits func(cluster.NodeStatus) bool) (name cluster.NodeID, t time.Duration, ok bool) {
	if !enoughStandbys(o, see) {
		return "", 0, false
	}
	var end cluster.LSN
	for _, n := range o.View.Names() {
		if s, up := standbyOf(o, see, n); up && n != o.View.Key.Holder {
			end = max(end, s.Position.LSN)
		}
	}
	for _, n := range o.View.Names() {
		s, up := standbyOf(o, see, n)
		if !up || n == o.View.Key.Holder || !slices.Contains(o.Raft.Voters, n) || o.View.Nodes[n].Tags.NoFailover || s.CanPromote != "" || !fits(s) {
			continue
		}
		if takes := TakeOverBase + replayTime(s.Postgres.Replayed.Behind(end)); !ok || takes < t {
			name, t, ok = n, takes, true
		}
	}
	return name, t, ok
}

// enoughStandbys says whether enough standbys of every recorded rule run for C1 (a).
func enoughStandbys(o *Observation, see seen) bool {
	for _, r := range o.View.Rules {
		in := 0
		for _, m := range r.Standbys {
			if _, up := standbyOf(o, see, m.Node); up && o.View.Nodes[m.Node].Incarnation == m.Incarnation {
				in++
			}
		}
		if r.K == 0 || in < len(r.Standbys)-r.K+1 {
			return false
		}
	}
	return true
}

// standbyOf gives the status of a node that runs a standby; one that was promoted by hand meanwhile is none, its promise would not
// count (F3).
func standbyOf(o *Observation, see seen, name cluster.NodeID) (cluster.NodeStatus, bool) {
	s, ok := see(name)
	_, allotted := o.View.Forks.TermOf(s.Position)
	return s, ok && s.Postgres.State == cluster.PostgresRunning && s.Postgres.Role == cluster.RoleStandby && (allotted || !s.Position.Known())
}
