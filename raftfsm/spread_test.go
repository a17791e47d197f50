package raftfsm

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// After a command the leader sends one more entry, with which the commit index travels: followers that wait for the
// command do not wait for an idle leader's next word.
func TestCommitIsSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Second, nil, "n1", "n2", "n3")
	var at uint64
	var by *Node
	w.onLeader("a command", func(ctx context.Context, leader *Node) error {
		_, err := leader.Apply(ctx, cluster.AddEvent{Event: cluster.Event{Type: "spread", Node: "n1"}})
		by, at = leader, leader.View().Index
		return err
	})
	var entry raft.Log
	eventually(t, "an entry after the command", func() bool { return by.store.GetLog(at+1, &entry) == nil })
	if entry.Type != raft.LogBarrier {
		t.Errorf("want a barrier after the command, have %v", entry.Type)
	}
}
