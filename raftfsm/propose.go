package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// proposeTimeout bounds what is proposed without a deadline.
const proposeTimeout = 10 * time.Second

// Apply commits a command and gives the FSM's value for it (such as the cluster.LeaderKey of AcquireLeader). Errors:
// *cluster.Refused from the FSM, ErrNotLeader, ErrClosed, ctx's error before the command was queued: nothing changed.
// ErrUnknown: leadership was lost, or ctx ended, after it may have been queued: look at the state again.
func (n *Node) Apply(ctx context.Context, cmd cluster.Command) (any, error) {
	data, err := encodeCommand(cmd)
	if err != nil {
		return nil, err
	}
	var value any
	err = n.propose(ctx, func(timeout time.Duration) error {
		f := n.raft.Apply(data, timeout)
		if err := f.Error(); err != nil {
			return err
		}
		value = f.Response()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("apply %s: %w", cmd.Kind(), err)
	}
	n.spreading.Reset(spreadPause)
	switch v := value.(type) {
	case *cluster.Refused:
		return nil, v
	case error:
		return nil, fmt.Errorf("apply %s: %w", cmd.Kind(), v)
	}
	return value, nil
}

// spread tells the followers of the newest commit: the commit index travels with the next entry only, or when the leader has
// been idle for long. A node that waits for the fork of a timeline before it follows would wait that long.
func (n *Node) spread() {
	if !n.closed() && n.raft.State() == raft.Leader {
		n.raft.Barrier(spreadTimeout) // of no interest whether it commits: the next command spreads again
	}
}

// spreadTimeout bounds the wait for a place in Raft's queue.
const spreadTimeout = time.Second

// Barrier returns once everything committed before is applied here, with the Raft term in which that was (K1). It is an
// error if the term changed meanwhile.
func (n *Node) Barrier(ctx context.Context) (raftTerm uint64, err error) {
	before := n.raft.CurrentTerm()
	err = n.propose(ctx, func(timeout time.Duration) error { return n.raft.Barrier(timeout).Error() })
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	if after := n.raft.CurrentTerm(); after != before {
		return 0, fmt.Errorf("barrier: began in raft term %d, ended in %d: %w", before, after, ErrNotLeader)
	}
	n.barrierTerm.Store(before)
	return before, nil
}

// BarrierTerm is the Raft term in which this node leads and a Barrier of ours was applied; 0 when there is none, so
// also once leadership is lost.
func (n *Node) BarrierTerm() uint64 {
	if r := n.barrierTerm.Load(); r != 0 && !n.closed() && n.leads(r) {
		return r
	}
	return 0
}

// Kick makes heartbeats go out now and waits until a quorum has answered. Its result says nothing of the lease:
// answers already under way count for it (raft issue 108).
func (n *Node) Kick(ctx context.Context) error {
	err := n.propose(ctx, func(time.Duration) error { return n.raft.VerifyLeader().Error() })
	if err != nil {
		return fmt.Errorf("verify leader: %w", err)
	}
	return nil
}

// propose runs a call of Raft's that may wait, until ctx ends, and gives its error as one of ours. A call that outlives
// ctx ends by Raft's own means.
func (n *Node) propose(ctx context.Context, call func(timeout time.Duration) error) error {
	if n.closed() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	until, _ := ctx.Deadline()
	result := make(chan error, 1)
	go func() { result <- call(max(time.Until(until), time.Millisecond)) }()
	select {
	case err := <-result:
		n.transfers.answered(err, n.opt.Clock())
		return proposalError(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	}
}

// proposalError sorts Raft's errors by what the caller may conclude.
func proposalError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("not queued: %w: %w", context.DeadlineExceeded, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w: %w", ErrUnknown, ErrClosed, err)
	default: // leadership lost, or the leader's own log cannot be written: the entry may be in some log
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}
