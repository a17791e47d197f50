package decide

import (
	"slices"
	"testing"
	"time"

	"pgquorum/cluster"
)

// S2, G3: one change at a time, the older rules settled first; only S5 goes before.
func TestS2OrderOfRules(t *testing.T) {
	newcomer := func(o *Observation) { count(o, 1, "n2") } // n3 streams and does not count yet
	older := func(o *Observation) { o.View.Rules = append([]cluster.SyncRule{{ID: 3, Term: 2}}, o.View.Rules...) }
	for _, c := range []struct {
		name   string
		edit   func(*Observation)
		action Action
		rule   string // of ChangeRule
	}{
		{"nothing differs", func(*Observation) {}, None, ""},
		{"a change", newcomer, ChangeRule, "quorum 1 of n2 n3"},
		{"older rules recorded: settled first", func(o *Observation) { newcomer(o); older(o) }, SettleRule, ""},
		{"list not proven: settled first", func(o *Observation) { newcomer(o); o.RuleProven = false }, SettleRule, ""},
		{"the order of names is no difference, once sorted", func(o *Observation) { count(o, 1, "n2", "n3") }, None, ""},
		{"S5 k is lowered although older rules are recorded", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			older(o)
			gone(o, "n3")
			lacking(o, LowerAfter)
		}, ChangeRule, "quorum 1 of n2 n3"},
		{"S5 k is lowered although the list is not proven", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			o.RuleProven = false
			gone(o, "n3")
			lacking(o, LowerAfter)
		}, ChangeRule, "quorum 1 of n2 n3"},
		{"S5 not yet: the older rules are settled", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			older(o)
			gone(o, "n3")
			lacking(o, LowerAfter-1)
		}, SettleRule, ""},
		{"many rules stand, and nobody of the newest streams: a newcomer is added still", func(o *Observation) {
			count(o, 1, "n2")
			for range 20 {
				older(o)
			}
			gone(o, "n2")
		}, ChangeRule, "quorum 1 of n2 n3"},
		{"raising k waits for the older rules", func(o *Observation) { count(o, 0, "n2", "n3"); older(o) }, SettleRule, ""},
		{"the mode changes", func(o *Observation) { o.View.Config.SynchronousMode = cluster.SyncOn }, ChangeRule, "on 1 of n2"},
		{"settling failed just now", func(o *Observation) { older(o); o.Retry[SettleRule] = o.Now + 1 }, Wait, ""},
		{"L2 not Raft leader", func(o *Observation) { newcomer(o); o.Raft.State, o.Barrier = cluster.RaftFollower, false }, None, ""},
		{"K1 no Barrier", func(o *Observation) { newcomer(o); o.Barrier = false }, Barrier, ""},
		{"F2 another timeline comes first", func(o *Observation) { newcomer(o); o.Local.Postgres.Timeline = 9 }, Fence, ""},
		{"G1 a higher promise comes first", func(o *Observation) { newcomer(o); o.Promised = 4 }, Acquire, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			d := Next(o)
			if d.Action != c.action {
				t.Fatalf("Next = %q because %q, want %q", d.Action, d.Reason, c.action)
			}
			if c.rule != "" && d.Rule.text() != c.rule {
				t.Errorf("rule %q, want %q", d.Rule.text(), c.rule)
			}
		})
	}
}

// S2, S5: whatever standbys stream, are gone or ask to leave, and whatever rule stands: the wanted rule is reached in a few changes,
// each of which is another, and if k of all that may count stream in the end, k of the newest rule do. So the rules neither
// change for ever nor stay with what nobody can settle.
func TestS2WantedRuleIsReached(t *testing.T) {
	const most = 4
	states := []func(o *Observation, n string){
		func(*Observation, string) {},
		func(o *Observation, n string) { gone(o, n) },
		func(o *Observation, n string) { wants(o, n) },
		func(o *Observation, n string) { gone(o, n); wants(o, n) },
	}
	standbys := []string{"n2", "n3", "n4", "n5"}
	for world := range 256 * 16 * 3 { // what each standby does, who counts, k
		for _, lasted := range []time.Duration{LowerAfter - 1, LowerAfter} {
			for _, mode := range []cluster.SyncMode{cluster.SyncQuorum, cluster.SyncOn} {
				o := five()
				o.View.Config.SynchronousMode, o.View.Rules[0].Mode, o.RuleProven = mode, mode, false
				w, names := world, []string(nil)
				for _, n := range standbys {
					states[w%4](o, n)
					w /= 4
				}
				for _, n := range standbys {
					if w%2 == 1 {
						names = append(names, n)
					}
					w /= 2
				}
				if w > len(names) {
					continue
				}
				count(o, w, names...)
				seen := []string{RuleChange{Mode: mode, K: w, Standbys: o.View.Rules[0].Standbys}.text()}
				for {
					o.StandbyLackingSince = 0
					if Unable(o) {
						lacking(o, lasted)
					}
					d, ok := rules(o)
					if !ok || d.Action != ChangeRule {
						break
					}
					r := o.View.Rules[0]
					r.ID, r.K, r.Mode, r.Standbys = r.ID+1, d.Rule.K, d.Rule.Mode, d.Rule.Standbys
					o.View.Rules[0] = r
					if slices.Contains(seen, d.Rule.text()) || len(seen) > most {
						t.Fatalf("world %d, %s, lacking for %v: %q, and then %q", world, mode, lasted, seen, d.Rule.text())
					}
					seen = append(seen, d.Rule.text())
				}
				can := 0
				for i := range standbys {
					if world>>(2*i)&3 == 0 {
						can++
					}
				}
				if cur, _ := o.View.Current(); Unable(o) && can >= cur.K {
					t.Fatalf("world %d, %s, lacking for %v: after %q it stays with what cannot be settled", world, mode, lasted, seen)
				}
			}
		}
	}
}

// S3: a node that is no primary runs with a list that is not empty as soon as another data node is known, so that the
// checkpointer's flag is set.
func TestS3StandbyListIsNeverEmpty(t *testing.T) {
	runRules(t, func() *Observation { return healthy("n2") }, StandbyList, []ruleCase{
		{"the others", func(*Observation) {}, "quorum 1 of n1 n3"},
		{"nobody answers", func(o *Observation) { clear(o.Peers); o.Raft.Leader = "" }, "quorum 1 of n1 n3"},
		{"the recorded rule has nobody", func(o *Observation) { count(o, 0) }, "quorum 1 of n1 n3"},
		{"no rule yet", func(o *Observation) { o.View.Rules = nil }, "quorum 1 of n1 n3"},
		{"one other", func(o *Observation) { delete(o.View.Nodes, "n3") }, "quorum 1 of n1"},
		{"one other, this node is not registered yet", func(o *Observation) { delete(o.View.Nodes, "n3"); delete(o.View.Nodes, "n2") }, "quorum 1 of n1"},
		{"one other, this node may not be promoted", func(o *Observation) {
			delete(o.View.Nodes, "n3")
			tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true })
		}, "quorum 1 of n1"},
		{"nobody else", func(o *Observation) { delete(o.View.Nodes, "n3"); delete(o.View.Nodes, "n1") }, "quorum 0 of "},
		{"node_count", func(o *Observation) { o.View.Config.SynchronousNodeCount = 2 }, "quorum 2 of n1 n3"},
		{"S7 on", func(o *Observation) { o.View.Config.SynchronousMode = cluster.SyncOn }, "on 1 of n1"},
		{"S7 off: the empty list", func(o *Observation) { o.View.Config.SynchronousMode = cluster.SyncOff }, "off 0 of "},
	})
	runRules(t, func() *Observation { o := five(); o.Self = "n2"; return o }, StandbyList, []ruleCase{
		{"N=5", func(*Observation) {}, "quorum 2 of n1 n3 n4 n5"},
	})
}

// S4, S1: when /primary may be shown.
func TestS4GateOpen(t *testing.T) {
	unsettled := func(o *Observation) { o.View.Rules = append(o.View.Rules, o.View.Rules[0]) }
	strict := func(o *Observation) { o.View.Config.SynchronousModeStrict = true }
	for _, c := range []struct {
		name  string
		edit  func(*Observation)
		since time.Duration
		kFull int
		open  bool
	}{
		{"S4 settled: at once", func(*Observation) {}, 0, 1, true},
		{"S4 older rules recorded", unsettled, 0, 1, false},
		{"S4 list not proven", func(o *Observation) { o.RuleProven = false }, 0, 1, false},
		{"S4 older rules recorded, just under a second", unsettled, GateFor - 1, 1, false},
		{"S4 older rules recorded, a second", unsettled, GateFor, 1, true},
		{"S4 list not proven, a second", func(o *Observation) { o.RuleProven = false }, GateFor, 1, true},
		{"no rule, a second", func(o *Observation) { o.View.Rules = nil }, time.Hour, 1, false},
		{"S1 k below k_full", func(*Observation) {}, 0, 2, true},
		{"S1 strict, k below k_full, settled", strict, 0, 2, false},
		{"S1 strict, k below k_full, an hour", strict, time.Hour, 2, false},
		{"S1 strict, k_full reached", strict, 0, 1, true},
		{"S1 strict, k above k_full", strict, 0, 0, true},
		{"S1 strict, k_full reached, older rules recorded", func(o *Observation) { strict(o); unsettled(o) }, 0, 1, false},
		{"S1 strict at bootstrap", func(o *Observation) { strict(o); count(o, 0) }, time.Hour, 1, false},
		{"S7 strict does not bind the mode off", func(o *Observation) { strict(o); off(o) }, 0, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			if got := gateSince(o, c.since).Open(o, c.kFull); got != c.open {
				t.Errorf("open %t, want %t", got, c.open)
			}
		})
	}
}

// K7, ADR 0003: the rule of an acquisition by n2: ready before silent before diverged.
func TestK7AcquireRule(t *testing.T) {
	runRules(t, taking, acquiring, []ruleCase{
		{"the ready suffice: all are named", func(*Observation) {}, "quorum 1 of n1 n3"},
		{"all ready", func(o *Observation) { give(o, "n1", pos(2, 900)) }, "quorum 1 of n1 n3"},
		{"ready at an ancestor's fork", func(o *Observation) { give(o, "n3", pos(1, 500)) }, "quorum 1 of n1 n3"},
		{"ready are too few: the silent ones as well", func(o *Observation) { o.View.Config.SynchronousNodeCount = 2 }, "quorum 2 of n1 n3"},
		{"silent: a promise of another life", func(o *Observation) {
			p := o.TakeOver.Promises["n3"]
			p.Member.Incarnation = "former"
			o.TakeOver.Promises["n3"] = p
		}, "quorum 1 of n1 n3"},
		{"nobody promised: all are silent", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, "quorum 1 of n1 n3"},
		{"diverged is named where the ready suffice", func(o *Observation) { give(o, "n1", pos(2, 1001)) }, "quorum 1 of n1 n3"},
		{"diverged on an ancestor, the ready suffice", func(o *Observation) { give(o, "n1", pos(1, 501)) }, "quorum 1 of n1 n3"},
		{"diverged is left out where another is silent", func(o *Observation) { give(o, "n3", pos(1, 501)) }, "quorum 1 of n1"},
		{"diverged only where nobody else is", func(o *Observation) { give(o, "n1", pos(2, 1001)); give(o, "n3", pos(1, 501)) }, "quorum 1 of n1 n3"},
		{"2 data, the other is silent", func(o *Observation) { delete(o.View.Nodes, "n3") }, "quorum 1 of n1"},
		{"2 data, the other is diverged", func(o *Observation) { delete(o.View.Nodes, "n3"); give(o, "n1", pos(2, 1001)) }, "quorum 1 of n1"},
		{"1 data", func(o *Observation) { delete(o.View.Nodes, "n3"); delete(o.View.Nodes, "n1") }, "quorum 0 of "},
		{"C4 nofailover is not in it", func(o *Observation) { tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true }) }, "quorum 1 of n1"},
		{"S7 off", func(o *Observation) { o.View.Config.SynchronousMode = cluster.SyncOff }, "off 0 of "},
	})
}

// K7: what an acquisition carries for the compare-and-set, the lease (L4) and the new timeline (F1).
func TestK7AcquireCommand(t *testing.T) {
	o := taking()
	o.Local.SeenMax = 5
	s := o.TakeOver.Statuses["n3"]
	s.SeenMax = 7
	o.TakeOver.Statuses["n3"] = s
	give(o, "n2", pos(2, 1000))
	a := Next(o).Acquire
	switch {
	case a.Node != "n2" || a.Member != member("n2") || a.InPlace:
		t.Errorf("acquires as %+v in place %t", a.Member, a.InPlace)
	case a.ExpectTerm != 3 || a.RulesVersion != 9:
		t.Errorf("expects term %d, rules version %d, want 3 and 9", a.ExpectTerm, a.RulesVersion)
	case a.Parent != 2 || a.SeenMax != 7:
		t.Errorf("F1: parent %d, seen %d, want 2 and 7, the highest on any disk", a.Parent, a.SeenMax)
	case a.Lease != cluster.DefaultLease(testHeartbeat):
		t.Errorf("L4: lease %+v", a.Lease)
	}
	o = healthy("n1")
	o.Promised = 4
	a = Next(o).Acquire
	if !a.InPlace || a.ExpectTerm != 3 || a.Parent != 2 || a.Member != member("n1") || a.K != 1 || nodes(a.Standbys) != "n2 n3" {
		t.Errorf("in place: %+v, want the present rule and timeline", a)
	}
}
