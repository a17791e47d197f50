package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// K2: nodes that answer are heard at once, a silent one costs its own deadline and is named as silent.
func TestK2SlowNodeDoesNotHoldUpTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.net.set("n1", netHung)
		c.age = 0
		begin := time.Now()
		done := background(func() error { return n2.askStatus(c.life, n2.observe(), decide.Decision{}) })
		got := n2.observe().TakeOver
		if got.Statuses["n3"].Node != "n3" || got.Attests["n3"].Voter != "n3" || got.Attests["n2"].Voter != "n2" || !pending(done) {
			t.Errorf("while n1 is silent: statuses %v, attests %v", got.Statuses, got.Attests)
		}
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > n2.peers.deadline() {
			t.Errorf("the round took %v, the deadline is %v", took, n2.peers.deadline())
		}
		if got := n2.observe().TakeOver; got.Silent["n1"] == "" || got.Silent["n3"] != "" {
			t.Errorf("silent: %v", got.Silent)
		}
	})
}

// K2, K5: a holder that is silent is not waited for once the others' attests show that its lease is over.
func TestK5AttestsEndTheWaitForTheHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.net.set("n1", netHung)
		begin := time.Now()
		if err := n2.askStatus(c.life, n2.observe(), decide.Decision{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the round took %v", took)
		}
		got := n2.observe().TakeOver
		if got.Silent["n1"] == "" || got.Statuses["n3"].Node != "n3" {
			t.Errorf("statuses %v, silent %v", got.Statuses, got.Silent)
		}
	})
}

// K3, U6: a holder that Raft hears is waited for, whatever the others say of its lease: it may be only frozen.
func TestK3HolderThatRaftHearsIsWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.net.set("n1", netHung)
		c.heard = map[cluster.NodeID]bool{"n1": true}
		begin := time.Now()
		if err := n2.askStatus(c.life, n2.observe(), decide.Decision{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != n2.peers.deadline() {
			t.Errorf("the round took %v, the deadline is %v", took, n2.peers.deadline())
		}
	})
}

// K2: who was silent is asked again in the next rounds, for its status, too.
func TestK2SilentNodeIsAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		c.net.set("n3", netDead)
		if err := n2.askStatus(c.life, n2.observe(), decide.Decision{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := gather(t, n2); got.Silent["n3"] == "" || got.NoPromise["n3"] == "" || len(got.Promises) != 1 {
				t.Fatalf("with n3 dead: silent %v, promises %v, reasons %v", got.Silent, got.Promises, got.NoPromise)
			}
		}
		c.net.set("n3", "")
		got := gather(t, n2)
		if got.Promises["n3"].Term != 4 || got.Statuses["n3"].Node != "n3" || got.Silent["n3"] != "" || got.NoPromise["n3"] != "" {
			t.Errorf("with n3 back: silent %v, statuses %v, promises %v, reasons %v", got.Silent, got.Statuses, got.Promises, got.NoPromise)
		}
	})
}

// K2, K4: a node that was silent before is asked apart from the first round: it does not hold it up, and its promise
// counts whenever it comes.
func TestK2SilentNodeIsAskedApart(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("n2")
		n2 := c.nodes["n2"]
		n2.observe()
		n2.fill(8, func(l *decide.TakeOver) { l.Silent["n3"] = "no answer to the status" })
		answers := c.calls.block("n3 Promise")
		begin := time.Now()
		if got := gather(t, n2); len(got.Promises) != 2 || got.NoPromise["n3"] == "" || time.Since(begin) != 0 {
			t.Errorf("after %v: promises %v, reasons %v", time.Since(begin), got.Promises, got.NoPromise)
		}
		synctest.Wait()
		for len(n2.wakeUp) > 0 {
			<-n2.wakeUp
		}
		answers()
		synctest.Wait()
		if got := n2.observe().TakeOver; got.Promises["n3"].Term != 4 || got.NoPromise["n3"] != "" {
			t.Errorf("late promise: promises %v, reasons %v", got.Promises, got.NoPromise)
		}
		if len(n2.wakeUp) == 0 {
			t.Error("the late promise did not wake the loop")
		}
	})
}

// K2: a promise that was given stands, whatever becomes of a later call. One for another term or of another node counts
// for nothing.
func TestK2PromiseOnceGivenStays(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		n2.observe()
		n2.enter(8, "n3", promiseOf("n3", 4), nil)
		n2.enter(8, "n3", cluster.Promise{}, errors.New("no answer"))
		n2.enter(8, "n3", promiseOf("n3", 5), nil)
		n2.enter(8, "n3", promiseOf("n1", 4), nil)
		n2.enter(8, "n1", promiseOf("n3", 4), nil)
		got := n2.observe().TakeOver
		if len(got.Promises) != 1 || got.Promises["n3"] != promiseOf("n3", 4) {
			t.Errorf("promises %v", got.Promises)
		}
		c.net.set("n3", netDead)
		if got := gather(t, n2); got.Promises["n3"] != promiseOf("n3", 4) {
			t.Errorf("after a round without an answer: promises %v, reasons %v", got.Promises, got.NoPromise)
		}
	})
}
