package raftfsm

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// readmits are the nodes that entries of the log give to another uid (Readmit). The state machine learns of it once the entry is
// committed, and after a start once a leader has said so; Raft counts over a configuration as soon as that is stored. So
// from when the entry is stored, nobody but the new uid may bear the name; that one may once the entry is applied.
type readmits struct {
	mu    sync.Mutex
	given []given
	told  func(cluster.NodeID) // of a new one; may be nil
}

// given is one such entry.
type given struct {
	index uint64
	node  cluster.NodeID
	uid   cluster.UID
}

// keptNames bounds the entries remembered. After a start they are all that the log holds, of which those before the state in
// which the bearer is known do not count any more.
const keptNames = 64

// note enters an entry that is about to be stored, if it is such a one.
func (n *readmits) note(l *raft.Log) {
	if l.Type != raft.LogCommand {
		return
	}
	cmd, err := decodeCommand(l.Data)
	if err != nil {
		return // the state machine will say so, and halt
	}
	r, ok := cmd.(cluster.Readmit)
	if !ok {
		return
	}
	n.mu.Lock()
	n.given = append(n.given, given{l.Index, r.Node, r.UID})
	n.given = n.given[max(0, len(n.given)-keptNames):]
	told := n.told
	n.mu.Unlock()
	if told != nil {
		told(r.Node)
	}
}

// drop forgets deleted entries.
func (n *readmits) drop(low, high uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.given = slices.DeleteFunc(n.given, func(g given) bool { return g.index >= low && g.index <= high })
}

// bars says whether an entry behind a state gives the name to another uid.
func (n *readmits) bars(node cluster.NodeID, uid cluster.UID, applied uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.given, func(g given) bool { return g.index > applied && g.node == node && g.uid != uid })
}

// tell sets who is told of each new one.
func (n *readmits) tell(f func(cluster.NodeID)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = f
}
