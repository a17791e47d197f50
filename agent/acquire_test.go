package agent

import (
	"slices"
	"testing"
	"testing/synctest"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// acquisition is n's of term 4, with the other two as standbys.
func acquisition(c *fakeCluster, n cluster.NodeID, inPlace bool) decide.Decision {
	v := c.current()
	cmd := cluster.AcquireLeader{Node: n, ExpectTerm: 3, RulesVersion: v.RulesVersion, Member: member(n), InPlace: inPlace,
		Parent: 2, SeenMax: 2, Lease: v.Key.Lease, K: 1, Mode: cluster.SyncQuorum}
	for _, s := range c.voters {
		if s != n {
			cmd.Standbys = append(cmd.Standbys, member(s))
		}
	}
	return decide.Decision{Action: decide.Acquire, Reason: decide.ReasonBestCandidate, Term: 4, Acquire: cmd}
}

// K7, section 11: the heartbeats that the lease needs are hastened once, after the commit; the lease is of the term and
// the Raft term of the commit. Siblings that promised are told to follow, others are not.
func TestK7Acquire(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.set("n1", func(p *cluster.PostgresStatus) { p.Role = cluster.RoleStandby }) // could follow, but has promised nothing
		c.lead("n2")
		n2 := c.nodes["n2"]
		n2.observe()
		n2.enter(8, "n2", promiseOf("n2", 4), nil)
		n2.enter(8, "n3", promiseOf("n3", 4), nil)
		if err := n2.pg.Cut(c.life); err != nil { // by its own promise
			t.Fatal(err)
		}
		c.nodes["n3"].pg.promised = 4
		committed := c.calls.block("n2 Apply acquire_leader")
		done := background(func() error { return n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false)) })
		if c.calls.count("n2 Kick")+c.calls.count("n3 Follow") != 0 || !pending(done) {
			t.Errorf("before the commit: %q", c.calls.all(""))
		}
		if _, state := n2.keeper.current(); state != decide.LeaseNone {
			t.Errorf("before the commit the keeper is in state %d", state)
		}
		if !c.calls.ordered("n2 SetSyncNames", "n2 ProveSyncNames") {
			t.Errorf("the list is not prepared beside the commit: %q", c.calls.all("n2"))
		}
		committed()
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.calls.count("n2 Kick") != 1 || !c.calls.ordered("n2 Apply acquire_leader", "n2 Kick") {
			t.Errorf("calls %q", c.calls.all("n2"))
		}
		if l, state := n2.keeper.current(); state != decide.LeaseFresh || l.Term != 4 || l.RaftTerm != 8 {
			t.Errorf("lease %+v in state %d", l, state)
		}
		if got := append(c.calls.all("n1 Follow"), c.calls.all("n3 Follow")...); !slices.Equal(got, []string{"n3 Follow n2 4 false"}) {
			t.Errorf("told to follow: %q", got)
		}
	})
}

// K7, K3: in place the standbys of the rule follow the new term without a promise, and no list is prepared: the primary's
// is in force.
func TestK7AcquireInPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		if err := n1.acquire(c.life, n1.observe(), acquisition(c, "n1", true)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.calls.count("n2 Follow n1 4 false") != 1 || c.calls.count("n3 Follow n1 4 false") != 1 || c.calls.count("n1 SetSyncNames") != 0 {
			t.Errorf("calls %q", c.calls.all(""))
		}
		l, state := n1.keeper.current()
		if k := c.current().Key; state != decide.LeaseFresh || l.Term != 4 || k.Timeline != 2 || c.calls.count("n1 Kick") != 1 {
			t.Errorf("lease %+v in state %d, key %+v", l, state, k)
		}
	})
}

// K7: an acquisition that the state machine refused leaves nothing behind: no lease, no orders.
func TestK7RefusedAcquisition(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		gather(t, n2)
		c.calls.fail("n2 Apply acquire_leader")
		err := n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false))
		synctest.Wait()
		if _, state := n2.keeper.current(); err == nil || state != decide.LeaseNone {
			t.Errorf("error %v, keeper in state %d", err, state)
		}
		if c.calls.count("n2 Kick")+c.calls.count("n3 Follow") != 0 {
			t.Errorf("calls %q", c.calls.all(""))
		}
	})
}

// K7: the lease is acquired whether or not heartbeats could be hastened (VerifyLeader's result is never the lease).
func TestK7KickIsOnlyHaste(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		gather(t, n2)
		c.calls.fail("n2 Kick")
		err := n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false))
		if l, state := n2.keeper.current(); err != nil || state != decide.LeaseFresh || l.Term != 4 {
			t.Errorf("error %v, lease %+v in state %d", err, l, state)
		}
		synctest.Wait()
	})
}

// A catch-up that does not come to its end is followed by new questions: the node with the highest position, or another,
// may have become the better one.
func TestC2FailedCatchUpAsksAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.nodes["n2"].pg.pos.LSN = 900
		c.set("n2", func(p *cluster.PostgresStatus) { p.Received, p.Replayed = 900, 900 })
		gather(t, n2)
		err := n2.catchUp(c.life, n2.observe(), decide.Decision{Action: decide.CatchUp, Node: "n2", Source: "n3", Term: 4})
		if got := n2.observe().TakeOver; err == nil || !got.PromisedAt.IsZero() || got.CatchUps != 1 || got.Promises["n2"].Position.LSN != 900 {
			t.Errorf("after %v: %+v", err, got)
		}
		c.set("n3", func(p *cluster.PostgresStatus) { p.SyncNames = "as it is now" })
		if err := n2.askPromises(c.life, n2.observe(), decide.Decision{Action: decide.AskPromises, Term: 4}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := n2.observe().TakeOver.Statuses["n3"].Postgres.SyncNames; got != "as it is now" {
			t.Errorf("the status of n3 is of before: %q", got)
		}
	})
}

// C2: the candidate streams from the node with the highest position, by an order of the promised term; then it promises
// anew, since its position has moved.
func TestC2CatchUpThenPromiseAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.nodes["n2"].pg.pos.LSN = 900
		c.set("n2", func(p *cluster.PostgresStatus) { p.Received, p.Replayed = 900, 900 })
		gather(t, n2)
		done := background(func() error {
			return n2.catchUp(c.life, n2.observe(), decide.Decision{Action: decide.CatchUp, Node: "n2", Source: "n3", Term: 4})
		})
		if c.calls.count("n2 Follow n3 4 true") != 1 || !pending(done) {
			t.Fatalf("calls %q", c.calls.all("n2"))
		}
		if got := n2.observe().TakeOver; got.Promises["n2"].Position.LSN != 900 {
			t.Errorf("before it has caught up: %+v", got.Promises["n2"])
		}
		c.set("n2", func(p *cluster.PostgresStatus) { p.Received, p.Replayed = 1000, 1000 })
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		got := n2.observe().TakeOver
		if _, kept := got.Promises["n2"]; kept || !got.PromisedAt.IsZero() || got.CatchUps != 0 || got.Promises["n3"].Term != 4 {
			t.Errorf("after it has caught up: %+v", got)
		}
	})
}
