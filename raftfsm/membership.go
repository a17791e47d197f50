package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// ErrUnsettled says that this leader has not settled the key yet, so the membership stays as it is (L6).
var ErrUnsettled = errors.New("the leader key is not settled in this raft term")

// SetSettledTerm says that the key is settled in Raft term r: this leader has acquired it, or has seen its holder well,
// after its Barrier. From then on it may change the membership, until leadership is lost (L6).
func (n *Node) SetSettledTerm(r uint64) { n.settledTerm.Store(r) }

// SetBeforeChange sets what is called before each membership change is proposed, at a moment when LeaseEnd counts over
// the proposed voters already: the holder lowers its guard's E there (L6). An error keeps the change from being
// proposed. nil: nothing is called.
func (n *Node) SetBeforeChange(f func(context.Context) error) {
	n.hook.Lock()
	defer n.hook.Unlock()
	n.beforeChange = f
}

// AddNonvoter adds a node that gets the log and has no vote, or updates its address; a voter stays a voter. It returns
// once that is committed.
func (n *Node) AddNonvoter(ctx context.Context, id cluster.NodeID, addr string) error {
	n.change.Lock()
	defer n.change.Unlock()
	return n.addNonvoter(ctx, id, addr)
}

// AddVoter adds a node as a voter: first without a vote, then, once its log has caught up, with one; so a node that is
// not there, or far behind, never counts against the quorum. For a voter it updates the address. When ctx ends while
// the node is behind, it stays a non-voter.
func (n *Node) AddVoter(ctx context.Context, id cluster.NodeID, addr string) error {
	n.change.Lock()
	defer n.change.Unlock()
	if server := n.server(id); server == nil || server.Suffrage != raft.Voter {
		if err := n.addNonvoter(ctx, id, addr); err != nil {
			return err
		}
		if err := n.caughtUp(ctx, id); err != nil {
			return fmt.Errorf("add voter %s: it stays a non-voter: %w", id, err)
		}
	}
	err := n.reconfigure(ctx, withServer(id, addr, raft.Voter), func(prev uint64, timeout time.Duration) raft.IndexFuture {
		return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), prev, timeout)
	})
	if err != nil {
		return fmt.Errorf("add voter %s at %s: %w", id, addr, err)
	}
	return nil
}

// RemoveServer removes a node, voter or not. The key's holder is never removed (L6). A node that is no member is an
// error.
func (n *Node) RemoveServer(ctx context.Context, id cluster.NodeID) error {
	n.change.Lock()
	defer n.change.Unlock()
	if n.server(id) == nil {
		return fmt.Errorf("remove %s: it is no member", id)
	}
	if key := n.View().Key; key.Holder == id && !key.Released {
		return fmt.Errorf("remove %s: it holds the leader key at term %d: switch over first", id, key.Term)
	}
	if id == n.opt.Self {
		return fmt.Errorf("remove %s: it is the raft leader: transfer leadership first", id)
	}
	err := n.reconfigure(ctx, withoutServer(id), func(prev uint64, timeout time.Duration) raft.IndexFuture {
		return n.raft.RemoveServer(raft.ServerID(id), prev, timeout)
	})
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

func (n *Node) addNonvoter(ctx context.Context, id cluster.NodeID, addr string) error {
	if s := n.server(id); s != nil && string(s.Address) == addr {
		return n.changeable()
	}
	err := n.reconfigure(ctx, withServer(id, addr, raft.Nonvoter), func(prev uint64, timeout time.Duration) raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), prev, timeout)
	})
	if err != nil {
		return fmt.Errorf("add non-voter %s at %s: %w", id, addr, err)
	}
	return nil
}

// changeable says whether this leader may change the membership.
func (n *Node) changeable() error {
	switch r := n.BarrierTerm(); {
	case n.closed():
		return ErrClosed
	case n.raft.State() != raft.Leader:
		return ErrNotLeader
	case r == 0 || n.settledTerm.Load() != r:
		return ErrUnsettled
	}
	return nil
}

// reconfigure makes one change of the configuration, built on the latest one (prevIndex), and waits until it is
// committed. next gives the configuration it leads to, which counts for the lease from before it is proposed (L6).
func (n *Node) reconfigure(ctx context.Context, next func(raft.Configuration) raft.Configuration, call func(prev uint64, timeout time.Duration) raft.IndexFuture) error {
	if err := n.changeable(); err != nil {
		return err
	}
	index, latest := n.configs.latest()
	end := n.configs.propose(next(latest.Clone()))
	n.hook.Lock()
	before := n.beforeChange
	n.hook.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			end()
			return fmt.Errorf("lease before the change: %w", err)
		}
	}
	return n.propose(ctx, func(timeout time.Duration) error {
		// What is in the log counts by itself from when it was stored; this ends when Raft has answered, not with ctx.
		defer end()
		return call(index, timeout).Error()
	})
}

// caughtUp waits until a follower's log has all that this leader's had when it looked last, with no more than a few
// entries come since. Bounded by ctx, by 10 min, and by this node's leadership.
func (n *Node) caughtUp(ctx context.Context, id cluster.NodeID) error {
	const few, look, limit = 16, time.Second, 10 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for r := n.stable.Term(); ; {
		goal := n.raft.LastIndex()
		short, cancel := context.WithTimeout(ctx, look)
		err := n.progress.wait(short, id, r, goal)
		cancel()
		switch {
		case !n.leads(r):
			return ErrNotLeader
		case ctx.Err() != nil:
			return fmt.Errorf("its log did not reach index %d: %w", goal, ctx.Err())
		case err == nil && n.raft.LastIndex()-goal <= few:
			return nil
		}
	}
}

// server gives a node's entry in the latest configuration; nil: none.
func (n *Node) server(id cluster.NodeID) *raft.Server {
	_, config := n.configs.latest()
	for _, s := range config.Servers {
		if s.ID == raft.ServerID(id) {
			return &s
		}
	}
	return nil
}

// withServer gives the change that adds a server or updates it; a vote once given stays.
func withServer(id cluster.NodeID, addr string, suffrage raft.ServerSuffrage) func(raft.Configuration) raft.Configuration {
	return func(c raft.Configuration) raft.Configuration {
		for i := range c.Servers {
			if s := &c.Servers[i]; s.ID == raft.ServerID(id) {
				s.Address = raft.ServerAddress(addr)
				if suffrage == raft.Voter {
					s.Suffrage = raft.Voter
				}
				return c
			}
		}
		c.Servers = append(c.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(id), Address: raft.ServerAddress(addr)})
		return c
	}
}

// withoutServer gives the change that removes a server.
func withoutServer(id cluster.NodeID) func(raft.Configuration) raft.Configuration {
	return func(c raft.Configuration) raft.Configuration {
		kept := c.Servers[:0]
		for _, s := range c.Servers {
			if s.ID != raft.ServerID(id) {
				kept = append(kept, s)
			}
		}
		c.Servers = kept
		return c
	}
}
