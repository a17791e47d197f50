package agent

import (
	"context"
	"reflect"
	"regexp"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// unborn is three nodes without data and an empty state machine; n1 leads Raft.
func unborn(c *fakeCluster) *fakeNode {
	c.edit(func(v *cluster.View) {
		*v = cluster.View{Nodes: map[cluster.NodeID]cluster.Node{}, Forks: cluster.Forks{}, Config: v.Config}
	})
	for _, n := range c.nodes {
		n.opt.Dynamic = cluster.Dynamic{SynchronousMode: cluster.SyncQuorum, PrimaryStartTimeout: time.Minute, HeartbeatTimeout: 42}
		n.pg.pos, n.pg.promised = cluster.Position{}, 0
	}
	for _, id := range c.voters {
		c.set(id, func(p *cluster.PostgresStatus) {
			*p = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		})
	}
	c.calls.forget()
	return c.nodes["n1"]
}

func claim(ctx context.Context, n *fakeNode, from cluster.NodeID) error {
	return n.claim(ctx, n.observe(), decide.Decision{Action: decide.Claim, Reason: decide.ReasonFirstStart, Node: from})
}

// The claim names this node, whose claim it replaces (which the state machine compares), the first dynamic config, and an
// id for the cluster that no other attempt has.
func TestClaim(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := unborn(c)
		for _, from := range []cluster.NodeID{"", "n2"} {
			if err := claim(c.life, n1, from); err != nil {
				t.Fatal(err)
			}
		}
		var ids []string
		for i, cmd := range c.commands("claim") {
			got := cmd.(cluster.Claim)
			ids = append(ids, got.ClusterID)
			got.ClusterID = ""
			if want := (cluster.Claim{Node: "n1", From: []cluster.NodeID{"", "n2"}[i], Config: n1.opt.Dynamic}); !reflect.DeepEqual(got, want) {
				t.Errorf("claim %+v, want %+v", got, want)
			}
			if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ids[i]) {
				t.Errorf("cluster id %q", ids[i])
			}
		}
		if len(ids) != 2 || ids[0] == ids[1] {
			t.Errorf("cluster ids %q", ids)
		}
		if c.calls.count("n1 InitDB") != 0 {
			t.Error("the claim itself made data")
		}
	})
}

// A Raft that hangs holds the loop for applyLimit at most; an agent that ends does not wait.
func TestClaimIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := unborn(c)
		defer c.calls.block("n1 Apply claim")()
		begin := time.Now()
		if err := outcome(t, background(func() error { return claim(c.life, n1, "") })); err == nil || time.Since(begin) != applyLimit {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(c.life)
		done := background(func() error { return claim(ctx, n1, "") })
		cancel()
		if pending(done) {
			t.Error("still at it after the agent's end")
		}
		if err := outcome(t, done); err == nil {
			t.Error("no error")
		}
	})
}

// No data is made before the claim stands, however often it fails; then it is made once, recorded, registered, and serves
// in term 1 under a lease.
func TestNoInitDBWithoutTheClaim(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := unborn(c)
		c.calls.fail("n1 Apply claim")
		c.run("n1", "n2", "n3")
		c.elect("n1")
		pass(2 * time.Second)
		if got := c.calls.count("n1 Apply claim"); got < 2 || got > 7 || c.calls.count("n1 InitDB")+c.calls.count("n2 InitDB")+c.calls.count("n3 InitDB") != 0 {
			t.Fatalf("%d tries, calls %q", got, c.calls.all(""))
		}
		c.calls.hook("n1 Apply claim", func(context.Context) error { return nil })
		pass(10 * time.Second)
		if !c.calls.ordered("n1 Apply claim", "n1 InitDB", "n1 Apply set_system_id", "n1 Apply register", "n1 Apply acquire_leader", "n1 Start primary 1") ||
			c.calls.count("n1 InitDB") != 1 || c.calls.count("n2 InitDB")+c.calls.count("n3 InitDB") != 0 {
			t.Errorf("calls %q", c.calls.all(""))
		}
		if o := n1.observe(); o.View.Key.Holder != "n1" || o.View.Key.Term != 1 || o.LeaseState != decide.LeaseLive {
			t.Errorf("key %+v, lease state %d", o.View.Key, o.LeaseState)
		}
	})
}

// The claim of a node that lost Raft before it made data is replaced by name, by the next leader, which makes the data.
func TestClaimOfANodeThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		unborn(c)
		c.edit(func(v *cluster.View) { v.Claim = "n1" })
		c.run("n2", "n3")
		c.elect("n2")
		pass(5 * time.Second)
		claims := c.commands("claim")
		if len(claims) != 1 || claims[0].(cluster.Claim).Node != "n2" || claims[0].(cluster.Claim).From != "n1" {
			t.Errorf("claims %+v", claims)
		}
		if !c.calls.ordered("n2 Apply claim", "n2 InitDB", "n2 Apply set_system_id") || c.calls.count("n1 InitDB")+c.calls.count("n3 InitDB") != 0 {
			t.Errorf("calls %q", c.calls.all(""))
		}
	})
}
