package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// ErrCampaigned says that this process has campaigned before.
var ErrCampaigned = errors.New("this process has campaigned before")

// Campaign makes this node stand for election at once, against a living leader too: TimeoutNow to itself (L9). Once
// per process, never when leader, and only as a voter. It returns when Raft has taken the order; who wins shows in
// Status. The caller has asked the present leader for a transfer first.
func (n *Node) Campaign(ctx context.Context) error {
	if n.closed() {
		return ErrClosed
	}
	if n.raft.State() == raft.Leader {
		return ErrIsLeader
	}
	if _, config := n.configs.latest(); !slices.Contains(voterIDs(config), n.opt.Self) {
		return fmt.Errorf("campaign: want a voter, %s is none of %v", n.opt.Self, voterIDs(config))
	}
	if !n.campaigned.CompareAndSwap(false, true) {
		return ErrCampaigned
	}
	order := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.opt.Self), Addr: []byte(n.opt.Advertise),
	}}
	if err := n.trans.inject(ctx, order); err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	return nil
}
