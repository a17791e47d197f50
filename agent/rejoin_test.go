package agent

import (
	"reflect"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// A node that lost its Raft store: out with the old server, the name to the new uid, in without a vote, then with one; in that
// order, and not before the key is settled (L6).
func TestL6ReplacementInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.net.set("n3", netDead)
		c.applicants = []cluster.Applicant{{Node: "n3", UID: "new", RaftAddr: "n3:7400", For: decide.ReplacePatience}}
		n1 := c.nodes["n1"]
		n1.keeper.acquired(3, 7)
		n1.keeper.renew(c.life)
		c.servedBy("n1", "n2")
		c.run("n1", "n2")
		c.start(func() { n1.tendMembers(c.life) })
		pass(3 * time.Second)
		if !c.calls.ordered("n1 SetSettledTerm 7", "n1 RemoveServer n3", "n1 Apply readmit", "n1 AddNonvoter n3 n3:7400") {
			t.Fatalf("calls %q", c.calls.all("n1"))
		}
		want := cluster.Readmit{Node: "n3", From: "n3", UID: "new", RaftAddr: "n3:7400"}
		if got := c.commands("readmit"); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("commands %+v", got)
		}
		if c.calls.count("n1 AddVoter") != 0 {
			t.Fatal("a vote for a node that does not answer")
		}
		c.nodes["n3"].opt.Node.UID = "new"
		c.net.set("n3", "")
		pass(3 * time.Second)
		if c.calls.count("n1 AddVoter n3 n3:7400") != 1 || !reflect.DeepEqual(c.nodes["n1"].observe().Raft.Voters, []cluster.NodeID{"n1", "n2", "n3"}) {
			t.Errorf("calls %q", c.calls.all("n1 Add"))
		}
	})
}

// V5: a life whose promises may be lost is not given to what a rewind or a copy makes.
func TestV5LifeWithoutItsPromises(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n := c.nodes["n3"]
		if got := n.lifeOr("a"); got != "a" {
			t.Errorf("life %q, want it to go on", got)
		}
		n.pg.promisesLost = true
		if got := n.lifeOr("a"); got == "a" || got == "" {
			t.Errorf("life %q, want a new one", got)
		}
		if n.lifeOr("") == "" {
			t.Error("no life")
		}
	})
}
