package agent

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// planned is n1 as a primary that was asked to switch over to n2, as the loop finds it.
func planned(c *fakeCluster) (n1 *fakeNode, o *decide.Observation, answer chan cluster.ActionResult) {
	n1 = c.holds()
	for _, n := range []cluster.NodeID{"n2", "n3"} {
		if _, err := n1.peers.look(c.life, n, statusFresh); err != nil {
			c.t.Fatal(err)
		}
	}
	answer = make(chan cluster.ActionResult, 1)
	n1.mu.Lock()
	n1.request = &pendingSwitchover{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n2"}, reason: "switchover", answer: answer}
	n1.mu.Unlock()
	return n1, n1.observe(), answer
}

// answered is the answer of a switchover that has ended.
func answered(t *testing.T, answer <-chan cluster.ActionResult) cluster.ActionResult {
	t.Helper()
	select {
	case r := <-answer:
		return r
	default:
		t.Fatal("the request was not answered")
	}
	return cluster.ActionResult{}
}

var toN2 = decide.Decision{Action: decide.Switchover, Reason: decide.ReasonRequested, Node: "n2"}

// B1, U4: checkpoint, hidden from clients, stop, the candidate has the shutdown checkpoint, fenced, and only then
// released.
func TestB1ReleasedOnlyAfterFenced(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, o, _ := planned(c)
		c.calls.hook("n1 Stop", func(context.Context) error {
			if !n1.Snapshot().Shutdown {
				t.Error("/primary is shown while postgres stops")
			}
			return nil
		})
		fenced := c.calls.block("n1 Fence")
		done := background(func() error { return n1.switchover(c.life, o, toN2) })
		if !pending(done) || c.current().Key.Released {
			t.Fatalf("released before fenced: %q", c.calls.all("n1"))
		}
		fenced()
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		if !c.calls.ordered("n1 Checkpoint", "n1 Stop", "n1 ShutdownCheckpoint", "n1 Fence 3", "n1 Apply release_leader") || !c.current().Key.Released {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
		if n1.observe().Resume {
			t.Error("a switchover that came to pass is resumed")
		}
	})
}

// B1: a switchover that cannot go on fails with its reason, the key is not touched, and the same primary starts again if
// it was stopped.
func TestB1FailedSwitchover(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit   func(*fakeCluster)
		says   string
		resume bool
	}{
		"the candidate lacks the checkpoint": {func(c *fakeCluster) { c.nodes["n1"].pg.end = 1100 }, "at 0/3E8, wanted 0/44C", true},
		"another timeline":                   {func(c *fakeCluster) { c.set("n2", func(p *cluster.PostgresStatus) { p.Timeline = 1 }) }, "catch-up of n2", true},
		"not in good order":                  {func(c *fakeCluster) { c.nodes["n1"].pg.unclean = true }, "good order", true},
		"no checkpoint to be read":           {func(c *fakeCluster) { c.calls.fail("n1 ShutdownCheckpoint") }, errFake.Error(), true},
		"it does not stop":                   {func(c *fakeCluster) { c.calls.fail("n1 Stop") }, errFake.Error(), false},
		"no checkpoint before":               {func(c *fakeCluster) { c.calls.fail("n1 Checkpoint") }, errFake.Error(), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1, o, answer := planned(c)
				tt.edit(c)
				if err := n1.switchover(c.life, o, toN2); err != nil {
					t.Fatal(err)
				}
				if r := answered(t, answer); r.Code != cluster.ActionUnavailable || !strings.Contains(r.Text, tt.says) || !strings.Contains(r.Text, "n1 stays primary") {
					t.Errorf("answer %+v, want %q", r, tt.says)
				}
				if c.current().Key.Released || c.calls.count("n1 Fence")+c.calls.count("n1 Apply release_leader") != 0 {
					t.Errorf("calls %q", c.calls.all("n1"))
				}
				if got := n1.observe(); got.Resume != tt.resume || got.Request != nil || n1.Snapshot().Shutdown {
					t.Errorf("resume %v, request %+v, hidden %v", got.Resume, got.Request, n1.Snapshot().Shutdown)
				}
			})
		})
	}
}

// S8: the hand-over of a stopping agent that fails is tried again after a pause, and told once.
func TestS8FailedHandOverOfAStoppingAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, _, _ := planned(c)
		n1.endRequest(cluster.ActionResult{})
		n1.mu.Lock()
		n1.stopping = true
		n1.mu.Unlock()
		c.calls.fail("n1 Checkpoint")
		for range 3 {
			o := n1.observe()
			n1.tried(c.life, toN2, n1.switchover(c.life, o, toN2))
			if o = n1.observe(); o.Retry[decide.Switchover] <= o.Now {
				t.Fatal("it is tried again at once")
			}
		}
		synctest.Wait()
		if told := c.calls.count("n1 Apply add_event"); told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

// B1: a switchover that fails when the lease is given up already does not say that the primary stays.
func TestB1FailedRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, o, answer := planned(c)
		c.calls.fail("n1 Fence")
		if err := n1.switchover(c.life, o, toN2); err != nil {
			t.Fatal(err)
		}
		if r := answered(t, answer); r.Code != cluster.ActionUnavailable || !strings.Contains(r.Text, "given up its lease") {
			t.Errorf("answer %+v, want it to say that the lease is given up", r)
		}
	})
}

// B1, C3: a failed switchover is resumed in its own term only. If this node holds the key again in a later one, a crash of
// its Postgres is judged like any other: a standby that is ready takes over.
func TestB1ResumeEndsWithTheTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, o, _ := planned(c)
		c.nodes["n1"].pg.end = 1100
		if err := n1.switchover(c.life, o, toN2); err != nil || !n1.observe().Resume {
			t.Fatalf("error %v, resume %v", err, n1.observe().Resume)
		}
		c.edit(func(v *cluster.View) { v.Key.Term = 4 })
		if n1.observe().Resume {
			t.Error("resumed in a later term")
		}
	})
}

// B1, as an operator sees it: the loop carries the request out, the candidate lacks the shutdown checkpoint, and the old
// primary runs again in its own term.
func TestB1OldPrimaryIsResumed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		n1.pg.end = 1100
		n1.pg.confirm(nil, "n2", "n3")
		c.calls.hook("n1 Stop", func(context.Context) error {
			n1.pg.edit(func(*cluster.PostgresStatus) { n1.pg.pos.LSN = 1100 })
			return nil
		})
		c.start(func() { n1.peers.poll(c.life) })
		c.start(func() { n1.loop(c.life) })
		pass(time.Second)
		r := c.nodes["n3"].Switchover(c.life, cluster.SwitchoverRequest{Leader: "n1", Candidate: "n2"})
		if r.Code != cluster.ActionUnavailable || !strings.Contains(r.Text, "wanted 0/44C") {
			t.Errorf("answer %+v", r)
		}
		pass(5 * time.Second)
		if !c.calls.ordered("n1 Stop", "n1 ShutdownCheckpoint", "n1 Start primary 3") || c.calls.count("n1 Start") != 1 {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
		o := n1.observe()
		if k := o.View.Key; k.Holder != "n1" || k.Term != 3 || k.Released || o.Local.Postgres.Role != cluster.RolePrimary || o.Resume {
			t.Errorf("key %+v, postgres %s %s, resume %v", k, o.Local.Postgres.State, o.Local.Postgres.Role, o.Resume)
		}
	})
}
