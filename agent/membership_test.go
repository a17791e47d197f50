package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// held is a keeper with a live lease of term 3 in Raft term 7, whose newest quorum of answers is 100 ms old.
func held(t *testing.T) *bench {
	b := newBench()
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	b.now = b.now.Add(100 * time.Millisecond)
	b.want(t, decide.LeaseLive)
	return b
}

// L6: before a change is proposed the guard is given the end that the new voters give, also an earlier one.
func TestL6KeeperLowersBeforeAChange(t *testing.T) {
	b := held(t)
	b.pass(200*time.Millisecond, true)
	before := b.guard.leases[len(b.guard.leases)-1].End
	b.raft.newest = b.now.Add(-100 * time.Millisecond) // the new voter answered then
	if err := b.lower(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := b.guard.leases[len(b.guard.leases)-1]
	if got.End != before.Add(-100*time.Millisecond) || got.Term != 3 || got.RaftTerm != 7 {
		t.Errorf("the guard holds %+v, want the end 100 ms before %d", got, before)
	}
	if l, _ := b.current(); l != got {
		t.Errorf("the agent counts on %+v, the guard on %+v", l, got)
	}
}

// L6: what keeps a change from being proposed. The lease that the guard has stays.
func TestL6KeeperRefusesAChange(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*bench)
		why  string // a part; empty: the change may be proposed
	}{
		{"nothing", func(*bench) {}, ""},
		{"new voters that have not answered", func(b *bench) { b.raft.answers = false }, "has not answered"},
		{"an end too near to live on", func(b *bench) { b.raft.newest = b.now.Add(-501 * time.Millisecond); b.since = 0 }, "fence point"},
		{"a new voter that answered before the acquisition only", func(b *bench) { b.raft.newest = b.since.Add(-1) }, "want answers of raft term 7"},
		{"no barrier in this raft term", func(b *bench) { b.raft.barrier = 0 }, "raft term"},
		{"a raft term that was not taken up yet", func(b *bench) { b.raft.term, b.raft.barrier = 8, 8 }, "raft term"},
		{"the key is in another term", func(b *bench) { b.raft.view.Key.Term = 4 }, "no live lease"},
		{"acquired, no quorum yet", func(b *bench) { b.acquired(3, 7) }, "no live lease"},
		{"its lease is over, the key its own", func(b *bench) { b.end(3) }, "no live lease"},
		{"another holds the key", func(b *bench) { b.end(3); b.raft.view.Key.Holder = "n2" }, ""},
		{"the key is released", func(b *bench) { b.end(3); b.raft.view.Key.Released = true }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := held(t)
			c.edit(b)
			n, lease := len(b.guard.leases), b.keeper.lease
			err := b.lower(context.Background())
			if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Fatalf("error %v, want %q", err, c.why)
			}
			if l, _ := b.current(); err != nil && (len(b.guard.leases) != n || l != lease) {
				t.Errorf("refused, yet the guard was given %+v and the agent counts on %+v", b.guard.leases[n:], l)
			}
		})
	}
}

// L6, U2: a guard that does not take the lower end keeps the change from being proposed.
func TestL6GuardHasTheLastWord(t *testing.T) {
	b := held(t)
	b.guard.refuse = errFake
	if err := b.lower(context.Background()); err == nil {
		t.Fatal("the change may be proposed although the guard refused")
	}
	b.want(t, decide.LeaseNone)
}

// L6: Raft is told once when the key is settled, and when it no longer is.
func TestL6SettledTermIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n := c.nodes["n1"]
		n.keeper.acquired(3, 7)
		n.keeper.renew(c.life)
		n.settle(n.observe())
		if got := c.calls.all("n1 SetSettledTerm"); len(got) != 0 {
			t.Fatalf("told %q before the rule was settled", got)
		}
		n.proven = provenRule{4, "run 0"}
		n.settle(n.observe())
		n.settle(n.observe())
		c.edit(func(v *cluster.View) { v.Rules = append(v.Rules, v.Rules[0]) }) // a rule is being changed
		n.settle(n.observe())
		if got := c.calls.all("n1 SetSettledTerm"); len(got) != 1 || got[0] != "n1 SetSettledTerm 7" {
			t.Fatalf("told %q, want term 7 once", got)
		}
		c.lead("n2")
		n.settle(n.observe())
		if got := c.calls.all("n1 SetSettledTerm"); len(got) != 2 || got[1] != "n1 SetSettledTerm 0" {
			t.Fatalf("told %q, want 0 when leadership is lost", got)
		}
	})
}
