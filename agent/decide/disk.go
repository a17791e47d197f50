package decide

import (
	"fmt"

	"pgquorum/cluster"
)

// Disk is B2 for a node that cannot write, as the probe has found: whoever holds the key or runs a primary is fenced, then
// Raft's transport is closed; whoever only leads Raft closes it at once, so that another is elected. Apply, a transfer of
// leadership and stepping down would all need this node's own log, but a leader's heartbeats need no disk: without this
// it would stay leader, and its lease alive, for as long as the disk hangs. A follower has nothing to give away.
//
// It asks nobody whether another could take over: a primary that cannot write serves no commit anyway.
//
// The transport is closed for good. Once the disk works again the agent ends, so that its supervisor starts it anew.
//
// The agent carries this out apart from its loop, which may be the very thing that hangs in a write. Next only keeps the
// loop from beginning anything, see cannotWrite.
func Disk(o *Observation) (Decision, bool) {
	problem := o.Local.DiskFault
	d := Decision{Reason: ReasonCannotWrite, Detail: problem, Term: max(o.View.Key.Term, o.Lease.Term)}
	switch {
	case problem == "" && o.TransportClosed:
		d.Action, d.Reason = EndAgent, ReasonWritesAgain
	case problem == "":
		return Decision{}, false
	case o.TransportClosed:
		d.Action = Wait
	case mayServe(o) && !o.DiskFenced:
		d.Action = Fence
	case mayServe(o), o.DiskFenced, o.Raft.State == cluster.RaftLeader:
		d.Action = CloseTransport
	default:
		d.Action = Wait
	}
	return d, true
}

// mayServe says whether the key names this node, a lease of its stands, or a primary runs here, well or not.
func mayServe(o *Observation) bool {
	k, p := o.View.Key, o.Local.Postgres
	return k.Holder == o.Self && !k.Released || o.LeaseState != LeaseNone ||
		p.State != cluster.PostgresStopped && p.Role == cluster.RolePrimary
}

// cannotWrite keeps a node that cannot write from beginning anything: each action needs its disk, and one that hangs in
// it would hold up the loop (B2).
func cannotWrite(o *Observation) (Decision, bool) {
	switch {
	case o.Local.DiskFault != "":
		return Decision{Action: Wait, Reason: ReasonCannotWrite, Detail: o.Local.DiskFault}, true
	case o.TransportClosed:
		return Decision{Action: Wait, Reason: ReasonWritesAgain}, true
	}
	return Decision{}, false
}

// noWrite is B2 for a candidate and for a promise: a node that cannot write can keep neither.
func noWrite(s cluster.NodeStatus) string {
	if s.DiskFault == "" {
		return ""
	}
	return fmt.Sprintf("it cannot write: %s", s.DiskFault)
}
