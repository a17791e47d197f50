package agent

import (
	"fmt"
	"testing"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

func promiseOf(id cluster.NodeID, term cluster.Term) cluster.Promise {
	return cluster.Promise{Term: term, Member: member(id), Position: cluster.Position{Timeline: 2, LSN: 1000}, Fenced: true}
}

// handover is what n2 sends to n3 before it transfers leadership.
func handover(c *fakeCluster, q handoverRequest) error {
	return c.nodes["n2"].peers.call(c.life, "n3", "/handover", q, nil)
}

// K6: promises that travel ahead are used again by the leader that follows; what it had gathered in another Raft term,
// its attests above all, is not.
func TestK6PromisesTravelAttestsDoNot(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.age = 0
		c.lead("n3")
		n3 := c.nodes["n3"]
		if err := n3.askStatus(c.life, n3.observe(), decide.Decision{}); err != nil {
			t.Fatal(err)
		}
		if got := n3.observe().TakeOver; len(got.Attests) != 2 || got.AskedAt.IsZero() {
			t.Fatalf("gathered in raft term 8: %+v", got)
		}
		c.lead("n2")
		q := handoverRequest{Term: 4, Promises: map[cluster.NodeID]cluster.Promise{"n2": promiseOf("n2", 4), "n3": promiseOf("n3", 4)}, Hops: 2}
		if err := handover(c, q); err != nil {
			t.Fatal(err)
		}
		c.lead("n3")
		got := n3.observe().TakeOver
		if got.Promises["n2"] != promiseOf("n2", 4) || got.Promises["n3"] != promiseOf("n3", 4) || got.Hops != 2 || got.Term != 4 {
			t.Errorf("promises and hops did not come with leadership: %+v", got)
		}
		if got.RaftTerm != 10 || len(got.Attests)+len(got.Statuses)+len(got.Silent) != 0 || !got.AskedAt.IsZero() || !got.BarrierAt.IsZero() {
			t.Errorf("of another raft term: %+v", got)
		}
	})
}

// K5, K6: a leader of a new Raft term keeps its promises and nothing else; with a new key term these go, too.
func TestK5LedgerTurnsWithTheTerms(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		if got := gather(t, n2); len(got.Promises) != 2 || len(got.Attests) == 0 {
			t.Fatalf("gathered %+v", got)
		}
		c.lead("n2")
		if got := n2.observe().TakeOver; len(got.Promises) != 2 || len(got.Attests) != 0 || got.RaftTerm != 9 {
			t.Errorf("in the next raft term: %+v", got)
		}
		n2.enter(8, "n1", promiseOf("n1", 4), nil)
		if got := n2.observe().TakeOver; len(got.Promises) != 2 {
			t.Errorf("an answer to a question of an older raft term counts: %+v", got)
		}
		c.edit(func(v *cluster.View) { v.Key.Term = 4 })
		if got := n2.observe().TakeOver; len(got.Promises) != 0 || got.Term != 5 {
			t.Errorf("in the next term: %+v", got)
		}
	})
}

// K6: a hand-over for a term that the key has reached is void, and changes nothing.
func TestK6LateHandoverIsRefused(t *testing.T) {
	t.Parallel()
	for _, term := range []cluster.Term{2, 3} {
		t.Run(fmt.Sprint(term), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.lead("n2")
				q := handoverRequest{Term: term, Promises: map[cluster.NodeID]cluster.Promise{"n2": promiseOf("n2", term)}, Hops: 1, Wanted: "n3"}
				if err := handover(c, q); err == nil {
					t.Error("taken")
				}
				if o := c.nodes["n3"].observe(); o.TakeOver.Term != 4 || len(o.TakeOver.Promises) != 0 || o.Request != nil {
					t.Errorf("ledger %+v, request %+v", o.TakeOver, o.Request)
				}
			})
		})
	}
}

// K6: the candidate that an operator named is inherited, for that take-over only.
func TestK6WantedCandidateIsInheritedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("n2")
		if err := handover(c, handoverRequest{Term: 4, Wanted: "n3"}); err != nil {
			t.Fatal(err)
		}
		c.lead("n3")
		n3 := c.nodes["n3"]
		if r := n3.observe().Request; r == nil || r.Candidate != "n3" || r.Leader != "" {
			t.Fatalf("request %+v", r)
		}
		c.edit(func(v *cluster.View) { v.Key.Term, v.Key.Holder = 4, "n3" })
		if r := n3.observe().Request; r != nil {
			t.Errorf("after the take-over the request is still there: %+v", r)
		}
	})
}

// K6: a later hand-over of the same term that names nobody takes the wanted candidate back.
func TestK6NewerHandoverReplacesTheWish(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("n2")
		for _, wanted := range []cluster.NodeID{"n3", ""} {
			if err := handover(c, handoverRequest{Term: 4, Wanted: wanted}); err != nil {
				t.Fatal(err)
			}
		}
		if r := c.nodes["n3"].observe().Request; r != nil {
			t.Errorf("request %+v", r)
		}
	})
}

// K6: the promises go ahead of leadership. That the old leader is stopping is its own affair: the new one stays.
func TestK6TransferCarriesThePromisesNotTheLeaving(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2, n3 := c.failed(), c.nodes["n3"]
		gather(t, n2)
		n2.mu.Lock()
		n2.stopping = true
		n2.mu.Unlock()
		o := n2.observe()
		if o.Request == nil || !o.Request.Leaving {
			t.Fatalf("request of a stopping agent: %+v", o.Request)
		}
		if err := n2.transfer(c.life, o, decide.Decision{Action: decide.Transfer, Node: "n3", Term: 4}); err != nil {
			t.Fatal(err)
		}
		got := n3.observe()
		if got.Raft.State != cluster.RaftLeader || len(got.TakeOver.Promises) != 2 || got.TakeOver.Hops != 1 {
			t.Errorf("n3 is %s with %+v", got.Raft.State, got.TakeOver)
		}
		if got.Request != nil || got.Local.Stopping {
			t.Errorf("n3 inherited %+v, stopping %v", got.Request, got.Local.Stopping)
		}
	})
}

// K6: without the promises leadership stays: a candidate that cannot be reached would have to begin anew.
func TestK6NoTransferWithoutHandover(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		gather(t, n2)
		c.net.set("n3", netDead)
		err := n2.transfer(c.life, n2.observe(), decide.Decision{Action: decide.Transfer, Node: "n3", Term: 4})
		if o := n2.observe(); err == nil || c.calls.count("n2 Transfer") != 0 || o.TakeOver.Hops != 1 {
			t.Errorf("error %v, calls %q, hops %d", err, c.calls.all("n2"), o.TakeOver.Hops)
		}
	})
}

// K3: the count stands before leadership goes, and without the count it does not go.
func TestK3CountedBeforeHandedBack(t *testing.T) {
	t.Parallel()
	t.Run("counted", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			c.lead("n2")
			n2 := c.nodes["n2"]
			if err := n2.handBack(c.life, n2.observe(), decide.Decision{Action: decide.HandBack, Node: "n1", Term: 3}); err != nil {
				t.Fatal(err)
			}
			if !c.calls.ordered("n2 Apply count_handback", "n2 Transfer n1") || c.current().Handbacks != 1 {
				t.Errorf("calls %q, %d hand-backs", c.calls.all("n2"), c.current().Handbacks)
			}
			if got := c.commands("count_handback"); len(got) != 1 || got[0].(cluster.CountHandback).Term != 3 {
				t.Errorf("counted %v", got)
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			c.lead("n2")
			n2 := c.nodes["n2"]
			c.calls.fail("n2 Apply count_handback")
			err := n2.handBack(c.life, n2.observe(), decide.Decision{Action: decide.HandBack, Node: "n1", Term: 3})
			if err == nil || c.calls.count("n2 Transfer") != 0 {
				t.Errorf("error %v, calls %q", err, c.calls.all("n2"))
			}
		})
	})
}

// S8: what an agent was asked to do by a former leader does not hide that it is stopping.
func TestS8InheritedWishDoesNotHideTheStop(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := c.nodes["n3"]
		if _, err := n3.takeHandover(c.life, handoverRequest{Term: 4, Wanted: "n2"}); err != nil {
			t.Fatal(err)
		}
		if r := n3.observe().Request; r == nil || r.Candidate != "n2" || r.Leaving {
			t.Errorf("request %+v", r)
		}
		n3.mu.Lock()
		n3.stopping = true
		n3.mu.Unlock()
		if r := n3.observe().Request; r == nil || !r.Leaving {
			t.Errorf("request of a stopping agent %+v", r)
		}
	})
}
