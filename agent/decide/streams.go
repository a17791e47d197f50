package decide

import (
	"slices"
	"time"

	"pgquorum/cluster"
)

// ReplyLimit is two wal_receiver_status_interval, which pgquorum sets to 1 s (S8).
const ReplyLimit = 2 * time.Second

// DenyAfter is for how long a member must say that it does not stream from here before it counts as unable to confirm. A
// status is up to two seconds old (a look each second at the peer, and a call each second to it), so that a standby that
// has just come is denied by its own former answer for a moment: that must not lower k (S5).
const DenyAfter = 3 * time.Second

// streams is S8 for a member that is to be added to a rule, or to become the primary: its walsender has had a reply of
// late, and the member's own answer does not say otherwise. Adding it a second later, when its answer is new, costs
// nothing.
func streams(o *Observation, m cluster.Member) bool { return replies(o, m) && !denies(o, m) }

// able is S8 for a member that counts already: it can confirm unless its walsender is silent, or it has said for
// DenyAfter that it does not stream from here. Nothing safe hangs on it (a rule is settled by what Postgres confirms, S2
// step 3); it decides how soon k may be lowered (S5).
func able(o *Observation, m cluster.Member) bool {
	since, denied := o.DeniedSince[m.Node]
	return replies(o, m) && !(denied && denies(o, m) && o.Now.Sub(since) >= DenyAfter)
}

// replies says whether a walsender streams to the member, judged by its reply age.
func replies(o *Observation, m cluster.Member) bool {
	return slices.ContainsFunc(o.Local.Postgres.Replication, func(w cluster.WalSender) bool {
		return w.AppName == m.AppName(o.View.Key.Timeline) && w.State == "streaming" && w.ReplyAge <= ReplyLimit
	})
}

// denies says whether the member's node, asked of late, answers that this member does not stream from here: then someone
// else uses its name, such as a copy of its directory, or its receiver is gone and the last reply is not old yet. A node
// that has not answered of late is judged by the reply age alone: an agent that restarts, or a peer channel that is cut,
// does not keep its Postgres from confirming. Nor is a Postgres that starts, stops or hangs asked: one that recovers
// streams before it takes the first session.
func denies(o *Observation, m cluster.Member) bool {
	peer, known := o.Peers[m.Node]
	if !known || peer.At.IsZero() || peer.Err != "" || o.Now.Sub(peer.At) > ReachableFor {
		return false
	}
	p := peer.Status.Postgres
	switch p.State {
	case cluster.PostgresStopped:
		return true
	case cluster.PostgresRunning:
		return p.Incarnation != m.Incarnation || p.Role != cluster.RoleStandby || !p.Streaming || p.Source != o.Self
	}
	return false
}

// Denied gives the nodes to which a walsender streams by its replies while they say themselves that they do not stream
// from here (S8). The agent keeps since when.
func Denied(o *Observation) []cluster.NodeID {
	var nodes []cluster.NodeID
	for _, m := range others(o, o.Self) {
		if replies(o, m) && denies(o, m) {
			nodes = append(nodes, m.Node)
		}
	}
	return nodes
}
