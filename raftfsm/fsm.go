package raftfsm

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// fsm is the replicated state machine as Raft sees it: it decodes, hands the command to its rule (apply_*.go) and
// publishes the next view. Raft calls its changing methods from one goroutine at a time; View may be called from any.
type fsm struct {
	view   atomic.Pointer[cluster.View]
	recall atomic.Pointer[recall] // nil until Raft has opened
	wake   func()
}

var (
	_ raft.FSM                = (*fsm)(nil)
	_ raft.ConfigurationStore = (*fsm)(nil)
)

// newFSM gives the empty state of the cluster named scope. wake is called after each change of the state, must not
// block, and may be nil.
func newFSM(scope string, wake func()) *fsm {
	if wake == nil {
		wake = func() {}
	}
	f := &fsm{wake: wake}
	f.view.Store(emptyView(scope))
	return f
}

// emptyView has no nil map or slice, so that a node that applied the whole log and one that restored a snapshot hold,
// and write, the same bytes.
func emptyView(scope string) *cluster.View {
	return &cluster.View{
		Scope:     scope,
		Nodes:     map[cluster.NodeID]cluster.Node{},
		Forks:     cluster.Forks{},
		Rules:     []cluster.SyncRule{},
		Refusals:  map[cluster.NodeID]cluster.Refusal{},
		Events:    []cluster.Event{},
		Committed: []cluster.NodeID{},
	}
}

// View gives the newest state. It never changes: each Apply, Restore and StoreConfiguration puts another in its place.
func (f *fsm) View() *cluster.View { return f.view.Load() }

// Apply applies one committed command. The result is the command's value (nil where it has none) or a
// *cluster.Refused, the same on every node. A refusal, and a command whose wish already stands, move Index only and
// wake nobody. An entry that this binary does not know halts the node: to skip it would let the nodes drift apart.
func (f *fsm) Apply(entry *raft.Log) any {
	cmd, err := decodeCommand(entry.Data)
	if err != nil {
		panic(fmt.Sprintf("raft entry %d cannot be applied by this version of pgquorum, which must not go on without it: %v", entry.Index, err))
	}
	old := f.View()
	next := *old
	out := apply(&next, cmd)
	if out.refused != nil || out.same {
		next = *old
	}
	next.Index = entry.Index
	f.view.Store(&next)
	if out.refused != nil {
		return out.refused
	}
	if !out.same {
		f.wake()
	}
	return out.value
}

// StoreConfiguration records the voters of a committed Raft configuration (L6).
func (f *fsm) StoreConfiguration(index uint64, configuration raft.Configuration) {
	voters := []cluster.NodeID{}
	for _, s := range configuration.Servers {
		if s.Suffrage == raft.Voter {
			voters = append(voters, cluster.NodeID(s.ID))
		}
	}
	slices.Sort(voters)
	next := *f.View()
	next.Index, next.Committed = index, voters
	f.view.Store(&next)
	f.wake()
}

// outcome is what a rule made of a command: a refusal, nothing new, or a change with its value.
type outcome struct {
	value   any
	same    bool
	refused *cluster.Refused
}

// done says that the draft holds the change.
func done(value any) outcome { return outcome{value: value} }

// same says that what was asked for stands already.
func same(value any) outcome { return outcome{value: value, same: true} }

// refuse says what was asked for and what stands instead.
func refuse(c cluster.Command, format string, args ...any) outcome {
	return outcome{refused: &cluster.Refused{Command: c.Kind(), Reason: fmt.Sprintf(format, args...)}}
}
