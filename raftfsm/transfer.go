package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// Transfer hands leadership to a voter and returns nil once this node has left office, which does not say that the
// other won. When ctx ends first the transfer may still happen.
func (n *Node) Transfer(ctx context.Context, to cluster.NodeID) error {
	_, config := n.configs.latest()
	for _, s := range config.Servers {
		if s.ID != raft.ServerID(to) {
			continue
		}
		if s.Suffrage != raft.Voter || to == n.opt.Self {
			return fmt.Errorf("transfer to %s: want another voter, it is %s", to, s.Suffrage)
		}
		err := n.propose(ctx, func(time.Duration) error {
			if !n.transfers.begin() {
				return raft.ErrRaftShutdown
			}
			defer n.transfers.end()
			return n.raft.LeadershipTransferToServer(s.ID, s.Address).Error()
		})
		if err != nil && n.raft.State() == raft.Leader {
			return fmt.Errorf("transfer to %s: %w", to, err)
		}
		if err != nil && (errors.Is(err, ErrNotLeader) || errors.Is(err, ErrClosed)) {
			return fmt.Errorf("transfer to %s: %w", to, err)
		}
		return nil
	}
	return fmt.Errorf("transfer to %s: want one of the voters %v", to, voterIDs(config))
}

// transfers watches for a transfer of leadership that Raft never ends. When leadership is lost while a transfer waits for
// the follower's replication, raft v1.8.0 may keep its mark "in progress" for ever (raft issue 696); the node may be elected
// again, and then refuses every proposal. Only a new Raft, that is a new process, is rid of it.
type transfers struct {
	mu      sync.Mutex
	running int             // calls of ours that have not ended
	closing bool            // none begins any more
	idle    chan struct{}   // closed when closing and the last call has ended
	since   cluster.Instant // of the first of an unbroken row of refusals without a call of ours; zero: none
}

// begin is false once Raft is about to stop.
func (t *transfers) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.running++
	t.since = 0
	return true
}

func (t *transfers) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.closing && t.running == 0 {
		close(t.idle)
	}
}

// close lets no further transfer begin and waits for those under way, at most so long: raft v1.8.0 never answers one that is
// still in its queue when it stops, and the goroutine that asked would wait for ever. While it runs, it answers within two election
// timeouts.
func (t *transfers) close(wait time.Duration) {
	t.mu.Lock()
	t.closing, t.idle = true, make(chan struct{})
	if t.running == 0 {
		close(t.idle)
	}
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(wait):
	}
}

// answered takes what Raft said to a proposal at that moment.
func (t *transfers) answered(err error, now cluster.Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress) || t.running > 0:
		t.since = 0
	case t.since.IsZero():
		t.since = now
	}
}

// stuckFor gives for how long Raft has refused with a transfer that nobody is making any more.
func (t *transfers) stuckFor(now cluster.Instant) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return 0
	}
	return now.Sub(t.since)
}
