package raftfsm

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// recall tells when the state is again as new as this node ever had it. Raft begins with its newest snapshot, and applies the log
// behind it only once a leader has said how far that is committed; until then nodes are missing that stood in the state before the
// agent was started, and a host that is cut off may stay there for long.
type recall struct {
	mu      sync.Mutex
	pending []uint64 // of the log behind the snapshot, as it was found: indices of entries that move View.Index, in order
}

// note takes an entry of the log as it was found.
func (r *recall) note(l *raft.Log) {
	if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
		r.pending = append(r.pending, l.Index)
	}
}

// cut forgets the entries from an index on: they were never committed.
func (r *recall) cut(low uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = slices.DeleteFunc(r.pending, func(i uint64) bool { return i >= low })
}

// restored forgets all: a leader sends a snapshot only where the log has not what follows.
func (r *recall) restored() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = nil
}

// done says whether a state that has come so far is no older than what this node had before.
func (r *recall) done(index uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) == 0 || index >= r.pending[len(r.pending)-1]
}
