package agent

import (
	"context"
	"testing"
	"testing/synctest"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// holds gives n1 a live lease of the key's term that does not end by itself.
func (c *fakeCluster) holds() *fakeNode {
	n1 := c.nodes["n1"]
	n1.guard.leased = 3
	n1.keeper.continues(3, c.clock.now().Add(1000*fakeHeartbeat))
	return n1
}

// crashed makes n1 the holder whose Postgres is gone.
func (c *fakeCluster) crashed() *fakeNode {
	n1 := c.holds()
	c.set("n1", func(p *cluster.PostgresStatus) {
		p.State, p.Role, p.Current = cluster.PostgresStopped, cluster.RoleNone, 0
	})
	return n1
}

// U4, B1: the key is given back only after the guard's fenced answer. K4: the promises are asked for meanwhile.
func TestU4ReleaseFollowsFenced(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.crashed()
		fenced := c.calls.block("n1 Fence")
		done := background(func() error { return n1.release(c.life, 3, "test") })
		if c.calls.count("n1 Apply release_leader") != 0 || !pending(done) {
			t.Fatalf("released before fenced: %q", c.calls.all("n1"))
		}
		if _, state := n1.keeper.current(); state != decide.LeaseNone {
			t.Errorf("the keeper's lease is in state %d while the guard fences", state)
		}
		if c.calls.count("n2 Promise 4") != 1 || c.calls.count("n3 Promise 4") != 1 {
			t.Errorf("promises are not asked for beside the fence: %q", c.calls.all(""))
		}
		fenced()
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		if !c.calls.ordered("n1 Fence 3", "n1 Apply release_leader") || !c.current().Key.Released {
			t.Errorf("order of calls: %q", c.calls.all("n1"))
		}
		if got := n1.observe().TakeOver.Promises; got["n2"].Term != 4 || got["n3"].Term != 4 {
			t.Errorf("the take-over finds the promises %v", got)
		}
	})
}

// U4: any other answer of the guard is "not fenced".
func TestU4NoReleaseWithoutFenced(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.crashed()
		c.calls.fail("n1 Fence")
		err := n1.handOver(c.life, n1.observe(), decide.Decision{Action: decide.HandOver, Reason: decide.ReasonCannotPromote, Term: 3})
		if err == nil || c.current().Key.Released || c.calls.count("n1 Apply release_leader")+c.calls.count("n1 Apply refuse") != 0 {
			t.Errorf("error %v, released %v, calls %q", err, c.current().Key.Released, c.calls.all("n1 Apply"))
		}
	})
}

// K4: standbys that do not answer hold up the promises, not the release.
func TestK4ReleaseDoesNotWaitForPromises(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.crashed()
		defer c.calls.block("n2 Promise")()
		defer c.calls.block("n3 Promise")()
		done := background(func() error { return n1.release(c.life, 3, "test") })
		if !pending(done) {
			t.Fatal("the promises were not waited for at all: a job that still asks has ended")
		}
		if !c.current().Key.Released {
			t.Error("not released while promises are outstanding")
		}
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// K6: a node that gives up because it cannot promote says so for the next term, once the key is free.
func TestK6HandOverRecordsTheRefusal(t *testing.T) {
	for _, tt := range []struct {
		reason decide.Reason
		want   int
	}{{decide.ReasonCannotPromote, 1}, {decide.ReasonDiskFull, 1}, {decide.ReasonNoWatchdog, 1}, {decide.ReasonHung, 0}} {
		t.Run(string(tt.reason), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := c.crashed()
				if err := n1.handOver(c.life, n1.observe(), decide.Decision{Action: decide.HandOver, Reason: tt.reason, Term: 3}); err != nil {
					t.Fatal(err)
				}
				refusals := c.commands("refuse")
				if len(refusals) != tt.want {
					t.Fatalf("refusals %v", refusals)
				}
				if tt.want == 0 {
					return
				}
				if r := refusals[0].(cluster.Refuse); r.Node != "n1" || r.Term != 4 || !c.calls.ordered("n1 Apply release_leader", "n1 Apply refuse") {
					t.Errorf("refusal %+v, calls %q", r, c.calls.all("n1 Apply"))
				}
			})
		})
	}
}

// I2: a standby that somebody promoted by hand has no lease that the guard could take away: it is stopped, after the
// guard's answer, and the node is fenced only once it no longer runs.
func TestI2PromotedByHandIsStopped(t *testing.T) {
	t.Parallel()
	byHand := func(p *cluster.PostgresStatus) { p.Role = cluster.RolePrimary }
	hung := func(p *cluster.PostgresStatus) { p.Role, p.State = cluster.RolePrimary, cluster.PostgresHung }
	for name, tt := range map[string]struct {
		postgres func(*cluster.PostgresStatus)
		leased   cluster.Term
		hook     string
		stops    int
		fenced   bool
	}{
		"by hand":                      {byHand, 0, "", 1, true},
		"by hand, hung":                {hung, 0, "", 1, true},
		"under a lease, guard ends it": {byHand, 3, "", 0, true},
		"the guard does not answer":    {byHand, 0, "n2 Fence", 0, false},
		"it cannot be stopped":         {byHand, 0, "n2 Stop", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.nodes["n2"]
				n2.guard.leased = tt.leased
				c.set("n2", tt.postgres)
				c.calls.fail(tt.hook)
				err := n2.fence(c.life, n2.observe(), decide.Decision{Action: decide.Fence, Term: 3})
				if (err == nil) != tt.fenced || c.calls.count("n2 Stop") != tt.stops {
					t.Fatalf("error %v, calls %q", err, c.calls.all("n2"))
				}
				if tt.stops > 0 && !c.calls.ordered("n2 Fence 3", "n2 Stop") {
					t.Errorf("order of calls: %q", c.calls.all("n2"))
				}
			})
		})
	}
}

// I2: the action fails while Postgres goes on as a primary, whatever Stop says of itself.
func TestI2FenceFailsWhilePostgresRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		byHand := func(p *cluster.PostgresStatus) { p.Role, p.State = cluster.RolePrimary, cluster.PostgresRunning }
		c.set("n2", byHand)
		c.calls.hook("n2 Status", func(context.Context) error { n2.pg.edit(byHand); return nil })
		if err := n2.fence(c.life, n2.observe(), decide.Decision{Action: decide.Fence, Term: 3}); err == nil {
			t.Errorf("fenced, and postgres is %+v", n2.watch.latest().postgres)
		}
	})
}

// U5: when the guard is gone the lease is over first, whatever its time, and a new guard is tried for until there is one.
func TestU5GuardIsRevived(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, tries := c.holds(), 0
		c.calls.hook("n1 Revive", func(context.Context) error {
			tries++
			if l, state := n1.keeper.current(); state != decide.LeaseNone {
				t.Errorf("try %d to revive: the keeper has %+v in state %d", tries, l, state)
			}
			if tries < 3 {
				return errFake
			}
			return nil
		})
		c.start(func() { n1.listenToGuard(c.life) })
		before := c.clock.now()
		n1.guard.events <- GuardEvent{Kind: GuardFenced, At: before}
		n1.guard.events <- GuardEvent{Kind: GuardExited, At: before}
		synctest.Wait()
		if tries != 0 {
			t.Errorf("revived %d times while the guard was alive", tries)
		}
		n1.guard.events <- GuardEvent{Kind: GuardGone, At: before}
		n1.guard.events <- GuardEvent{Kind: GuardExited, At: before} // is taken once the guard is alive again
		n1.guard.events <- GuardEvent{Kind: GuardExited, At: before}
		if tries != 3 {
			t.Errorf("%d tries to revive the guard", tries)
		}
		n1.keeper.renew(c.life)
		if _, state := n1.keeper.current(); state != decide.LeaseNone {
			t.Errorf("the lease lives again: state %d", state)
		}
	})
}
