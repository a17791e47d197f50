package raftfsm

import (
	"fmt"
	"reflect"
	"slices"

	"pgquorum/cluster"
)

// applyRegister enters or updates a node.
func applyRegister(v *cluster.View, c cluster.Register) outcome {
	n := c.Node
	if n.Name == "" || n.UID == "" {
		return refuse(c, "node %q with uid %q: want both", n.Name, n.UID)
	}
	old, known := v.Nodes[n.Name]
	if n.Incarnation == "" { // a life is replaced, never merely taken away: a node that has just started knows no better
		n.Incarnation = old.Incarnation
	}
	switch {
	case known && reflect.DeepEqual(old, n):
		return same(nil)
	case known && old.UID != n.UID:
		return refuse(c, "node %q with uid %s: the name is that of uid %s", n.Name, n.UID, old.UID)
	case known && old.Incarnation != n.Incarnation:
		if why := lifeObstacle(v, old); why != "" {
			return refuse(c, "node %q with incarnation %q: %s", n.Name, n.Incarnation, why)
		}
	}
	v.Nodes = with(v.Nodes, n.Name, n)
	if !known {
		record(v, "", "node_registered", n.Name, "%s entered with incarnation %q at %s", n.Name, n.Incarnation, n.RaftAddr)
	} else {
		record(v, "", "node_changed", n.Name, "%s has incarnation %q (before: %q) at %s", n.Name, n.Incarnation, old.Incarnation, n.RaftAddr)
	}
	return done(nil)
}

// applyReadmit gives a known name to another uid, or enters one that is new.
func applyReadmit(v *cluster.View, c cluster.Readmit) outcome {
	old := v.Nodes[c.Node]
	switch {
	case c.Node == "" || c.UID == "":
		return refuse(c, "node %q with uid %q: want both", c.Node, c.UID)
	case old.UID == c.UID:
		return same(nil)
	case old.UID != c.From:
		return refuse(c, "node %q with uid %s in place of %q: the name is that of uid %q", c.Node, c.UID, c.From, old.UID)
	case slices.Contains(v.Committed, c.Node):
		return refuse(c, "node %q with uid %s: the former server of that name is a voter still, and its votes are forgotten: remove it first", c.Node, c.UID)
	case v.Key.Holder == c.Node && !v.Key.Released:
		return refuse(c, "node %q with uid %s: it holds the leader key of term %d (L6)", c.Node, c.UID, v.Key.Term)
	}
	next := old
	next.Name, next.UID, next.RaftAddr = c.Node, c.UID, c.RaftAddr
	v.Nodes = with(v.Nodes, c.Node, next)
	record(v, "", "node_readmitted", c.Node, "%s is taken in with uid %s (before: %q) at %s", c.Node, c.UID, c.From, c.RaftAddr)
	return done(nil)
}

// lifeObstacle says why a node's present life cannot be replaced (V5): what it acknowledged as the primary of the newest
// rule may be nowhere else; empty: it can. A standby's life is not kept here: its node has another directory in its place,
// and a rule counts only on lives that are registered, so that such a rule asks more of the others from then on, never
// less (docs/adr/0032). That data is not given up while rules count on it is agent/decide's to see to.
func lifeObstacle(v *cluster.View, n cluster.Node) string {
	m, has := n.Member()
	if !has {
		return ""
	}
	for _, r := range v.Rules {
		if r.Primary == m && !acquiredAfter(v, r) {
			return fmt.Sprintf("%s is the primary of recorded rule %d of term %d", m.Life(), r.ID, r.Term)
		}
	}
	return ""
}

// acquiredAfter says whether a rule of a later acquisition is recorded: its primary had everything that a candidate
// under r needs (C1 c), so r's primary is no longer counted on.
func acquiredAfter(v *cluster.View, r cluster.SyncRule) bool {
	for _, later := range v.Rules {
		if later.Term > r.Term {
			return true
		}
	}
	return false
}

// registered says whether m is a node's registered, present life (V5).
func registered(v *cluster.View, m cluster.Member) bool {
	has, ok := v.Nodes[m.Node].Member()
	return ok && has == m
}
