package decide

import (
	"fmt"
	"slices"
	"strings"

	"pgquorum/cluster"
)

// CheckSwitchover says why the requested switchover cannot be carried out; nil: it can. A stopping agent's own
// hand-over (Leaving) names no leader.
func CheckSwitchover(o *Observation) *cluster.ActionResult {
	k, q := o.View.Key, o.Request
	refuse := func(code int, format string, args ...any) *cluster.ActionResult {
		return &cluster.ActionResult{Code: code, Text: "switchover refused: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case q.Leader == "" && !q.Leaving:
		return refuse(cluster.ActionBadRequest, "no leader given; the present one is %q: name it, so that a late or repeated request does nothing", k.Holder)
	case q.Candidate != "" && q.Candidate == q.Leader:
		return refuse(cluster.ActionBadRequest, "leader and candidate are both %q: name another candidate, or none", q.Candidate)
	case !q.Leaving && q.Leader != k.Holder:
		return refuse(cluster.ActionPrecondition, "leader %q was named, the key is held by %q: look at GET /cluster and ask again", q.Leader, k.Holder)
	case !o.holds():
		return refuse(cluster.ActionUnavailable, "the key's holder %q has no live lease now: a take-over is running; look at GET /cluster", k.Holder)
	case !running(o, cluster.RolePrimary):
		return refuse(cluster.ActionUnavailable, "the leader's postgres is %s: wait for it, or for the failover", o.Local.Postgres.State)
	case !o.leads():
		return refuse(cluster.ActionUnavailable, "raft leadership is on its way back to %q: ask again in a moment", o.Self)
	}
	good := Candidates(o)
	if q.Candidate != "" && !slices.Contains(good, q.Candidate) {
		return refuse(cluster.ActionPrecondition, "candidate %q: %s; good candidates: %s", q.Candidate, WhyNotCandidate(o, q.Candidate), list(good))
	}
	if len(good) == 0 {
		return refuse(cluster.ActionPrecondition, "no good candidate: %s", strings.Join(eachWhyNot(o), "; "))
	}
	return nil
}

// Candidates are the nodes to which the primary could move now, in order of their names.
func Candidates(o *Observation) []cluster.NodeID {
	var good []cluster.NodeID
	for _, n := range o.View.Names() {
		if n != o.Self && WhyNotCandidate(o, n) == "" {
			good = append(good, n)
		}
	}
	return good
}

// WhyNotCandidate says why the primary cannot move to a node now; empty: it can.
func WhyNotCandidate(o *Observation, name cluster.NodeID) string {
	p, known := o.Peers[name]
	member, hasData := o.View.Nodes[name].Member()
	switch {
	case name == o.Self:
		return "it is the primary"
	case !known || p.At.IsZero():
		return "it is not known, or has never answered"
	case !reachable(o, name):
		return "it does not answer, or runs no standby: " + p.Err
	case !slices.Contains(o.Raft.Voters, name):
		return "it is not a voter"
	case p.Status.CanPromote != "":
		return p.Status.CanPromote
	case !hasData || !streams(o, member):
		return "it is not streaming from the primary"
	}
	return ""
}

func eachWhyNot(o *Observation) []string {
	var parts []string
	for _, n := range o.View.Names() {
		if n != o.Self {
			parts = append(parts, fmt.Sprintf("%s: %s", n, WhyNotCandidate(o, n)))
		}
	}
	return parts
}

// DescribeSwitchover says what an accepted switchover would do.
func DescribeSwitchover(o *Observation) string {
	to := string(o.Request.Candidate)
	if to == "" {
		to = "the one with the highest position of " + list(Candidates(o))
	}
	return fmt.Sprintf("switchover from %s to %s would be carried out: checkpoint, fast stop of %s, promotion in term %d; nothing was changed",
		o.Self, to, o.Self, o.View.Key.Term+1)
}

func list(names []cluster.NodeID) string {
	if len(names) == 0 {
		return "none"
	}
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = string(n)
	}
	return strings.Join(parts, ", ")
}

// MayStop says whether nothing depends on a stopping node any more: it neither holds the key nor leads Raft while
// others could, and its data counts in no recorded rule (S8), or no holder is there to take it out.
func MayStop(o *Observation) bool {
	k := o.View.Key
	alone := !othersStay(o)
	switch {
	case o.Job.Action == Switchover || o.Job.Action == HandOver:
		return false
	case alone || k.Holder == "":
		return true
	case k.Holder == o.Self:
		return !o.holds() && !k.Released || o.holds() && CheckSwitchover(o) != nil
	case o.Raft.State == cluster.RaftLeader:
		return false
	}
	return !inRule(o, o.View.Nodes[o.Self]) || !leavable(o)
}

// leavable says whether the rules can do without this node: it is out of the newest one already, and the older ones are
// about to be dropped, or what would remain of the newest still reaches its k.
func leavable(o *Observation) bool {
	cur, ok := o.View.Current()
	me, has := o.View.Nodes[o.Self].Member()
	return ok && has && (!cur.Has(me) || len(cur.Standbys)-1 >= cur.K)
}

// othersStay says whether any other node answers and is not stopping itself.
func othersStay(o *Observation) bool {
	for _, p := range o.Peers {
		if p.Err == "" && !p.At.IsZero() && !p.Status.Stopping {
			return true
		}
	}
	return false
}
