package raftfsm

import (
	"testing"

	"pgquorum/cluster"
)

// addRuleOf is n1's AddRule in the healthy state with one edit: both standbys confirm.
func addRuleOf(edit func(c *cluster.AddRule)) cluster.AddRule {
	c := cluster.AddRule{Node: "n1", Term: 1, RulesVersion: 1, Standbys: []cluster.Member{life("n3"), life("n2")}, K: 2, Mode: cluster.SyncQuorum}
	edit(&c)
	return c
}

// S2 step 1, S5: a rule is added beside the others, by the holder of the term and nobody else.
func TestS2AddRule(t *testing.T) {
	t.Parallel()
	base := addRuleOf(func(*cluster.AddRule) {})
	runCases(t, healthyMachine, []applyCase{
		{name: "added", cmd: base, check: func(v *cluster.View) bool {
			r := v.Rules[1]
			return len(v.Rules) == 2 && v.RulesVersion == 2 && r.ID == 2 && r.Term == 1 && r.Timeline == 1 && r.Primary == life("n1") &&
				r.K == 2 && r.Standbys[0] == life("n2") && r.Standbys[1] == life("n3")
		}},
		{name: "again", prepare: []cluster.Command{base}, cmd: base, same: true},
		{name: "again, other order of standbys", prepare: []cluster.Command{base}, cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys = []cluster.Member{life("n2"), life("n3")} }), same: true},
		{name: "another at the same version", prepare: []cluster.Command{base}, cmd: addRuleOf(func(c *cluster.AddRule) { c.K = 0 }), refused: "rules version 1: the rules are at version 2"},
		{name: "G3 back to a rule that is recorded: the new one stands for it", prepare: []cluster.Command{base},
			cmd: addRuleOf(func(c *cluster.AddRule) { c.K, c.RulesVersion = 1, 2 }), check: func(v *cluster.View) bool {
				return len(v.Rules) == 2 && v.Rules[0].ID == 2 && v.Rules[1].ID == 3 && v.Rules[1].K == 1 && v.RulesVersion == 3
			}},
		{name: "version ahead", cmd: addRuleOf(func(c *cluster.AddRule) { c.RulesVersion = 2 }), refused: "the rules are at version 1"},
		{name: "G1 other term", cmd: addRuleOf(func(c *cluster.AddRule) { c.Term = 2 }), refused: `at term 2: the key is "n1"'s at term 1`},
		{name: "G1 late", prepare: []cluster.Command{takeOver()}, cmd: addRuleOf(func(c *cluster.AddRule) { c.RulesVersion = 2 }), refused: `the key is "n2"'s at term 2`},
		{name: "not the holder", cmd: addRuleOf(func(c *cluster.AddRule) { c.Node = "n2" }), refused: `asked by "n2"`},
		{name: "released", prepare: []cluster.Command{cluster.ReleaseLeader{Node: "n1", Term: 1}}, cmd: base, refused: "it has released the key"},
		{name: "k below 0", cmd: addRuleOf(func(c *cluster.AddRule) { c.K = -1 }), refused: "rule of -1 confirmations: want 0 to 2"},
		{name: "k above n", cmd: addRuleOf(func(c *cluster.AddRule) { c.K = 3 }), refused: "rule of 3 confirmations: want 0 to 2"},
		{name: "S7 off waits for nobody", cmd: addRuleOf(func(c *cluster.AddRule) { c.Mode = cluster.SyncOff }), refused: "mode off with 2 confirmations"},
		{name: "S7 off", cmd: addRuleOf(func(c *cluster.AddRule) { c.Mode, c.K = cluster.SyncOff, 0 }), check: func(v *cluster.View) bool { return v.Rules[1].Mode == cluster.SyncOff }},
		{name: "unknown mode", cmd: addRuleOf(func(c *cluster.AddRule) { c.Mode = "maybe" }), refused: `rule of mode "maybe"`},
		{name: "the primary as standby", cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys[0] = life("n1") }), refused: "n1_a: the node is its primary"},
		{name: "S6 a standby twice", cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys[0] = life("n2") }), refused: "n2_a: the node is its primary n1_a or named twice"},
		{name: "V5 a life that is not registered", cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys[0].Incarnation = "b" }), refused: `n3_b: the registered incarnation is "a"`},
		{name: "an unknown standby", cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys[0] = life("n9") }), refused: `n9_a: the registered incarnation is ""`},
		{name: "no data", prepare: []cluster.Command{cluster.Register{Node: cluster.Node{Name: "n4", UID: "u4"}}},
			cmd: addRuleOf(func(c *cluster.AddRule) { c.Standbys[0] = cluster.Member{Node: "n4"} }), refused: "n4_: the registered incarnation"},
	})
}

// S2 step 4, S4: rules go only so, and the last one stays.
func TestS2DropRules(t *testing.T) {
	t.Parallel()
	drop := cluster.DropRules{Node: "n2", Term: 2, RulesVersion: 2}
	taken := []cluster.Command{takeOver()}
	runCases(t, healthyMachine, []applyCase{
		{name: "dropped", prepare: taken, cmd: drop, check: func(v *cluster.View) bool {
			return len(v.Rules) == 1 && v.Rules[0].ID == 2 && v.RulesVersion == 3
		}},
		{name: "again", prepare: []cluster.Command{takeOver(), drop}, cmd: drop, same: true},
		{name: "nothing to drop", cmd: cluster.DropRules{Node: "n1", Term: 1, RulesVersion: 1}, same: true},
		{name: "a rule was added since", prepare: []cluster.Command{takeOver(), cluster.AddRule{Node: "n2", Term: 2, RulesVersion: 2, Mode: cluster.SyncQuorum}},
			cmd: drop, refused: "rules version 2: the rules are at version 3"},
		{name: "version ahead", prepare: taken, cmd: cluster.DropRules{Node: "n2", Term: 2, RulesVersion: 3}, refused: "the rules are at version 2"},
		{name: "version long gone", prepare: []cluster.Command{takeOver(), drop}, cmd: cluster.DropRules{Node: "n2", Term: 2, RulesVersion: 1}, refused: "the rules are at version 3"},
		{name: "G1 the former holder", prepare: taken, cmd: cluster.DropRules{Node: "n1", Term: 1, RulesVersion: 2}, refused: `the key is "n2"'s at term 2`},
		{name: "released", prepare: []cluster.Command{takeOver(), cluster.ReleaseLeader{Node: "n2", Term: 2}}, cmd: drop, refused: "it has released the key"},
	})
	m := healthyMachine(t)
	m.must(takeOver(), drop)
	if r, ok := m.must(cluster.AddRule{Node: "n2", Term: 2, RulesVersion: 3, Mode: cluster.SyncQuorum}).(cluster.SyncRule); !ok || r.ID != 3 {
		t.Errorf("rule after a drop %+v, want ID 3", r)
	}
}
