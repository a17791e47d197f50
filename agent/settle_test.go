package agent

import (
	"context"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// widened is n1 as the holder with an older rule recorded beside the newest one, which asks for k.
func widened(c *fakeCluster, k int) *fakeNode {
	n1 := c.holds()
	c.edit(func(v *cluster.View) {
		older := v.Rules[0]
		older.ID, older.Standbys = 3, older.Standbys[:1]
		v.Rules = []cluster.SyncRule{older, v.Rules[0]}
		v.Rules[1].K = k
	})
	return n1
}

func (p *fakePostgres) confirm(duplicates []string, ids ...cluster.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.confirmed, p.duplicates = nil, duplicates
	for _, id := range ids {
		p.confirmed = append(p.confirmed, member(id))
	}
}

func settle(c *fakeCluster, n *fakeNode) error {
	return n.settleRule(c.life, n.observe(), decide.Decision{Action: decide.SettleRule})
}

// S2: set, prove, read the LSN, wait for k confirmations of it, and only then drop the older rules, as they were seen.
func TestS2StepsInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := widened(c, 2)
		c.calls.hook("n1 ProveSyncNames", func(context.Context) error {
			n1.pg.edit(func(*cluster.PostgresStatus) { n1.pg.pos.LSN = 2000 }) // commits went on until the list was in force
			return nil
		})
		done := background(func() error { return settle(c, n1) })
		for _, confirmed := range [][]cluster.NodeID{nil, {"n2"}} {
			n1.pg.confirm(nil, confirmed...)
			pass(time.Second)
			if c.calls.count("n1 Apply drop_rules") != 0 || !pending(done) || n1.observe().RuleProven {
				t.Fatalf("settled with %d of 2 confirmations", len(confirmed))
			}
		}
		n1.pg.confirm(nil, "n2", "n3")
		if err := outcome(t, done); err != nil {
			t.Fatal(err)
		}
		if !c.calls.ordered("n1 SetSyncNames", "n1 ProveSyncNames", "n1 Position", "n1 Confirmed", "n1 Apply drop_rules") {
			t.Errorf("order of calls: %q", c.calls.all("n1"))
		}
		if got := c.calls.all("n1 Confirmed")[0]; got != "n1 Confirmed 0/7D0" {
			t.Errorf("asked %q, want the LSN after the proof, 0/7D0", got)
		}
		dropped := c.commands("drop_rules")
		if len(dropped) != 1 || dropped[0] != (cluster.DropRules{Node: "n1", Term: 3, RulesVersion: 9}) {
			t.Errorf("dropped %+v", dropped)
		}
		if o := n1.observe(); len(o.View.Rules) != 1 || !o.RuleProven {
			t.Errorf("rules %v, proven %v", o.View.Rules, o.RuleProven)
		}
	})
}

// S2: a step that fails ends the try, and the older rules stay. Settled is what the state machine has taken.
func TestS2FailedStepDropsNothing(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"n1 SetSyncNames", "n1 ProveSyncNames", "n1 Position", "n1 Confirmed", "n1 Apply drop_rules"} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := widened(c, 1)
				n1.pg.confirm(nil, "n2", "n3")
				c.calls.fail(failing)
				if err := settle(c, n1); err == nil {
					t.Error("no error")
				}
				if o := n1.observe(); len(o.View.Rules) != 2 || o.RuleProven {
					t.Errorf("rules %v, proven %v", o.View.Rules, o.RuleProven)
				}
			})
		})
	}
}

// S2: without the confirmations a try ends by itself, with nothing dropped.
func TestS2UnconfirmedRuleEndsInAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := widened(c, 1)
		begin := time.Now()
		if err := settle(c, n1); err == nil || len(c.current().Rules) != 2 || time.Since(begin) > settleLimit {
			t.Errorf("after %v: error %v, rules %v", time.Since(begin), err, c.current().Rules)
		}
	})
}

// S2: a rule that is replaced, or a key that moves on, while it is being settled is no failure, and drops nothing.
func TestS2ReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*cluster.View){
		"another rule": func(v *cluster.View) { v.RulesVersion++; v.Rules = append(v.Rules, v.Rules[1]) },
		"another term": func(v *cluster.View) { v.Key.Term++ },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := widened(c, 1)
				done := background(func() error { return settle(c, n1) })
				c.edit(edit)
				if err := outcome(t, done); err != nil {
					t.Errorf("error %v", err)
				}
				if c.calls.count("n1 Apply drop_rules") != 0 || n1.observe().RuleProven {
					t.Errorf("calls %q, proven %v", c.calls.all("n1 Apply"), n1.observe().RuleProven)
				}
			})
		})
	}
}

// S2, V4: a confirmation on another timeline than the rule's says nothing of the rule.
func TestS2AnotherTimelineIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := widened(c, 1)
		n1.pg.confirm(nil, "n2", "n3")
		n1.pg.pos.Timeline = 1
		if err := settle(c, n1); err == nil || c.calls.count("n1 Confirmed")+c.calls.count("n1 Apply drop_rules") != 0 {
			t.Errorf("error %v, calls %q", err, c.calls.all("n1"))
		}
	})
}

// S6: while a name has two connections its confirmation may count twice: it counts for nothing, and an event says so.
func TestS6DuplicatesConfirmNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := widened(c, 1)
		n1.pg.confirm([]string{"n2_n2life"}, "n2", "n3")
		done := background(func() error { return settle(c, n1) })
		pass(time.Second)
		if !pending(done) || c.calls.count("n1 Apply drop_rules") != 0 {
			t.Error("settled under a duplicate")
		}
		if c.calls.count("n1 Apply add_event") == 0 {
			t.Error("no event tells of the duplicate")
		}
		n1.pg.confirm(nil, "n2", "n3")
		if err := outcome(t, done); err != nil || len(c.current().Rules) != 1 {
			t.Errorf("error %v, rules %v", err, c.current().Rules)
		}
	})
}

// S3: a rule counts as proven in the run of Postgres in which it was.
func TestS3ProvenRuleEndsWithTheRun(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		n1.pg.confirm(nil, "n2")
		if err := settle(c, n1); err != nil || !n1.observe().RuleProven {
			t.Fatalf("error %v, proven %v", err, n1.observe().RuleProven)
		}
		if c.calls.count("n1 Apply drop_rules") != 0 {
			t.Error("dropped what is not there")
		}
		c.set("n1", func(p *cluster.PostgresStatus) { p.StartTime = "run 1" })
		if n1.observe().RuleProven {
			t.Error("proven in a run of postgres that has just begun")
		}
	})
}
