package decide

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"pgquorum/cluster"
)

// S5: when k may be lowered, how far, and back.
func TestS5Lowered(t *testing.T) {
	runRules(t, func() *Observation { return healthy("n1") }, WantedRule, []ruleCase{
		{"3 data, one silent: no drop is needed", func(o *Observation) { gone(o, "n2"); lacking(o, time.Hour) }, "quorum 1 of n2 n3"},
		{"3 data, both silent: floor 1", func(o *Observation) { gone(o, "n2", "n3"); lacking(o, time.Hour) }, "quorum 1 of n2 n3"},
		{"3 data, k=2, one silent for 3 s", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			gone(o, "n3")
			lacking(o, LowerAfter)
		}, "quorum 1 of n2 n3"},
		{"3 data, k=2, both silent for 3 s: floor 1", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			gone(o, "n2", "n3")
			lacking(o, LowerAfter)
		}, "quorum 1 of n2 n3"},
		{"3 data, k=2, who asks to leave leaves with the drop", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			gone(o, "n3")
			wants(o, "n3")
			lacking(o, LowerAfter)
		}, "quorum 1 of n2"},
	})
	runRules(t, two, WantedRule, []ruleCase{
		{"2 data: k=1", func(*Observation) {}, "quorum 1 of n2"},
		{"2 data, silent for less than 3 s", func(o *Observation) { gone(o, "n2"); lacking(o, LowerAfter-1) }, "quorum 1 of n2"},
		{"2 data, silent since no moment", func(o *Observation) { gone(o, "n2") }, "quorum 1 of n2"},
		{"2 data, silent for 3 s: floor 0", func(o *Observation) { gone(o, "n2"); lacking(o, LowerAfter) }, "quorum 0 of n2"},
		{"2 data, strict", func(o *Observation) {
			o.View.Config.SynchronousModeStrict = true
			gone(o, "n2")
			lacking(o, time.Hour)
		}, "quorum 1 of n2"},
		{"2 data, streaming again, the moment not yet forgotten", func(o *Observation) { lacking(o, LowerAfter) }, "quorum 1 of n2"},
		{"2 data, lowered and still silent", func(o *Observation) { count(o, 0, "n2"); gone(o, "n2") }, "quorum 0 of n2"},
		{"2 data, lowered: undone at once", func(o *Observation) { count(o, 0, "n2") }, "quorum 1 of n2"},
		{"2 data, asks to leave: it stays", func(o *Observation) { wants(o, "n2") }, "quorum 1 of n2"},
		{"2 data, asks to leave, silent for 3 s: it leaves", func(o *Observation) { wants(o, "n2"); gone(o, "n2"); lacking(o, LowerAfter) }, "quorum 0 of "},
		{"2 data, strict, asks to leave: it stays", func(o *Observation) {
			o.View.Config.SynchronousModeStrict = true
			wants(o, "n2")
			gone(o, "n2")
			lacking(o, time.Hour)
		}, "quorum 1 of n2"},
	})
	runRules(t, five, WantedRule, []ruleCase{
		{"N=5, two silent: no drop is needed", func(o *Observation) { gone(o, "n4", "n5"); lacking(o, time.Hour) }, "quorum 2 of n2 n3 n4 n5"},
		{"N=5, three silent for 3 s", func(o *Observation) { gone(o, "n3", "n4", "n5"); lacking(o, LowerAfter) }, "quorum 1 of n2 n3 n4 n5"},
		{"N=5, three silent, not yet", func(o *Observation) { gone(o, "n3", "n4", "n5"); lacking(o, LowerAfter-1) }, "quorum 2 of n2 n3 n4 n5"},
		{"N=5, all silent: floor 1", func(o *Observation) { gone(o, "n2", "n3", "n4", "n5"); lacking(o, LowerAfter) }, "quorum 1 of n2 n3 n4 n5"},
		{"N=5, strict", func(o *Observation) {
			o.View.Config.SynchronousModeStrict = true
			gone(o, "n3", "n4", "n5")
			lacking(o, time.Hour)
		}, "quorum 2 of n2 n3 n4 n5"},
		{"N=5, lowered: one streams, it stays", func(o *Observation) { o.View.Rules[0].K = 1; gone(o, "n3", "n4", "n5") }, "quorum 1 of n2 n3 n4 n5"},
		{"N=5, lowered: two stream, undone", func(o *Observation) { o.View.Rules[0].K = 1; gone(o, "n4", "n5") }, "quorum 2 of n2 n3 n4 n5"},
		{"N=5, one asks to leave", func(o *Observation) { wants(o, "n5") }, "quorum 2 of n2 n3 n4"},
		{"N=5, k=2 of two, one asks to leave: it stays", func(o *Observation) {
			count(o, 2, "n2", "n3")
			gone(o, "n4", "n5")
			wants(o, "n3")
		}, "quorum 2 of n2 n3"},
	})
}

// S5, defects that this case found: whoever asks to leave must not take k below 1 where there are three data nodes, nor
// lower it before fewer than k could confirm for 3 s.
func TestS5LeavingNeverLowersBelowTheFloor(t *testing.T) {
	runRules(t, func() *Observation { return healthy("n1") }, func(o *Observation) RuleChange { return RuleChange{K: WantedRule(o).K} }, []ruleCase{
		{"3 data, both ask to leave and are silent for 3 s", func(o *Observation) {
			wants(o, "n2", "n3")
			gone(o, "n2", "n3")
			lacking(o, LowerAfter)
		}, " 1 of "},
		{"3 data, the only one that counts asks to leave, silent for 3 s", func(o *Observation) {
			count(o, 1, "n2")
			wants(o, "n2")
			gone(o, "n2", "n3")
			lacking(o, LowerAfter)
		}, " 1 of "},
	})
	runRules(t, five, func(o *Observation) RuleChange { return RuleChange{K: WantedRule(o).K} }, []ruleCase{
		{"N=5, lowered to 1 of two, both ask to leave at once", func(o *Observation) {
			count(o, 1, "n2", "n3")
			wants(o, "n2", "n3")
			gone(o, "n2", "n3", "n4", "n5")
		}, " 1 of "},
	})
}

// S1, a defect that this case found: the tag nosync is about a node as a standby. Under a primary that bears it the
// other data node still counts: with k_full 0 a commit would be acknowledged alone, and S5 not have been asked.
func TestS1NoSyncPrimaryKeepsItsStandby(t *testing.T) {
	edit := func(base func() *Observation, n string) func() *Observation {
		return func() *Observation {
			o := base()
			tag(o, n, func(g *cluster.Tags) { g.NoSync = true })
			return o
		}
	}
	runRules(t, edit(two, "n1"), WantedRule, []ruleCase{
		{"2 data, the primary has the tag", func(*Observation) {}, "quorum 1 of n2"},
	})
	runRules(t, edit(func() *Observation { o := taking(); count(o, 1, "n2"); delete(o.View.Nodes, "n3"); return o }, "n2"), acquiring, []ruleCase{
		{"2 data, the candidate has the tag", func(*Observation) {}, "quorum 1 of n1"},
	})
}

// S5 as a property: from any rule and any state of the standbys, k falls only after 3 s, not in strict mode, not below
// the floor; and it is never above what S bears.
func TestS5Property(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := rapid.SampledFrom([]func() *Observation{func() *Observation { return healthy("n1") }, two, five}).Draw(t, "base")()
		var streaming, leaving []string
		names := []string{}
		for _, m := range DataNodes(o.View, o.Raft.Voters) {
			if m.Node != "n1" {
				names = append(names, string(m.Node))
			}
		}
		in := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "s")
		for _, n := range names {
			switch rapid.SampledFrom([]string{"streams", "silent", "leaves", "leaves silent"}).Draw(t, n) {
			case "streams":
				streaming = append(streaming, n)
			case "leaves":
				streaming, leaving = append(streaming, n), append(leaving, n)
			case "leaves silent":
				leaving = append(leaving, n)
			}
		}
		o.View.Config.SynchronousNodeCount = rapid.IntRange(0, 4).Draw(t, "node_count")
		full := KFull(len(names)+1, len(o.Raft.Voters), o.View.Config.SynchronousNodeCount)
		before := rapid.IntRange(0, min(full, len(in))).Draw(t, "k")
		count(o, before, in...)
		cluster.SortMembers(o.View.Rules[0].Standbys)
		gone(o, names...)
		for _, n := range streaming {
			o.Local.Postgres.Replication = append(o.Local.Postgres.Replication, cluster.WalSender{AppName: member(n).AppName(2), State: "streaming"})
		}
		wants(o, leaving...)
		o.View.Config.SynchronousModeStrict = rapid.Bool().Draw(t, "strict")
		lasted := Unable(o) && rapid.Bool().Draw(t, "lasted")
		if lasted {
			lacking(o, LowerAfter)
		}
		want := WantedRule(o)
		floor := 1
		if len(names) == 1 {
			floor = 0
		}
		switch {
		case want.K > len(want.Standbys) || want.K > full:
			t.Fatalf("k=%d of %d standbys, k_full %d", want.K, len(want.Standbys), full)
		case want.K < before && (!lasted || o.View.Config.SynchronousModeStrict || want.K < floor):
			t.Fatalf("S5: k from %d to %d (%s)", before, want.K, want.text())
		}
	})
}
