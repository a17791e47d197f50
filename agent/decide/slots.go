package decide

import (
	"time"

	"pgquorum/cluster"
)

// SlotPatience is how long a standby keeps WAL for a member that says nothing: Patroni's default of member_slots_ttl. One that
// is away for longer finds its WAL on the primary, or is cloned anew.
const SlotPatience = 30 * time.Minute

// SlotsTo says how far a standby's slot for each of the others may move: to what that member has, so that it finds the
// rest here should this node be promoted. For who has been silent for long, or whose WAL has left this node's history
// and must be rewound anyway, nothing is kept: a slot on a standby never makes pg_wal grow without bound.
func SlotsTo(o *Observation, others []cluster.NodeID) map[cluster.NodeID]cluster.LSN {
	to := map[cluster.NodeID]cluster.LSN{}
	all := o.Local.Postgres.Replayed
	for _, n := range others {
		p := o.Peers[n]
		has := p.Status.Position
		switch {
		case o.Now.Sub(max(p.At, o.Began)) >= SlotPatience:
			to[n] = all
		case p.At.IsZero() || p.Err != "" || !has.Known(): // for now what the slot keeps is right
		case o.View.Forks.Relate(has, o.Position.Timeline) == cluster.Prefix:
			to[n] = min(has.LSN, all)
		case o.View.Forks.Relate(has, o.Position.Timeline) == cluster.Diverged && o.View.Forks.Relate(o.Position, has.Timeline) == cluster.Diverged:
			to[n] = all
		}
	}
	return to
}

// KnowsItsCluster says whether what the state names is all that this node ever knew of its cluster: it holds the key under a live
// lease, or the state is as new again as before its agent was started, and names the data that stands here under the identity of
// its present Raft store. Until then slots of nodes that it does not name yet would be dropped, with the WAL that they keep, and
// settings and lists taken back; for as long as the host is cut off.
func KnowsItsCluster(o *Observation) bool {
	me, here := o.View.Nodes[o.Self], o.Local.Postgres.Incarnation
	return o.holds() || o.Raft.Recalled && here != "" && me.Incarnation == here && me.UID == o.Node.UID
}

// MayKeepSlots says whether slots may be put in order by what the state names. A standby that hears of no cluster for so long keeps
// nothing for whom it has not heard of (SlotsTo).
func MayKeepSlots(o *Observation) bool {
	return KnowsItsCluster(o) || o.Now.Sub(o.Began) >= SlotPatience
}
