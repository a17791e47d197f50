package agent

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

func listFor(k int, ids ...cluster.NodeID) SyncList {
	l := SyncList{Mode: cluster.SyncQuorum, K: k}
	for _, id := range ids {
		l.Members = append(l.Members, member(id))
	}
	return l
}

// S3: a list is set, then proven; once for each list and each run of Postgres.
func TestS3PreparedOncePerListAndRun(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		one, two := listFor(1, "n1", "n3"), listFor(1, "n3")
		for i, step := range []struct {
			list SyncList
			run  string
			want int // proofs so far
		}{
			{one, "run 0", 1}, {one, "run 0", 1}, {one, "run 1", 2}, {one, "run 1", 2},
			{two, "run 1", 3}, {one, "run 1", 4}, {one, "run 0", 5},
		} {
			if err := n2.prepareNow(c.life, step.list, step.run); err != nil {
				t.Fatal(err)
			}
			if sets, proofs := c.calls.count("n2 SetSyncNames"), c.calls.count("n2 ProveSyncNames"); sets != step.want || proofs != step.want {
				t.Fatalf("step %d: set %d times, proven %d times, want %d", i, sets, proofs, step.want)
			}
		}
		if !c.calls.ordered("n2 SetSyncNames", "n2 ProveSyncNames", "n2 SetSyncNames", "n2 ProveSyncNames") {
			t.Errorf("order of calls: %q", c.calls.all("n2"))
		}
	})
}

// S3: a proof that failed counts for nothing, and neither does the one before it: another list may be in force.
func TestS3FailedProofIsNotRemembered(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"n2 SetSyncNames", "n2 ProveSyncNames"} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.nodes["n2"]
				one, two := listFor(1, "n1", "n3"), listFor(1, "n3")
				if err := n2.prepareNow(c.life, one, "run 0"); err != nil {
					t.Fatal(err)
				}
				c.calls.fail(failing)
				for range 2 {
					if n2.prepareNow(c.life, two, "run 0") == nil {
						t.Fatal("a list that was not proven counts as prepared")
					}
				}
				c.calls.hook(failing, nil)
				c.calls.forget()
				if err := n2.prepareNow(c.life, one, "run 0"); err != nil || !c.calls.ordered("n2 SetSyncNames", "n2 ProveSyncNames") {
					t.Errorf("error %v, calls %q: the list before the failed one is not known to be in force", err, c.calls.all("n2"))
				}
			})
		})
	}
}

// S3: a standby's list is proven ahead, without being asked, as often as there is a new list or a new run of Postgres.
func TestS3UpkeepProvesAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		want := func(proofs int, when string) {
			t.Helper()
			if got := c.calls.count("n2 ProveSyncNames"); got != proofs {
				t.Fatalf("%s: proven %d times, want %d", when, got, proofs)
			}
		}
		c.start(func() { n2.upkeep(c.life) })
		pass(30 * time.Second)
		want(1, "30 s on")
		if !c.calls.ordered("n2 Configure", "n2 SetSyncNames", "n2 ProveSyncNames") {
			t.Errorf("order of calls: %q", c.calls.all("n2"))
		}
		c.set("n2", func(p *cluster.PostgresStatus) { p.StartTime = "run 1" })
		pass(30 * time.Second)
		want(2, "in the next run of postgres")
		c.edit(func(v *cluster.View) {
			n := v.Nodes["n3"]
			n.Incarnation = "anew"
			v.Nodes["n3"] = n
		})
		pass(30 * time.Second)
		want(3, "with another list")
		c.calls.fail("n2 ProveSyncNames")
		c.set("n2", func(p *cluster.PostgresStatus) { p.StartTime = "run 2" })
		pass(30 * time.Second)
		failed := c.calls.count("n2 ProveSyncNames")
		if failed < 5 {
			t.Errorf("a proof that failed was tried %d times more in 30 s", failed-3)
		}
		c.calls.hook("n2 ProveSyncNames", nil)
		pass(30 * time.Second)
		want(failed+1, "once it succeeds")
	})
}

// S3: the list, slots and settings stay while the state does not name all that this node knew before, nor its own data: those of
// whom it does not name would be taken away.
func TestS3UpkeepWaitsForTheState(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		behind := func(b bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.behind = b
		}
		behind(true)
		c.start(func() { n2.upkeep(c.life) })
		pass(time.Minute)
		want := func(n int, when string) {
			t.Helper()
			for _, call := range []string{"n2 EnsureSlots", "n2 Configure"} {
				if got := c.calls.count(call); min(got, 1) != n {
					t.Errorf("%s: %d calls of %s", when, got, call)
				}
			}
		}
		want(0, "with a state from before")
		var known cluster.Incarnation
		register := func(i cluster.Incarnation) {
			c.edit(func(v *cluster.View) {
				n := v.Nodes["n2"]
				known, n.Incarnation = n.Incarnation, i
				v.Nodes["n2"] = n
			})
		}
		register("")
		behind(false)
		pass(time.Minute)
		want(0, "with a state that does not name this node's data")
		pass(decide.SlotPatience)
		if c.calls.count("n2 EnsureSlots") == 0 || c.calls.count("n2 AdvanceSlots") == 0 || c.calls.count("n2 Configure") != 0 {
			t.Errorf("after half an hour: %q", c.calls.all("n2"))
		}
		register(known)
		pass(time.Minute)
		want(1, "with the state as it was")
	})
}

// S3: while a take-over sets the list itself, upkeep writes none.
func TestS3UpkeepLeavesATakeOverAlone(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*fakeCluster, *fakeNode){
		"promised":  func(_ *fakeCluster, n *fakeNode) { n.pg.promised = 4 },
		"holds key": func(c *fakeCluster, _ *fakeNode) { c.edit(func(v *cluster.View) { v.Key.Holder = "n2" }) },
		"job":       func(c *fakeCluster, n *fakeNode) { longJob(c, n) },
		"is promoted": func(c *fakeCluster, _ *fakeNode) {
			c.set("n2", func(p *cluster.PostgresStatus) { p.Role = cluster.RolePrimary })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.nodes["n2"]
				begin(c, n2)
				c.start(func() { n2.upkeep(c.life) })
				pass(30 * time.Second)
				if _, wrote := n2.configureStandby(c.life); wrote {
					t.Error("a standby's settings were written")
				}
				n2.proveEarly(c.life, n2.observe(), listFor(1, "n3"))
				if n := c.calls.count("n2 Configure") + c.calls.count("n2 SetSyncNames"); n != 0 {
					t.Errorf("calls %q", c.calls.all("n2"))
				}
			})
		})
	}
}

func longJob(c *fakeCluster, n *fakeNode) {
	d := decide.Decision{Action: decide.Promote}
	n.jobs.start(c.life, d, c.clock.now(), func(ctx context.Context) { <-ctx.Done() }, func() {})
}

// S3: a promotion waits until upkeep has written its list, so that its own comes last.
func TestS3PromotionIsNotOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		var written atomic.Bool
		gate := make(chan struct{})
		c.calls.hook("n2 Configure", func(context.Context) error { <-gate; written.Store(true); return nil })
		c.calls.hook("n2 SetSyncNames", func(context.Context) error {
			if !written.Load() {
				t.Error("the promotion's list was set while upkeep wrote another")
			}
			return nil
		})
		background(func() error { n2.configureStandby(c.life); return nil })
		done := make(chan error, 1)
		go func() { done <- n2.prepareNow(c.life, listFor(1, "n3"), "run 0") }()
		for range 1000 { // a mutex is no wait that a bubble could see the end of
			runtime.Gosched()
		}
		close(gate)
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
	})
}

// S3: a promotion does not wait for the checkpoint of a proof that upkeep makes ahead.
func TestS3EarlyProofIsBrokenOff(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		began := make(chan struct{})
		c.calls.hook("n2 ProveSyncNames", func(ctx context.Context) error { // the first: a checkpoint without an end
			c.calls.hook("n2 ProveSyncNames", nil)
			close(began)
			<-ctx.Done()
			return ctx.Err()
		})
		background(func() error { n2.keepStandby(c.life, n2.observe(), nil, true); return nil })
		<-began
		at := c.clock.now()
		if err := n2.prepareNow(c.life, listFor(1, "n3"), "run 0"); err != nil {
			t.Fatal(err)
		}
		if waited := c.clock.now().Sub(at); waited > time.Second {
			t.Errorf("the promotion's list was in force after %v", waited)
		}
	})
}

// promotes makes n2 the holder of term 4 that has still to be promoted.
func promotes(c *fakeCluster) (*fakeNode, *decide.Observation) {
	n2 := c.failed()
	cmd := acquisition(c, "n2", false).Acquire
	c.edit(func(v *cluster.View) { fakeFSM["acquire_leader"](v, cmd) })
	return n2, n2.observe()
}

// S3, K7: the new rule's list is in force before the promotion; without the proof there is none. What was proven ahead in
// this run is not proven again.
func TestS3PromotedUnderAProvenList(t *testing.T) {
	t.Parallel()
	d := decide.Decision{Action: decide.Promote, Term: 4}
	t.Run("in order", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			n2, o := promotes(c)
			if err := n2.promote(c.life, o, d); err != nil || !c.calls.ordered("n2 SetSyncNames", "n2 ProveSyncNames", "n2 Promote 4 3") {
				t.Errorf("error %v, calls %q", err, c.calls.all("n2"))
			}
		})
	})
	t.Run("not proven", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			n2, o := promotes(c)
			c.calls.fail("n2 ProveSyncNames")
			if err := n2.promote(c.life, o, d); err == nil || c.calls.count("n2 Promote") != 0 {
				t.Errorf("error %v, calls %q", err, c.calls.all("n2"))
			}
		})
	})
	t.Run("proven ahead", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			n2, o := promotes(c)
			rule, _ := o.View.Current()
			if err := n2.prepareNow(c.life, listOf(rule), "run 0"); err != nil {
				t.Fatal(err)
			}
			if err := n2.promote(c.life, o, d); err != nil || c.calls.count("n2 ProveSyncNames") != 1 {
				t.Errorf("error %v, calls %q", err, c.calls.all("n2"))
			}
		})
	})
	t.Run("rule of another term", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *fakeCluster) {
			n2, o := promotes(c)
			if err := n2.promote(c.life, o, decide.Decision{Term: 5}); err == nil || c.calls.count("n2 Promote") != 0 {
				t.Errorf("error %v, calls %q", err, c.calls.all("n2"))
			}
		})
	})
}

// S3: a primary that starts in place has its rule's list from the first moment.
func TestS3PrimaryStartsWithItsList(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.crashed()
		c.edit(func(v *cluster.View) { v.Rules[0].Standbys = v.Rules[0].Standbys[:1] }) // a standby's own list would name both
		if err := n1.startPrimary(c.life, n1.observe(), decide.Decision{Action: decide.StartPrimary, Term: 3}); err != nil {
			t.Fatal(err)
		}
		if c.calls.count("n1 Start primary 3 {quorum 1 [{n2 n2life}] 2}") != 1 {
			t.Errorf("calls %q", c.calls.all("n1"))
		}
	})
}
