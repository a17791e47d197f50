package decide

import (
	"strings"
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

// V5, F3, V3: what makes a promise count at all.
func TestV5ValidPromises(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Observation, *cluster.Promise)
		valid bool
	}{
		{"as it should be", func(*Observation, *cluster.Promise) {}, true},
		{"an older term", func(_ *Observation, p *cluster.Promise) { p.Term = 3 }, false},
		{"a later term", func(_ *Observation, p *cluster.Promise) { p.Term = 5 }, false},
		{"another life", func(_ *Observation, p *cluster.Promise) { p.Member.Incarnation = "other" }, false},
		{"no life", func(_ *Observation, p *cluster.Promise) { p.Member.Incarnation = "" }, false},
		{"another node's life", func(_ *Observation, p *cluster.Promise) { p.Member = member("n3") }, false},
		{"node not registered", func(o *Observation, _ *cluster.Promise) { delete(o.View.Nodes, "n2") }, false},
		{"node registered without data", func(o *Observation, p *cluster.Promise) {
			n := o.View.Nodes["n2"]
			n.Incarnation, p.Member.Incarnation = "", ""
			o.View.Nodes["n2"] = n
		}, false},
		{"no position", func(_ *Observation, p *cluster.Promise) { p.Position = cluster.Position{} }, false},
		{"a timeline that was not allotted", func(_ *Observation, p *cluster.Promise) { p.Position.Timeline = 9 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			p := o.TakeOver.Promises["n2"]
			c.edit(o, &p)
			q := Valid(o.View, 4, map[cluster.NodeID]cluster.Promise{"n2": p})
			if _, in := q["n2"]; in != c.valid {
				t.Errorf("counts: %t, want %t", in, c.valid)
			}
		})
	}
}

// C2, K6: n2 is Raft leader, n2 and n3 have promised at the same position.
func TestC2Choose(t *testing.T) {
	refuse := func(o *Observation, n cluster.NodeID, term cluster.Term) {
		if o.View.Refusals == nil {
			o.View.Refusals = map[cluster.NodeID]cluster.Refusal{}
		}
		o.View.Refusals[n] = cluster.Refusal{Term: term, Reason: "disk full"}
	}
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want Choice // Missing: a part of the text
	}{
		{"equals: this node", func(*Observation) {}, Choice{Node: "n2"}},
		{"equals, self is not eligible", func(o *Observation) { o.Local.CanPromote = "no disk" }, Choice{Node: "n3"}},
		{"position before priority", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n2", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n3"}},
		{"position before location", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
		}, Choice{Node: "n3"}},
		{"priority before location", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority, g.Location = 9, "west" })
		}, Choice{Node: "n3"}},
		{"location before self", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "west" })
			tag(o, "n3", func(g *cluster.Tags) { g.Location = "east" })
		}, Choice{Node: "n3"}},
		{"location is the former holder's, not the leader's", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n3", func(g *cluster.Tags) { g.Location = "west" })
		}, Choice{Node: "n2"}},
		{"same place everywhere: this node", func(o *Observation) {
			for _, n := range []string{"n1", "n2", "n3"} {
				tag(o, n, func(g *cluster.Tags) { g.Location = "east" })
			}
		}, Choice{Node: "n2"}},
		{"timeline of a later term before LSN (V4)", func(o *Observation) { give(o, "n3", pos(1, 99_999)) }, Choice{Node: "n2"}},
		{"K6 refused comes last, whatever its priority", func(o *Observation) {
			refuse(o, "n3", 4)
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n2"}},
		{"K6 self refused: the other", func(o *Observation) { refuse(o, "n2", 4) }, Choice{Node: "n3"}},
		{"K6 refused a former term: no matter", func(o *Observation) {
			refuse(o, "n3", 3)
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n3"}},
		{"K6 refused, but nobody else is good enough", func(o *Observation) { refuse(o, "n3", 4); give(o, "n3", pos(2, 1001)) }, Choice{Node: "n3"}},
		{"K6 all have refused: the best of them", func(o *Observation) { refuse(o, "n2", 4); refuse(o, "n3", 4) }, Choice{Node: "n2"}},
		{"nofailover", func(o *Observation) {
			tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Node: "n3"}},
		{"nofailover never lowers m: the candidate streams first", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Node: "n2", CatchUp: "n3"}},
		{"a non-voter never lowers m: the candidate streams first", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			o.Raft.Voters = []cluster.NodeID{"n1", "n2"}
		}, Choice{Node: "n2", CatchUp: "n3"}},
		{"who holds m is not eligible and does not run", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			s := o.TakeOver.Statuses["n3"]
			s.CanPromote, s.Postgres.State = "its postgres is stopped", cluster.PostgresStopped
			o.TakeOver.Statuses["n3"] = s
		}, Choice{Missing: "no running node has it"}},
		{"promised, but did not answer", func(o *Observation) { delete(o.TakeOver.Statuses, "n3"); o.Local.CanPromote = "no disk" }, Choice{Missing: "n3: it did not answer"}},
		{"nobody is eligible", func(o *Observation) {
			tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true })
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Missing: "n2: it is tagged nofailover; n3: it is tagged nofailover"}},
		{"a stopping node does not choose itself", func(o *Observation) { o.Request = &Request{Leaving: true} }, Choice{Node: "n3"}},
		{"the operator's candidate among the good ones", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n3"}}
		}, Choice{Node: "n3"}},
		{"the operator's candidate below m is not taken", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n3"}}
			give(o, "n3", pos(2, 999))
		}, Choice{Node: "n2"}},
		{"C1 not satisfied", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, Choice{Missing: "missing: n3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			c.edit(o)
			got := Choose(o)
			if got.Node != c.want.Node || got.CatchUp != c.want.CatchUp || !strings.Contains(got.Missing, c.want.Missing) || (got.Missing == "") != (c.want.Missing == "") {
				t.Errorf("Choose = %+v, want %+v", got, c.want)
			}
		})
	}
}

// B5: who waits says for whom.
func TestB5WaitsForWhom(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Observation)
		names []string // parts of the text
		not   string
	}{
		{"k=0: the primary alone may have them", func(o *Observation) { o.View.Rules[0].K = 0 },
			[]string{"acknowledged commits may be only on n1", "waiting for n1", "k 0"}, "n3"},
		{"mode off", off, []string{"acknowledged commits may be only on n1", "waiting for n1"}, "n3"},
		{"k=1, one standby silent", func(*Observation) {},
			[]string{"waiting for n1, or for 2 of its 2 standbys", "missing: n3"}, "n2"},
		{"k=1, both silent", alone, []string{"waiting for n1", "missing: n2, n3"}, ""},
		{"a standby's other life is missing", func(o *Observation) {
			give(o, "n3", pos(2, 1000))
			o.View.Rules[0].Standbys[1].Incarnation = "former"
		}, []string{"missing: n3"}, ""},
		{"the first rule that is not satisfied", func(o *Observation) {
			laterRule(o)
			give(o, "n3", pos(3, 1000))
			o.View.Rules[1].Primary = member("n9")
		}, []string{"term 4", "waiting for n9", "missing: n1"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			delete(o.TakeOver.Promises, "n3")
			c.edit(o)
			d := Next(o)
			if d.Action != Wait || d.Reason != ReasonNoCandidate {
				t.Fatalf("Next = %q because %q, want it to wait", d.Action, d.Reason)
			}
			for _, part := range c.names {
				if !strings.Contains(d.Detail, part) {
					t.Errorf("text %q does not say %q", d.Detail, part)
				}
			}
			if c.not != "" && strings.Contains(d.Detail, c.not) {
				t.Errorf("text %q names %s", d.Detail, c.not)
			}
		})
	}
}
