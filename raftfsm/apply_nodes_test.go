package raftfsm

import (
	"strings"
	"testing"

	"pgquorum/cluster"
)

// register is n's registration with one edit.
func register(n cluster.NodeID, edit func(*cluster.Node)) cluster.Register {
	c := registration(n)
	edit(&c.Node)
	return c
}

func reborn(n *cluster.Node) { n.Incarnation = "b" }
func lost(n *cluster.Node)   { n.Incarnation = "" }

func TestRegister(t *testing.T) {
	t.Parallel()
	runCases(t, healthyMachine, []applyCase{
		{name: "new", cmd: registration("n4"), check: func(v *cluster.View) bool { return len(v.Nodes) == 4 && v.Nodes["n4"].UID == "uid-n4" }},
		{name: "the same", cmd: registration("n2"), same: true},
		{name: "same custom tags", prepare: []cluster.Command{register("n2", tagged)}, cmd: register("n2", tagged), same: true},
		{name: "new address", cmd: register("n2", func(n *cluster.Node) { n.RaftAddr = "new:1" }), check: func(v *cluster.View) bool { return v.Nodes["n2"].RaftAddr == "new:1" }},
		{name: "other uid", cmd: register("n2", func(n *cluster.Node) { n.UID = "other" }), refused: `node "n2" with uid other: the name is that of uid uid-n2`},
		{name: "no name", cmd: cluster.Register{Node: cluster.Node{UID: "u"}}, refused: "want both"},
		{name: "no uid", cmd: cluster.Register{Node: cluster.Node{Name: "n5"}}, refused: "want both"},
	})
}

func tagged(n *cluster.Node) { n.Tags.Custom = map[string]string{"rack": "r1", "zone": "z1"} }

// V5: a life of data that a recorded rule counts on is not replaced.
func TestV5NewIncarnation(t *testing.T) {
	t.Parallel()
	alone := cluster.AddRule{Node: "n1", Term: 1, RulesVersion: 1, Standbys: []cluster.Member{life("n2")}, K: 1, Mode: cluster.SyncQuorum}
	without3 := []cluster.Command{alone, cluster.DropRules{Node: "n1", Term: 1, RulesVersion: 2}}
	became := func(n cluster.NodeID, i cluster.Incarnation) func(*cluster.View) bool {
		return func(v *cluster.View) bool { return v.Nodes[n].Incarnation == i }
	}
	runCases(t, healthyMachine, []applyCase{
		{name: "standby of a rule", cmd: register("n3", reborn), check: func(v *cluster.View) bool {
			return v.Nodes["n3"].Incarnation == "b" && v.Rules[0].Has(life("n3")) // the rule asks for the former life still
		}},
		{name: "standby of a rule, data lost: what it had stands until there is another", cmd: register("n3", lost), same: true},
		{name: "taken out by the joint change", prepare: without3, cmd: register("n3", reborn), check: became("n3", "b")},
		{name: "taken out, data lost", prepare: without3, cmd: register("n3", lost), same: true},
		{name: "first life", prepare: []cluster.Command{register("n4", lost)}, cmd: registration("n4"), check: became("n4", "a")},
		{name: "primary of the newest rule", cmd: register("n1", reborn), refused: "n1_a is the primary of recorded rule 1 of term 1"},
		{name: "primary of the newest rule, released", prepare: []cluster.Command{cluster.ReleaseLeader{Node: "n1", Term: 1}}, cmd: register("n1", reborn), refused: "n1_a is the primary"},
		{name: "C1 former primary, a later acquisition is recorded", prepare: []cluster.Command{takeOver()}, cmd: register("n1", reborn), check: became("n1", "b")},
		{name: "former primary, but a standby now", prepare: []cluster.Command{acquire(func(c *cluster.AcquireLeader) { c.Standbys = append(c.Standbys, life("n1")) })},
			cmd: register("n1", reborn), check: became("n1", "b")},
		{name: "primary again in place: a later rule of the same term counts for nothing", prepare: []cluster.Command{inPlace(func(*cluster.AcquireLeader) {})},
			cmd: register("n1", reborn), refused: "recorded rule 2 of term 2"},
		{name: "two rules of one term", prepare: []cluster.Command{alone}, cmd: register("n1", reborn), refused: "n1_a is the primary of recorded rule 1 of term 1"},
	})
}

// A lost node's name goes to another uid once its former server has no vote, and not while it holds the key (L6).
func TestReadmit(t *testing.T) {
	t.Parallel()
	readmit := func(edit func(*cluster.Readmit)) cluster.Readmit {
		c := cluster.Readmit{Node: "n2", From: "uid-n2", UID: "new", RaftAddr: "n2:1"}
		edit(&c)
		return c
	}
	as := func(*cluster.Readmit) {}
	runCases(t, healthyMachine, []applyCase{
		{name: "another uid", cmd: readmit(as), check: func(v *cluster.View) bool {
			n := v.Nodes["n2"]
			return n.UID == "new" && n.RaftAddr == "n2:1" && n.Incarnation == "a" && len(v.Nodes) == 3
		}},
		{name: "again", prepare: []cluster.Command{readmit(as)}, cmd: readmit(as), same: true},
		{name: "somebody else was sooner", prepare: []cluster.Command{readmit(as)}, cmd: readmit(func(c *cluster.Readmit) { c.UID = "newer" }), refused: `in place of "uid-n2": the name is that of uid "new"`},
		{name: "no uid", cmd: readmit(func(c *cluster.Readmit) { c.UID = "" }), refused: "want both"},
		{name: "no name", cmd: readmit(func(c *cluster.Readmit) { c.Node, c.From = "", "" }), refused: "want both"},
		{name: "a first member that never registered", cmd: readmit(func(c *cluster.Readmit) { c.Node, c.From = "n4", "" }), check: func(v *cluster.View) bool { return v.Nodes["n4"].UID == "new" }},
		{name: "L6 the holder", cmd: readmit(func(c *cluster.Readmit) { c.Node, c.From = "n1", "uid-n1" }), refused: "holds the leader key of term 1"},
		{name: "the holder gave the key back", prepare: []cluster.Command{cluster.ReleaseLeader{Node: "n1", Term: 1}},
			cmd: readmit(func(c *cluster.Readmit) { c.Node, c.From = "n1", "uid-n1" }), check: func(v *cluster.View) bool { return v.Nodes["n1"].UID == "new" }},
	})
	m := healthyMachine(t)
	v := *m.View()
	v.Committed = []cluster.NodeID{"n1", "n2", "n3"}
	if out := apply(&v, readmit(as)); out.refused == nil || !strings.Contains(out.refused.Reason, "voter still") {
		t.Errorf("while the former server votes: %+v", out)
	}
}
