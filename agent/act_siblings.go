package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// siblings tells the standbys of the new rule to stream from here, ahead of the FSM's own word (docs/design.md, section 4:
// siblings attach to the candidate before it is promoted), but for those that have WAL which this node has not. Where the end
// of what this node would send may be left out by its promotion, they are told once it is promoted (S6).
func (a *Agent) siblings(ctx context.Context, o *decide.Observation, key cluster.LeaderKey, cmd cluster.AcquireLeader) {
	q := followRequest{Term: key.Term, Source: a.opt.Self, Addr: a.opt.Node.PostgresAddr, Timeline: key.Timeline}
	valid := decide.Valid(o.View, key.Term, o.TakeOver.Promises) // one that does not count may be of WAL that is nobody's (F3)
	told := cmd.Standbys
	if !cmd.InPlace {
		q.Position = valid[a.opt.Self].Position
		told = slices.DeleteFunc(slices.Clone(told), func(m cluster.Member) bool {
			p, promised := valid[m.Node]
			return !(promised && decide.FollowsWithoutRewind(o.View.Forks, p.Position, q.Position))
		})
		if len(told) == 0 {
			return
		}
		if err := a.awaitWholeRecords(ctx, key.Term, o.View.Config.PrimaryStartTimeout); err != nil {
			a.log.InfoContext(ctx, "siblings not told to follow; they will by themselves", "reason", err)
			return
		}
	}
	q.RaftTerm = a.raft.Status().Term // leadership may have come back in another one since (K3)
	ctx, cancel := context.WithTimeout(ctx, a.opt.Heartbeat)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range told {
		wg.Go(func() {
			if err := a.peers.call(ctx, m.Node, "/follow", q, nil); err != nil {
				a.log.InfoContext(ctx, "sibling not told to follow; it will by itself", "node", m.Node, "reason", err)
			}
		})
	}
	wg.Wait()
}

// awaitWholeRecords waits until all that this node's walsenders may send is in its history, whenever it is promoted: for
// limit at most, and while the key is held in that term.
func (a *Agent) awaitWholeRecords(ctx context.Context, term cluster.Term, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	often := a.opt.Clock().Add(a.opt.Heartbeat) // until then
	for {
		p, err := a.pg.Status(ctx) // one that fails while Postgres is busy is asked again
		if k := a.raft.View().Key; k.Term != term || k.Released {
			return fmt.Errorf("the key is not held in term %d any more", term)
		}
		if err == nil && decide.SendsWholeRecords(p) {
			return nil
		}
		if often.Before(a.opt.Clock()) {
			tick.Reset(lookSoon)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("received %s, replayed %s: %w", p.Received, p.Replayed, ctx.Err()), err)
		}
	}
}
