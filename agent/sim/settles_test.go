package sim

import (
	"testing"

	"pgquorum/cluster"
)

// TestSettles is C1 by the lives that are there, as the simulation knows it. It is written anew here, so that a mistake in
// agent/decide is none that excuses itself.
func TestSettles(t *testing.T) {
	life := func(n cluster.NodeID, i cluster.Incarnation) cluster.Member {
		return cluster.Member{Node: n, Incarnation: i}
	}
	n1, n2, n3 := life("n1", "a"), life("n2", "a"), life("n3", "a")
	of := func(term cluster.Term, p cluster.Member, k int, standbys ...cluster.Member) cluster.SyncRule {
		return cluster.SyncRule{Term: term, Primary: p, Timeline: 1, Standbys: standbys, K: k, Mode: cluster.SyncQuorum}
	}
	off := cluster.SyncRule{Term: 1, Primary: n1, Timeline: 1, Mode: cluster.SyncOff}
	for name, tt := range map[string]struct {
		rule  cluster.SyncRule
		later []cluster.SyncRule
		there []cluster.Member
		at    cluster.LSN      // the primary's last recorded
		tip   cluster.Timeline // of n3; 0: as all others, 1
		under cluster.Timeline // that one's parent
		want  bool
	}{
		"(a) all standbys, k 1":                    {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2, n3}, want: true},
		"(a) one of two, k 1":                      {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2}},
		"(a) one of two, k 2":                      {rule: of(1, n1, 2, n2, n3), there: []cluster.Member{n3}, want: true},
		"(a) another life of a standby":            {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2, life("n3", "b")}},
		"(a) promoted by hand, once":               {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2, n3}, tip: 2, under: 1},
		"(a) promoted by hand, twice":              {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2, n3}, tip: 3, under: 2},
		"(a) on the allotted timeline":             {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n2, n3}, tip: 3, under: 1, want: true},
		"(a) nobody waits for anybody":             {rule: of(1, n1, 0, n2, n3), there: []cluster.Member{n2, n3}},
		"(b) the primary":                          {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{n1}, want: true},
		"(b) the primary, k 0":                     {rule: of(1, n1, 0), there: []cluster.Member{n1, n3}, want: true},
		"(b) another life of the primary":          {rule: of(1, n1, 1, n2, n3), there: []cluster.Member{life("n1", "b"), n2}},
		"(c) a later primary":                      {rule: of(1, n1, 0), later: []cluster.SyncRule{of(2, n3, 1, n1, n2)}, there: []cluster.Member{n3}, want: true},
		"(c) a later rule of the same acquisition": {rule: of(1, n1, 0), later: []cluster.SyncRule{of(1, n3, 1, n1, n2)}, there: []cluster.Member{n3}},
		"(d) off, near":                            {rule: off, there: []cluster.Member{n2}, at: 300, want: true},
		"(d) off, far":                             {rule: off, there: []cluster.Member{n2}, at: 9000},
		"(d) off, nothing recorded":                {rule: off, there: []cluster.Member{n2}},
		"(d) near, but not off":                    {rule: of(1, n1, 0), there: []cluster.Member{n2}, at: 300},
	} {
		v := &cluster.View{Nodes: map[cluster.NodeID]cluster.Node{}, Config: cluster.Dynamic{MaximumLagOnFailover: 1000},
			Forks: cluster.Forks{1: {Timeline: 1}, 3: {Timeline: 3, Parent: 1}}}
		if tt.at != 0 {
			v.LastLSN.Position = cluster.Position{Timeline: 1, LSN: tt.at}
		}
		lives, tips := map[cluster.NodeID]cluster.Member{}, map[cluster.NodeID]cluster.Position{}
		for _, m := range tt.there {
			v.Nodes[m.Node] = cluster.Node{Name: m.Node, Incarnation: m.Incarnation}
			lives[m.Node], tips[m.Node] = m, cluster.Position{Timeline: 1, LSN: 200}
		}
		if tt.tip != 0 {
			tips["n3"] = cluster.Position{Timeline: tt.tip, LSN: 200, Parent: tt.under}
		}
		if got := settles(v, tt.rule, tt.later, lives, tips); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	v := &cluster.View{Nodes: map[cluster.NodeID]cluster.Node{"n1": {Name: "n1", Incarnation: "b"}}, Forks: cluster.Forks{1: {Timeline: 1}}}
	if settles(v, of(1, n1, 0), nil, map[cluster.NodeID]cluster.Member{"n1": n1}, map[cluster.NodeID]cluster.Position{"n1": {Timeline: 1, LSN: 200}}) {
		t.Error("a life that is not the registered one counts (V5)")
	}
}
