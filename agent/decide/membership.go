package decide

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pgquorum/cluster"
)

// Membership is what a Raft leader does next about a node that has lost its Raft store, or bears a lost node's name
// (docs/adr/0029): the former server leaves Raft's configuration, the name goes to the new uid, the node gets the log without a
// vote, and a vote once it has caught up. Each call names one step, so that any can be tried again; one at a time, and none
// before the key is settled (L6). Names that nobody knows are not taken in, and the key's holder is never removed: it must
// lose the key first.
func Membership(o *Observation) Decision {
	if !o.leads() || !o.Settled {
		return Decision{Action: None}
	}
	waiting := Decision{Action: None}
	for _, a := range o.Applicants {
		d := takeIn(o, a)
		if d.Action != Wait && d.Action != None {
			return d
		}
		if waiting.Action == None {
			waiting = d
		}
	}
	known := slices.DeleteFunc(slices.Sorted(maps.Keys(o.View.Nodes)), func(name cluster.NodeID) bool { return !answersAsRegistered(o, name) })
	give := func(action Action, name cluster.NodeID) Decision {
		n := o.View.Nodes[name]
		return Decision{Action: action, Reason: ReasonApplies, Node: name, Joins: cluster.Applicant{Node: name, UID: n.UID, RaftAddr: n.RaftAddr}}
	}
	for _, name := range known {
		if slices.Contains(o.Raft.Nonvoters, name) {
			return give(GiveVote, name)
		}
	}
	for _, name := range known { // it was to be replaced, and has come back before another had its name
		if !slices.Contains(o.Raft.Voters, name) {
			return give(AddServer, name)
		}
	}
	return waiting
}

// ReplacePatience is how long a name's former bearer must not have answered before another is taken in under it. A node that
// is only restarted, or whose connections are being cut, is not replaced by a second agent that bears its name by mistake.
const ReplacePatience = 5 * time.Second

// takeIn is the next step for one applicant.
func takeIn(o *Observation, a cluster.Applicant) Decision {
	d := Decision{Reason: ReasonApplies, Node: a.Node, Joins: a}
	reg, known := o.View.Nodes[a.Node]
	member := slices.Contains(o.Raft.Voters, a.Node) || slices.Contains(o.Raft.Nonvoters, a.Node)
	wait := func(why Reason, format string, args ...any) Decision {
		d.Action, d.Reason, d.Detail = Wait, why, fmt.Sprintf(format, args...)
		return d
	}
	switch {
	case a.Node == o.Self:
		return wait(ReasonNameLives, "it is this node's own")
	case !known && !member && !slices.Contains(o.Members, a.Node):
		return wait(ReasonApplies, "no node %s is registered", a.Node)
	case reg.UID == a.UID && member:
		return Decision{Action: None} // it will hear of it
	case reg.UID == a.UID:
		d.Action = AddServer
	case a.Other != "":
		return wait(ReasonNameLives, "%s", a.Other)
	case o.View.Key.Holder == a.Node && !o.View.Key.Released:
		return wait(ReasonKeyHeld, "%s holds the leader key of term %d: another takes it over first", a.Node, o.View.Key.Term)
	case a.For < ReplacePatience || o.anotherAnswered(a, ReplacePatience):
		return wait(ReasonNameLives, "%s answered with uid %s not long ago", a.Node, reg.UID)
	case member:
		d.Action = RemoveServer
	case slices.Contains(o.View.Committed, a.Node):
		return wait(ReasonApplies, "it is not committed yet that the node with uid %s leaves raft's configuration", reg.UID)
	default:
		d.Action = Readmit
	}
	return d
}

// anotherAnswered says whether another node than the applicant answered a status call of late under the name that it asks for.
func (o *Observation) anotherAnswered(a cluster.Applicant, limit time.Duration) bool {
	p, asked := o.Peers[a.Node]
	return asked && !p.At.IsZero() && o.Now.Sub(p.At) < limit && p.Status.UID != a.UID
}

// answersAsRegistered says whether a node answers of late, as the one that has the name: it has a place in Raft, with a vote.
// Every node's file asks for one in this version, and who leaves for good is no longer registered.
func answersAsRegistered(o *Observation, name cluster.NodeID) bool {
	s, answers := o.lately(name)
	return answers && s.UID != "" && s.UID == o.View.Nodes[name].UID
}

// notMember is a node without a Raft store: until it has a place it has no state to go by, and does nothing. What its guard
// ran has been fenced, or is by the end of its lease.
func notMember(o *Observation) (Decision, bool) {
	return Decision{Action: Wait, Reason: ReasonNotMember, Detail: o.Raft.Waiting}, o.Raft.Waiting != ""
}
