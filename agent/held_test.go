package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// heldBy is n3 with WAL of its own, at work, in a rule of n2 that n1, which is dead, would have to settle with it.
func heldBy(c *fakeCluster, older ...cluster.SyncRule) *fakeNode {
	n3 := strayed(c)
	c.net.set("n1", netDead)
	c.edit(func(v *cluster.View) {
		v.Rules[0].Standbys, v.Rules[0].K = []cluster.Member{member("n1"), member("n3")}, 1
		v.Rules = append(older, v.Rules...)
	})
	c.follows(n3)
	return n3
}

// copied makes the next copies what n2 has.
func copied(c *fakeCluster) {
	n3 := c.nodes["n3"]
	c.calls.hook("n3 BaseBackup", func(context.Context) error {
		n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = cluster.Position{Timeline: 3, LSN: 950} })
		return nil
	})
}

// B4, V5: a life that no change of the rules can let go goes on in a copy of the holder, once, and asks to be let go until
// then. Not so where commits may be on this node alone.
func TestB4HeldLifeGoesOnInACopy(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := heldBy(c)
		copied(c)
		pass(decide.HeldPatience - time.Second)
		if got := n3.localStatus(n3.watch.latest()).WantsOut; got != member("n3").Incarnation || c.calls.count("n3 BaseBackup") != 0 {
			t.Errorf("wants out %q, calls %q", got, c.calls.all("n3"))
		}
		release := c.calls.block("n3 BaseBackup")
		pass(3 * time.Second)
		if got := n3.localStatus(n3.watch.latest()).WantsOut; got != member("n3").Incarnation {
			t.Errorf("wants out %q while it is copied", got)
		}
		copied(c)
		n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = cluster.Position{Timeline: 3, LSN: 950} })
		release()
		pass(4 * decide.HeldPatience)
		if !c.calls.ordered("n3 BaseBackup n2 n2:5432 {n3 n3life}", "n3 Start standby 4") || c.calls.count("n3 BaseBackup") != 1 || c.calls.count("n3 Rewind") != 0 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
		if o := n3.observe(); !o.HeldSince.IsZero() || o.Removed != "" {
			t.Errorf("still held since %v, removed %q", o.HeldSince, o.Removed)
		}
	})
}

// A finding of the directory that made way does not outlive it: one copy is enough, also where its WAL had been removed.
func TestB4HeldForRemovedWALIsCopiedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := heldBy(c)
		copied(c)
		n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = cluster.Position{Timeline: 2, LSN: 800} })
		n3.watch.forget()
		n3.mu.Lock()
		n3.removed = removedWAL{term: 4, life: member("n3").Incarnation, refusal: "n2: " + refusedSegment}
		n3.mu.Unlock()
		pass(6 * decide.HeldPatience)
		if c.calls.count("n3 BaseBackup") != 1 || c.calls.count("n3 Start standby 4") == 0 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
	})
}

func TestB4TheOnlyOneWithTheCommitsWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		heldBy(c, cluster.SyncRule{ID: 9, Term: 3, Primary: member("n3"), Timeline: 2, Mode: cluster.SyncQuorum})
		pass(6 * decide.HeldPatience)
		if c.calls.count("n3 BaseBackup")+c.calls.count("n3 Rewind") != 0 {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
	})
}

// V1: a copy that a life waits for is broken off when its term ends: the taker needs this node's Postgres.
func TestV1HeldCopyEndsWithTheTerm(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *fakeCluster){
		"new term": func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Term++ }) },
		"released": func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Released = true }) },
		"promised": func(c *fakeCluster) {
			c.nodes["n3"].pg.edit(func(*cluster.PostgresStatus) { c.nodes["n3"].pg.promised = 5 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := strayed(c)
				for _, life := range []cluster.Incarnation{member("n3").Incarnation, ""} {
					release := c.calls.block("n3 BaseBackup")
					d := decide.Decision{Action: decide.Clone, Reason: decide.ReasonHeld, Source: "n2", Term: 4, Life: life}
					n3.act(c.life, n3.observe(), d)
					synctest.Wait()
					if life != "" {
						end(c)
					}
					pass(fakeHeartbeat)
					if runs := n3.jobs.current().Action == decide.Clone; runs != (life == "") {
						t.Errorf("as %q: the copy goes on: %t", life, runs)
					}
					release()
					n3.jobs.wait()
				}
			})
		})
	}
}

// A rewind that waits for the source's checkpoint has not failed, however often it asks: a clone would not be sooner.
func TestRewindWaitsForTheCheckpoint(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := strayed(c)
		c.calls.hook("n3 Rewind", func(context.Context) error { return notYet{} })
		for range 2 * decide.MaxRewinds {
			tries(c.life, n3, backToN2)
			pass(decide.LongestPause)
		}
		if d := decide.Next(n3.observe()); d.Action != decide.Rewind {
			t.Errorf("next is %q because %q", d.Action, d.Reason)
		}
		c.calls.fail("n3 Rewind")
		for i := range decide.MaxRewinds {
			if d := decide.Next(n3.observe()); d.Action != decide.Rewind {
				t.Errorf("after %d real failures, next is %q because %q", i, d.Action, d.Reason)
			}
			tries(c.life, n3, backToN2)
			pass(decide.LongestPause)
		}
		if d := decide.Next(n3.observe()); d.Action != decide.Clone {
			t.Errorf("after real failures, next is %q because %q", d.Action, d.Reason)
		}
	})
}

type notYet struct{}

func (notYet) Error() string { return "the source has not checkpointed" }
func (notYet) Waits() bool   { return true }
