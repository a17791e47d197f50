package agent

import (
	"context"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// run makes whole agents of these nodes: loop, keeper, upkeep and polling, with answers to heartbeats every 50 ms.
func (c *fakeCluster) run(ids ...cluster.NodeID) {
	for _, id := range ids {
		n := c.nodes[id]
		for _, part := range []func(context.Context){n.keeper.run, n.loop, n.upkeep, n.peers.poll, n.listenToGuard} {
			c.start(func() { part(c.life) })
		}
	}
	c.start(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-c.life.Done():
				return
			case <-tick.C:
			}
			for _, id := range ids {
				c.nodes[id].Answered()
			}
		}
	})
}

// servedBy makes a node's Postgres, once promoted, have the others as its walsenders.
func (c *fakeCluster) servedBy(id cluster.NodeID, standbys ...cluster.NodeID) {
	n := c.nodes[id]
	n.pg.confirm(nil, standbys...)
	n.pg.edit(func(p *cluster.PostgresStatus) {
		for _, s := range standbys {
			p.Replication = append(p.Replication, cluster.WalSender{AppName: member(s).AppName(2), State: "streaming", Flushed: 1000})
		}
	})
}

// wantServing checks that a node serves the new timeline in a term, its rule settled, and that another follows it.
func (c *fakeCluster) wantServing(id, follower cluster.NodeID, term cluster.Term) {
	c.t.Helper()
	o := c.nodes[id].observe()
	p, k := o.Local.Postgres, o.View.Key
	if k.Holder != id || k.Term != term || p.Role != cluster.RolePrimary || p.Timeline != k.Timeline || o.LeaseState != decide.LeaseLive {
		c.t.Errorf("key %+v, postgres %s on timeline %d, lease state %d", k, p.Role, p.Timeline, o.LeaseState)
	}
	if len(o.View.Rules) != 1 || !o.RuleProven || o.View.Forks[k.Timeline].LSN != 1000 {
		c.t.Errorf("rules %v, proven %v, forks %v", o.View.Rules, o.RuleProven, o.View.Forks)
	}
	if f := c.nodes[follower].observe().Local.Postgres; f.Role != cluster.RoleStandby || f.Source != id || f.SourceTerm != term {
		c.t.Errorf("%s is %q and streams from %q at term %d", follower, f.Role, f.Source, f.SourceTerm)
	}
	if c.t.Failed() {
		c.t.Logf("calls: %q", c.calls.all(""))
	}
}

// K1 to K7, S2 to S4: after the holder's death two agents take over, in the protocol's order, through the real peer
// channel.
func TestK7TakeOverOfADeadHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.servedBy("n2", "n3")
		c.run("n2", "n3")
		pass(3 * time.Second)
		c.calls.forget()
		c.net.set("n1", netDead)
		c.age = time.Hour
		c.elect("n2")
		pass(5 * time.Second)
		c.wantServing("n2", "n3", 4)
		for _, order := range [][]string{
			{"n2 Barrier", "n3 Attest n1", "n3 Promise 4", "n3 Cut", "n2 Apply acquire_leader", "n2 Kick", "n2 Promote 4 3", "n2 Confirmed", "n2 Apply drop_rules"},
			{"n2 Promise 4", "n2 Cut", "n2 Apply acquire_leader"},
			{"n3 Fence 3", "n2 Apply acquire_leader", "n3 Follow n2 4"},
		} {
			if !c.calls.ordered(order...) {
				t.Errorf("want the order %q, have %q", order, c.calls.all(""))
			}
		}
	})
}

// K5: without attests, release or fence the wait is W since the Barrier, and no longer than another round.
func TestK5WaitsForTheLeaseOfASilentHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		var acquired time.Time
		c.calls.hook("n2 Apply acquire_leader", func(context.Context) error { acquired = time.Now(); return nil })
		c.servedBy("n2", "n3")
		c.run("n2", "n3")
		pass(time.Second)
		c.net.set("n1", netHung)
		begin := time.Now()
		c.elect("n2") // every voter attests an age of 0: it has just acknowledged n1
		pass(5 * time.Second)
		c.wantServing("n2", "n3", 4)
		w := c.current().Key.Lease.Wait()
		if took := acquired.Sub(begin); took < w || took > w+fakeHeartbeat/2 {
			t.Errorf("acquired after %v, W is %v", took, w)
		}
	})
}

// K6: the candidate dies between its promise and the hand-over. It is asked again, found silent, and passed over: a leader that is
// good enough itself takes over, and leadership never waits for who is gone (seed 7464).
func TestK6CandidateThatDiesIsPassedOver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.edit(func(v *cluster.View) {
			n := v.Nodes["n3"]
			n.Tags.FailoverPriority = 100
			v.Nodes["n3"] = n
		})
		if err := n2.askStatus(c.life, n2.observe(), decide.Decision{}); err != nil {
			t.Fatal(err)
		}
		if got := gather(t, n2); len(got.Promises) != 2 || decide.Choose(n2.observe()).Node != "n3" {
			t.Fatalf("promises %v, chosen %+v", got.Promises, decide.Choose(n2.observe()))
		}
		c.net.set("n3", netDead)
		c.servedBy("n2", "n3")
		c.run("n2")
		pass(2 * time.Second)
		if k := c.current().Key; k.Holder != "n2" || k.Term != 4 || c.calls.count("n2 Promote") == 0 {
			t.Errorf("key %+v, calls %q", k, c.calls.all("n2"))
		}
	})
}

// K6: a hand-over call that is lost once chooses nobody else: this leader's own tries are no leadership that came with promises.
func TestK6OneLostHandoverCall(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.edit(func(v *cluster.View) {
			v.Key.Released = true
			v.Refusals = map[cluster.NodeID]cluster.Refusal{"n2": {Term: 4, Reason: "it said that it cannot"}}
		})
		gather(t, n2)
		d := decide.Next(n2.observe())
		if d.Action != decide.Transfer || d.Node != "n3" {
			t.Fatalf("%s %s %s", d.Action, d.Node, d.Reason)
		}
		c.net.set("n3", netDead)
		n2.tried(c.life, d, n2.transfer(c.life, n2.observe(), d)) // as the loop does
		c.net.set("n3", "")
		if d := decide.Next(n2.observe()); d.Action == decide.Acquire {
			t.Errorf("%s by %s: %s; C2 chooses %+v", d.Action, d.Acquire.Node, d.Reason, decide.Choose(n2.observe()))
		}
	})
}

// claimant is a first start in which n1 has made the first data, and has lost Raft leadership to n2 before its first acquisition.
func claimant(c *fakeCluster) *fakeNode {
	unborn(c)
	c.edit(func(v *cluster.View) {
		v.Claim, v.SystemID = "n1", "7000"
		v.Nodes["n1"] = cluster.Node{Name: "n1", UID: "n1", Incarnation: member("n1").Incarnation, PostgresAddr: "n1:5432"}
	})
	c.set("n1", func(p *cluster.PostgresStatus) {
		*p = cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", Incarnation: member("n1").Incarnation, State: cluster.PostgresStopped, Timeline: 1}
	})
	c.elect("n2")
	return c.nodes["n2"]
}

// K6: leadership goes to who has the first data, also when it was away for a while, and that node acquires the first term.
func TestK6FirstStartGoesOnWithTheClaimant(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"it is there": 0, "it was away": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := claimant(c)
				for _, f := range []func(context.Context, *decide.Observation, decide.Decision) error{n2.barrier, n2.askStatus} {
					if err := f(c.life, n2.observe(), decide.Decision{}); err != nil {
						t.Fatal(err)
					}
				}
				if away > 0 {
					c.net.set("n1", netDead)
				}
				c.run("n1", "n2", "n3")
				pass(away)
				c.net.set("n1", "")
				pass(5 * time.Second)
				if k := c.current().Key; k.Holder != "n1" || k.Term != 1 {
					t.Errorf("key %+v, calls %q", k, c.calls.all("n2"))
				}
			})
		})
	}
}

// B1, K6: a holder whose Postgres is gone fences, releases, and hands leadership with the promises to the candidate, which
// acquires at once.
func TestB1HandOverOfACrashedPrimary(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		n1.pg.confirm(nil, "n2", "n3")
		c.servedBy("n2", "n3")
		c.run("n1", "n2", "n3")
		pass(3 * time.Second)
		if k := c.current().Key; k.Term != 3 || n1.observe().LeaseState != decide.LeaseLive {
			t.Fatalf("before: key %+v, lease state %d", k, n1.observe().LeaseState)
		}
		c.calls.forget()
		begin := time.Now()
		var promoted time.Time
		c.calls.hook("n2 Promote", func(context.Context) error { promoted = time.Now(); return nil })
		c.set("n1", func(p *cluster.PostgresStatus) {
			p.State, p.Role, p.Current, p.Replication = cluster.PostgresStopped, cluster.RoleNone, 0, nil
		})
		pass(5 * time.Second)
		c.wantServing("n2", "n3", 4)
		if !c.calls.ordered("n1 Fence 3", "n1 Apply release_leader", "n1 Transfer n2", "n2 Apply acquire_leader", "n2 Promote 4 3") {
			t.Errorf("calls %q", c.calls.all(""))
		}
		if took := promoted.Sub(begin); took > fakeHeartbeat/2 {
			t.Errorf("promoted after %v of waiting", took)
		}
		if got := n1.observe().Local.Postgres; got.Role != cluster.RoleStandby || c.calls.count("n1 Start primary") != 0 {
			t.Errorf("n1 is %q: %q", got.Role, c.calls.all("n1 Start"))
		}
	})
}
