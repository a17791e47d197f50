package raftfsm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// A leader that refuses proposals for a transfer that nobody makes shows for how long; anything else takes it back.
func TestTransferThatNeverEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1")
	n := w.leader()
	refuse := func() {
		err := n.propose(t.Context(), func(time.Duration) error { return raft.ErrLeadershipTransferInProgress })
		if !errors.Is(err, ErrNotLeader) {
			t.Fatalf("refused: %v", err)
		}
	}
	stuck := func() time.Duration { return n.Status().TransferStuck }

	refuse()
	eventually(t, "a refusal that lasts", func() bool { return stuck() > 20*time.Millisecond })
	before := stuck()
	refuse()
	if got := stuck(); got < before {
		t.Errorf("after the second refusal %v, before it %v: it counts from the first", got, before)
	}
	if err := n.propose(t.Context(), func(time.Duration) error { return raft.ErrNotLeader }); err == nil || stuck() != 0 {
		t.Errorf("after another answer (%v): refusing for %v", err, stuck())
	}

	if !n.transfers.begin() {
		t.Fatal("a transfer may not begin")
	}
	refuse()
	if got := stuck(); got != 0 {
		t.Errorf("with a transfer of ours under way: %v", got)
	}
	n.transfers.end()
	refuse()
	eventually(t, "a refusal after the transfer's end", func() bool { return stuck() > 0 })
	w.onLeader("an event", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, cluster.AddEvent{})
		return err
	})
	if got := stuck(); got != 0 {
		t.Errorf("after a commit: %v", got)
	}
}

// Raft stops only once the transfers under way have their answers, but not for ever; none begins any more.
func TestTransfersEndBeforeRaftStops(t *testing.T) {
	t.Parallel()
	var ts transfers
	if !ts.begin() {
		t.Fatal("a transfer may not begin")
	}
	stopped := make(chan struct{})
	go func() {
		ts.close(time.Hour)
		close(stopped)
	}()
	eventually(t, "no further transfer", func() bool {
		if !ts.begin() {
			return true
		}
		ts.end()
		return false
	})
	select {
	case <-stopped:
		t.Error("it did not wait for the transfer")
	default:
	}
	ts.end()
	<-stopped

	var hangs transfers
	hangs.begin()
	hangs.close(time.Millisecond) // returns
}
