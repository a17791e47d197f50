package agent

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/cluster"
)

// serving is all three agents at work: n1 the primary that n2 and n3 stream from, each ready to be promoted.
func serving(c *fakeCluster) *fakeNode {
	n1 := c.holds()
	n1.pg.confirm(nil, "n2", "n3")
	c.servedBy("n2", "n3")
	c.run("n1", "n2", "n3")
	pass(3 * time.Second)
	c.calls.forget()
	return n1
}

// leaves is SIGTERM to a node: it gives how long it took. Its loop goes on meanwhile, as in Run.
func (c *fakeCluster) leaves(ctx context.Context, id cluster.NodeID) (took time.Duration) {
	c.t.Helper()
	begin := time.Now()
	if err := outcome(c.t, background(func() error { c.nodes[id].leave(ctx); return nil })); err != nil {
		c.t.Error(err)
	}
	return time.Since(begin)
}

// deposed is n3, whose holder n1 is gone and whom nobody takes out of the rules; it has heard of n2.
func deposed(c *fakeCluster) *fakeNode {
	n3 := c.nodes["n3"]
	c.net.set("n1", netDead)
	for _, n := range []cluster.NodeID{"n1", "n2"} {
		_, _ = n3.peers.look(c.life, n, statusFresh) // n1's silence is what is wanted
	}
	return n3
}

// B1: the holder that is told to stop goes down in order: checkpoint, Postgres down, its end with the candidate, fenced,
// released; another serves before it is gone, and it starts nothing again.
func TestB1LeaveOfTheHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		serving(c)
		if took := c.leaves(c.life, "n1"); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if k := c.current().Key; k.Term != 4 || k.Holder == "n1" {
			t.Errorf("gone while the key is %+v", k)
		}
		if !c.calls.ordered("n1 Checkpoint", "n1 Stop 1m0s", "n1 ShutdownCheckpoint", "n1 Fence 3", "n1 Apply release_leader", "n1 Transfer", "n2 Apply acquire_leader") {
			t.Errorf("calls %q", c.calls.all(""))
		}
		pass(5 * time.Second)
		if c.calls.count("n1 Start")+c.calls.count("n1 Promote") != 0 || c.nodes["n1"].observe().Local.Postgres.State != cluster.PostgresStopped {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
		c.wantServing("n2", "n3", 4)
	})
}

// B1: from the stop of its Postgres until another holds the key nothing looks like a primary that serves; the agent waits
// all the same, and stops nothing beside its own hand-over.
func TestB1LeaveWaitsForItsHandOver(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"n1 ShutdownCheckpoint", "n1 Fence", "n1 Apply release_leader", "n2 Apply acquire_leader"} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := serving(c)
				goesOn := c.calls.block(step)
				done := background(func() error { n1.leave(c.life); return nil })
				pass(time.Second)
				if !pending(done) || c.calls.count(step) == 0 || c.calls.count("n1 Stop") != 1 {
					t.Errorf("calls %q", c.calls.all("n1"))
				}
				goesOn()
				if err := outcome(t, done); err != nil || c.current().Key.Holder != "n2" || c.calls.count("n1 Stop") != 2 {
					t.Errorf("error %v, key %+v, calls %q", err, c.current().Key, c.calls.all("n1"))
				}
			})
		})
	}
}

// U4, B1: without the guard's fenced answer nothing is released: Postgres is down, and the lease is left to run out.
func TestB1LeaveWithoutFencedReleasesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := serving(c)
		c.calls.fail("n1 Fence")
		c.leaves(c.life, "n1")
		if c.calls.count("n1 Apply release_leader") != 0 || n1.observe().Local.Postgres.State != cluster.PostgresStopped {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
	})
}

// B1: a candidate that lacks the shutdown checkpoint is no reason to release; the agent still ends, with Postgres down, and
// what had been stopped is not started again on its way out.
func TestB1LeaveWithoutAGoodCandidate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := serving(c)
		n1.pg.edit(func(*cluster.PostgresStatus) { n1.pg.end = 1100 })
		if took := c.leaves(c.life, "n1"); took > leaveLimit+receiveLimit {
			t.Errorf("it took %v", took)
		}
		if p := n1.observe().Local.Postgres; p.State != cluster.PostgresStopped || c.calls.count("n1 Start")+c.calls.count("n1 Apply release_leader") != 0 {
			t.Errorf("postgres is %s, calls %q", p.State, c.calls.all("n1"))
		}
		if stop := c.calls.all("n1 Stop"); !c.calls.ordered("n1 Stop", "n1 ShutdownCheckpoint", "n1 Stop") {
			t.Errorf("stops %q", stop)
		}
	})
}

// S8: a standby that counts is taken out of the rules before it stops, at once and without a change of k.
func TestS8LeaveOfAStandby(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		serving(c)
		if took := c.leaves(c.life, "n3"); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if !c.calls.ordered("n1 Apply add_rule", "n1 SetSyncNames", "n1 ProveSyncNames", "n1 Apply drop_rules", "n3 Stop 1m0s") || c.calls.count("n3 Stop") != 1 {
			t.Errorf("calls %q", c.calls.all(""))
		}
		if v := c.current(); len(v.Rules) != 1 || v.Rules[0].K != 1 || v.Rules[0].Has(member("n3")) || v.Key.Term != 3 {
			t.Errorf("key %+v, rules %+v", v.Key, v.Rules)
		}
		pass(5 * time.Second)
		if c.calls.count("n3 Start") != 0 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
	})
}

// S8: the others are told at once that a node leaves, before it does; nobody can be sent back to it.
func TestS8LeavingIsShown(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := deposed(c)
		done := background(func() error { n3.leave(c.life); return nil })
		s, err := c.nodes["n2"].peers.look(c.life, "n3", statusFresh)
		if err != nil || !s.Stopping || len(n3.wakeUp) == 0 {
			t.Errorf("stopping %v, %v, the loop was woken: %v", s.Stopping, err, len(n3.wakeUp) > 0)
		}
		if r := n3.observe().Request; r == nil || !r.Leaving {
			t.Errorf("request %+v", r)
		}
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// S8: a holder that does not take the node out is waited for, not longer than leaveLimit; then Postgres stops all the same.
func TestS8LeaveIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := deposed(c)
		c.calls.hook("n3 Stop", func(ctx context.Context) error { return ctx.Err() }) // it has its own deadline
		done := background(func() error { n3.leave(c.life); return nil })
		pass(leaveLimit - time.Millisecond)
		if c.calls.count("n3 Stop") != 0 || !pending(done) {
			t.Errorf("stopped while it counts in %v", c.current().Rules)
		}
		pass(time.Millisecond)
		if pending(done) || c.calls.count("n3 Stop 1m0s") != 1 || n3.watch.refresh(c.life).postgres.State != cluster.PostgresStopped {
			t.Errorf("after %v: calls %q", leaveLimit, c.calls.all("n3"))
		}
	})
}

// A node that nobody could be helped by, since all others are gone, stops at once.
func TestLeaveOfTheLastNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.net.set("n2", netDead)
		deposed(c)
		if took := c.leaves(c.life, "n3"); took != 0 || c.calls.count("n3 Stop") != 1 {
			t.Errorf("after %v: calls %q", took, c.calls.all("n3"))
		}
	})
}

// B1: a world that changes while the agent waits is seen: once the rules no longer count on it, it goes.
func TestS8LeaveSeesTheNextTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := deposed(c)
		done := background(func() error { n3.leave(c.life); return nil })
		pass(time.Second)
		c.movesTo("n2", 1000)
		pass(10 * time.Millisecond)
		if pending(done) || c.calls.count("n3 Stop") != 1 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
	})
}

// An agent whose own life ends meanwhile waits for nobody; Postgres is told to stop even then.
func TestLeaveEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := deposed(c)
		ctx, cancel := context.WithCancel(c.life)
		done := background(func() error { n3.leave(ctx); return nil })
		cancel()
		if synctest.Wait(); pending(done) || c.calls.count("n3 Stop") != 1 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
	})
}

// A Postgres that does not stop is not what keeps the agent: its guard is the caller's to end.
func TestLeaveOfAPostgresThatDoesNotStop(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		serving(c)
		c.calls.fail("n3 Stop")
		if took := c.leaves(c.life, "n3"); took > time.Second || c.calls.count("n3 Stop") != 1 {
			t.Errorf("after %v: calls %q", took, c.calls.all("n3"))
		}
	})
}

// An operator's switchover that was not carried out gets its answer before the agent is gone, and is asked for no more.
func TestLeaveAnswersTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, _, answer := planned(c)
		n1.peers.all(func(n cluster.NodeID) {
			c.net.set(n, netDead)
			_, _ = n1.peers.look(c.life, n, statusFresh) // its silence is what is wanted
		})
		stops := c.calls.block("n1 Stop")
		defer stops()
		done := background(func() error { n1.leave(c.life); return nil })
		if r := answered(t, answer); r.Code != cluster.ActionUnavailable || !strings.Contains(r.Text, "n1 is stopping") {
			t.Errorf("answer %+v", r)
		}
		if r := n1.observe().Request; r == nil || !r.Leaving || r.Candidate != "" {
			t.Errorf("request %+v", r)
		}
		stops()
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// S8: the last step of the rules' change is waited for, too: until the older rule is dropped its life counts.
func TestS8LeaveWaitsForTheDrop(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		serving(c)
		dropped := c.calls.block("n1 Apply drop_rules")
		done := background(func() error { c.nodes["n3"].leave(c.life); return nil })
		pass(time.Second)
		if len(c.current().Rules) != 2 || c.calls.count("n3 Stop") != 0 {
			t.Errorf("rules %v, calls %q", c.current().Rules, c.calls.all("n3"))
		}
		dropped()
		if err := outcome(t, done); err != nil || c.calls.count("n3 Stop") != 1 {
			t.Errorf("error %v, calls %q", err, c.calls.all("n3"))
		}
	})
}
