package decide

import (
	"testing"

	"pgquorum/cluster"
)

// give replaces one node's promise.
func give(o *Observation, n string, p cluster.Position) {
	o.TakeOver.Promises[cluster.NodeID(n)] = promised(n, 4, p)
}

// tag edits one node's tags.
func tag(o *Observation, n string, edit func(*cluster.Tags)) {
	node := o.View.Nodes[cluster.NodeID(n)]
	edit(&node.Tags)
	o.View.Nodes[cluster.NodeID(n)] = node
}

// alone takes every promise back.
func alone(o *Observation) { clear(o.TakeOver.Promises) }

// laterRule records a rule of n3, which acquired term 4 after the base's n1 in term 3, on timeline 3.
func laterRule(o *Observation) {
	o.View.Forks[3] = cluster.Fork{Timeline: 3, Parent: 2, LSN: 1000, Term: 4, Node: "n3"}
	o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: 5, Term: 4, Primary: member("n3"), Timeline: 3,
		Standbys: []cluster.Member{member("n1"), member("n2")}, K: 1, Mode: cluster.SyncQuorum})
}

// off turns the base's rule into one of mode off, with the primary's last recorded position at 1000.
func off(o *Observation) {
	o.View.Rules[0].Standbys, o.View.Rules[0].K, o.View.Rules[0].Mode = nil, 0, cluster.SyncOff
	o.View.Config.SynchronousMode = cluster.SyncOff
	o.View.LastLSN = cluster.LastLSN{Term: 3, Position: pos(2, 1000)}
}

// C1: the base has no promise at all; its rule is (n1, {n2, n3}, k=1). m zero: not satisfied.
func TestC1Satisfied(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Observation)
		m    cluster.Position
	}{
		{"nobody", func(*Observation) {}, cluster.Position{}},
		{"(a) both standbys: the higher of them", func(o *Observation) { give(o, "n2", pos(2, 900)); give(o, "n3", pos(2, 800)) }, pos(2, 900)},
		{"(a) one of two", func(o *Observation) { give(o, "n2", pos(2, 900)) }, cluster.Position{}},
		{"(a) one of two, k=2", func(o *Observation) { o.View.Rules[0].K = 2; give(o, "n2", pos(2, 900)) }, pos(2, 900)},
		{"(a) k=0 is never confirmed by standbys", func(o *Observation) {
			o.View.Rules[0].K = 0
			give(o, "n2", pos(2, 900))
			give(o, "n3", pos(2, 900))
		}, cluster.Position{}},
		{"(a) a standby's later life", func(o *Observation) {
			give(o, "n2", pos(2, 900))
			give(o, "n3", pos(2, 900))
			o.View.Rules[0].Standbys[1].Incarnation = "former"
		}, cluster.Position{}},
		{"(a) one who is no standby does not count", func(o *Observation) {
			o.View.Rules[0].Standbys = []cluster.Member{member("n3"), member("n9")}
			give(o, "n2", pos(2, 900))
			give(o, "n3", pos(2, 900))
		}, cluster.Position{}},
		{"(b) the primary alone", func(o *Observation) { give(o, "n1", pos(2, 950)) }, pos(2, 950)},
		{"(b) the primary alone, k=0", func(o *Observation) { o.View.Rules[0].K = 0; give(o, "n1", pos(2, 950)) }, pos(2, 950)},
		{"(b) the primary, not fenced", func(o *Observation) {
			give(o, "n1", pos(2, 950))
			p := o.TakeOver.Promises["n1"]
			p.Fenced = false
			o.TakeOver.Promises["n1"] = p
		}, cluster.Position{}},
		{"(b) the primary's later life", func(o *Observation) {
			give(o, "n1", pos(2, 950))
			o.View.Rules[0].Primary.Incarnation = "former"
		}, cluster.Position{}},
		{"lowest m of several ways: (a) below (b)", func(o *Observation) {
			give(o, "n1", pos(2, 950))
			give(o, "n2", pos(2, 900))
			give(o, "n3", pos(2, 800))
		}, pos(2, 900)},
		{"lowest m of several ways: (b) below (a)", func(o *Observation) {
			give(o, "n1", pos(2, 950))
			give(o, "n2", pos(2, 990))
			give(o, "n3", pos(2, 800))
		}, pos(2, 950)},
		{"(c) the later rule's primary alone satisfies both", func(o *Observation) { laterRule(o); give(o, "n3", pos(3, 1100)) }, pos(3, 1100)},
		{"(c) not fenced", func(o *Observation) {
			laterRule(o)
			give(o, "n3", pos(3, 1100))
			p := o.TakeOver.Promises["n3"]
			p.Fenced = false
			o.TakeOver.Promises["n3"] = p
		}, cluster.Position{}},
		{"(c) of another life", func(o *Observation) {
			laterRule(o)
			o.View.Rules[1].Primary.Incarnation = "former"
			give(o, "n3", pos(3, 1100))
		}, cluster.Position{}},
		{"(c) an earlier rule's primary does not satisfy a later rule", func(o *Observation) { laterRule(o); give(o, "n1", pos(2, 950)) }, cluster.Position{}},
		{"(c) a rule of the same term is no later acquisition", func(o *Observation) {
			r := o.View.Rules[0]
			r.ID, r.Primary = 5, member("n2") // never recorded so: the primary of a term is one
			o.View.Rules = append(o.View.Rules, r)
			give(o, "n2", pos(2, 900))
		}, cluster.Position{}},
		{"every rule: the highest m", func(o *Observation) {
			laterRule(o)
			give(o, "n1", pos(2, 950))
			give(o, "n2", pos(3, 1050))
		}, pos(3, 1050)},
		{"every rule: one is not satisfied", func(o *Observation) {
			laterRule(o)
			o.View.Rules[0].Primary, o.View.Rules[0].Standbys = member("n9"), []cluster.Member{member("n8")}
			give(o, "n1", pos(2, 950))
			give(o, "n2", pos(3, 1050))
		}, cluster.Position{}},
		{"(d) within maximum_lag: the highest of Q", func(o *Observation) { off(o); give(o, "n2", pos(2, 900)); give(o, "n3", pos(2, 300)) }, pos(2, 900)},
		{"(d) at the limit", func(o *Observation) { off(o); give(o, "n2", pos(2, 900)) }, pos(2, 900)},
		{"(d) one byte too far behind", func(o *Observation) { off(o); give(o, "n2", pos(2, 899)) }, cluster.Position{}},
		{"(d) ahead of what was recorded", func(o *Observation) { off(o); give(o, "n2", pos(2, 5000)) }, pos(2, 5000)},
		{"(d) another timeline", func(o *Observation) { off(o); give(o, "n2", pos(1, 1000)) }, cluster.Position{}},
		{"(d) nothing recorded", func(o *Observation) { off(o); o.View.LastLSN = cluster.LastLSN{}; give(o, "n2", pos(2, 1000)) }, cluster.Position{}},
		{"(d) recorded on another timeline", func(o *Observation) { off(o); o.View.LastLSN.Position = pos(1, 1000); give(o, "n2", pos(2, 1000)) }, cluster.Position{}},
		{"(d) is for rules of mode off only", func(o *Observation) {
			off(o)
			o.View.Rules[0].Mode = cluster.SyncQuorum
			give(o, "n2", pos(2, 1000))
		}, cluster.Position{}},
		{"(d) mode off, (b) holds as ever", func(o *Observation) { off(o); give(o, "n1", pos(2, 2000)) }, pos(2, 2000)},
		{"(d) the recorded mode counts, not the wanted one", func(o *Observation) {
			o.View.Config.SynchronousMode = cluster.SyncOff
			o.View.LastLSN = cluster.LastLSN{Term: 3, Position: pos(2, 1000)}
			give(o, "n2", pos(2, 1000))
		}, cluster.Position{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			alone(o)
			c.edit(o)
			m, missing := Satisfied(o.View, Valid(o.View, 4, o.TakeOver.Promises))
			if m != c.m || (missing == "") != c.m.Known() {
				t.Errorf("m = %+v (missing %q), want %+v", m, missing, c.m)
			}
		})
	}
}
