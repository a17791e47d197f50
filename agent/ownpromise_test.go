package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// head is how long a stopped Postgres's own promise lets the others answer first.
const head = fakeHeartbeat / 20

// givenUp is n1, whose Postgres is gone, after it has released the key: it leads Raft still, and gathers for term 4.
func givenUp(c *fakeCluster) *fakeNode {
	n1 := c.crashed()
	c.edit(func(v *cluster.View) { v.Key.Released = true })
	synctest.Wait()
	c.calls.forget()
	return n1
}

// asksPromises is one round of K4 by n, in the background.
func (c *fakeCluster) asksPromises(ctx context.Context, n *fakeNode) <-chan error {
	o := n.observe()
	return background(func() error {
		return n.askPromises(ctx, o, decide.Decision{Action: decide.AskPromises, Term: o.TakeOver.Term})
	})
}

// answersAfter makes a node's promise take so long.
func (c *fakeCluster) answersAfter(id cluster.NodeID, d time.Duration) {
	c.calls.hook(string(id)+" Promise", func(context.Context) error { <-time.After(d); return nil })
}

// K4: when standbys are good enough at once, the WAL of a stopped Postgres is not read, and nothing of it is touched.
func TestK4StoppedNodeIsNotReadWhenOthersAreGood(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		begin := time.Now()
		if err := outcome(t, c.asksPromises(c.life, n1)); err != nil || time.Since(begin) != 0 {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		pass(time.Second)
		if got := c.calls.count("n1 Promise") + c.calls.count("n1 Position") + c.calls.count("n1 Cut"); got != 0 {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
		if got := n1.observe().TakeOver; len(got.Promises) != 2 || got.NoPromise["n1"] != "" {
			t.Errorf("promises %v, reasons %v", got.Promises, got.NoPromise)
		}
	})
}

// K4, C1: when all others have answered and that is not enough, the own promise follows at once.
func TestK4StoppedNodePromisesWhenOthersAreNotEnough(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		c.net.set("n3", netDead) // 2 of the rule's 2 standbys are needed, or n1
		begin := time.Now()
		if err := outcome(t, c.asksPromises(c.life, n1)); err != nil || time.Since(begin) != 0 {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		if got := n1.observe().TakeOver.Promises; got["n1"].Term != 4 || !got["n1"].Fenced || got["n2"].Term != 4 {
			t.Errorf("promises %v", got)
		}
	})
}

// K4: the others' head start is short: one that is silent does not keep this node's position from being known.
func TestK4SilentNodeCostsAHeadStartOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		c.net.set("n3", netHung)
		done := c.asksPromises(c.life, n1)
		pass(head - time.Millisecond)
		if c.calls.count("n1 Promise") != 0 {
			t.Error("the own promise was asked for before the others had their head start")
		}
		pass(time.Millisecond)
		if got := n1.observe().TakeOver.Promises; got["n1"].Term != 4 {
			t.Errorf("after the head start: promises %v, calls %q", got, c.calls.all("n1"))
		}
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// K4: a Postgres that runs has its position at hand: its node promises beside the others, whatever they do.
func TestK4RunningNodePromisesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.net.set("n3", netHung)
		done := c.asksPromises(c.life, n2)
		if got := n2.observe().TakeOver.Promises; got["n2"].Term != 4 || !pending(done) {
			t.Errorf("promises %v, calls %q", got, c.calls.all("n2"))
		}
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// K4: a standby that turns out to be good enough while this node still reads its own WAL ends the round; what is read
// counts when it comes.
func TestK4RoundDoesNotWaitForTheOwnWAL(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		read := c.calls.block("n1 Position")
		c.answersAfter("n2", 2*head)
		begin := time.Now()
		if err := outcome(t, c.asksPromises(c.life, n1)); err != nil || time.Since(begin) != 2*head {
			t.Errorf("error %v after %v, the last standby answered after %v", err, time.Since(begin), 2*head)
		}
		if c.calls.count("n1 Position") != 1 {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
		read()
		synctest.Wait()
		if got := n1.observe().TakeOver.Promises; len(got) != 3 || got["n1"].Term != 4 {
			t.Errorf("promises %v", got)
		}
	})
}

// K4: and when nobody else is good enough, it does wait.
func TestK4RoundWaitsForTheOnlyWAL(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		c.net.set("n3", netDead)
		read := c.calls.block("n1 Position")
		done := c.asksPromises(c.life, n1)
		pass(time.Second)
		if !pending(done) {
			t.Fatal("the round is over, and nobody is good enough")
		}
		read()
		if err := outcome(t, done); err != nil || n1.observe().TakeOver.Promises["n1"].Term != 4 {
			t.Errorf("error %v, promises %v", err, n1.observe().TakeOver.Promises)
		}
	})
}

// K4: a step of the own promise that fails is the reason why there is none, and no error of the round: the next asks again.
func TestK4OwnPromiseThatFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"n1 Promise", "n1 Fence", "n1 Cut", "n1 Position"} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := givenUp(c)
				c.net.set("n3", netDead)
				c.calls.fail(failing)
				if err := outcome(t, c.asksPromises(c.life, n1)); err != nil {
					t.Fatal(err)
				}
				got := n1.observe().TakeOver
				if _, promised := got.Promises["n1"]; promised || got.NoPromise["n1"] != errFake.Error() || got.PromisedAt.IsZero() {
					t.Errorf("promises %v, reasons %v", got.Promises, got.NoPromise)
				}
				c.calls.hook(failing, func(context.Context) error { return nil })
				if got := gather(t, n1); got.Promises["n1"].Term != 4 || got.NoPromise["n1"] != "" {
					t.Errorf("in the next round: promises %v, reasons %v", got.Promises, got.NoPromise)
				}
			})
		})
	}
}

// G1: a key that moves on during the head start leaves nothing to be promised: what the others said was for another term.
func TestK4KeyMovesOnDuringTheHeadStart(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		c.answersAfter("n2", head/2)
		done := c.asksPromises(c.life, n1)
		c.edit(func(v *cluster.View) { v.Key.Term, v.Key.Holder = 4, "n3" })
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		if got := n1.observe().TakeOver; len(got.Promises) != 0 || got.Term != 5 || c.calls.count("n1 Promise")+c.calls.count("n1 Cut") != 0 {
			t.Errorf("ledger %+v, calls %q", got, c.calls.all("n1"))
		}
	})
}

// K4: an agent that ends does not sit out the head start, and nobody is taken for good enough by that.
func TestK4EndDuringTheHeadStart(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		if got := gather(t, n1); len(got.Promises) != 2 || !n1.otherChosen() {
			t.Fatalf("promises %v", got.Promises)
		}
		ctx, cancel := context.WithCancel(c.life)
		cancel()
		begin := time.Now()
		if n1.goodWithout(ctx, make(chan struct{})) || time.Since(begin) != 0 {
			t.Errorf("good without this node after %v, although the others have not all answered", time.Since(begin))
		}
		c.net.set("n3", netHung)
		if err := outcome(t, c.asksPromises(ctx, n1)); err == nil || time.Since(begin) != 0 {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		pass(time.Second)
	})
}

// C2: a candidate that has to stream first is not ready: the own WAL is read, too.
func TestK4CatchUpIsNotGoodEnough(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := givenUp(c)
		c.nodes["n3"].pg.pos.LSN = 900
		c.edit(func(v *cluster.View) {
			n := v.Nodes["n2"]
			n.Tags.NoFailover = true
			v.Nodes["n2"] = n
		})
		if err := outcome(t, c.asksPromises(c.life, n1)); err != nil {
			t.Fatal(err)
		}
		if got := n1.observe(); len(got.TakeOver.Promises) != 3 {
			t.Errorf("choice %+v, promises %v", decide.Choose(got), got.TakeOver.Promises)
		}
	})
}

// K4, V1: a candidate that promises anew is not taken by its older promise while its position is read again.
func TestK4RoundWaitsForTheCandidateItself(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		if gather(t, n2); decide.Choose(n2.observe()).Node != "n2" {
			t.Fatalf("choice %+v", decide.Choose(n2.observe()))
		}
		read := c.calls.block("n2 Position")
		done := c.asksPromises(c.life, n2)
		if pass(time.Second); !pending(done) {
			t.Error("the round is over before the candidate itself has promised")
		}
		read()
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}
