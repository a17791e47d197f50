package raftfsm

import (
	"github.com/hashicorp/raft"
)

// Store keeps Raft's log and Raft's own values, such as its term. What it has taken without an error outlives a crash. A
// value that was never set is 0 without an error.
type Store interface {
	raft.LogStore
	raft.StableStore
	Close() error
}
