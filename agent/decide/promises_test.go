package decide

import (
	"maps"
	"strings"
	"testing"

	"pgquorum/cluster"
)

// V5, F3, V3: what makes a promise count at all.
func TestV5ValidPromises(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*Observation, *cluster.Promise)
		valid bool
	}{
		{"as it should be", func(*Observation, *cluster.Promise) {}, true},
		{"F3 a timeline that was adopted with its data", func(o *Observation, p *cluster.Promise) { adopted(o, "n2"); p.Position = adoptedEnd }, true},
		{"F3 a timeline that was adopted with another's data", func(o *Observation, p *cluster.Promise) { adopted(o, "n3"); p.Position = adoptedEnd }, false},
		{"F3 the adopted number, from another parent", func(o *Observation, p *cluster.Promise) {
			adopted(o, "n2")
			p.Position = cluster.Position{Timeline: 9, LSN: 1000, Parent: 1}
		}, false},
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

// V5, ADR 0032: a standby that lost its data while a rule counted on it, and has a new life, does not satisfy that rule: the
// rule's other standbys must all be there, or its primary.
func TestV5LostLifeOfARule(t *testing.T) {
	o := taking()
	reborn := o.View.Nodes["n3"]
	reborn.Incarnation = "later"
	o.View.Nodes["n3"] = reborn
	anew := promised("n3", 4, pos(2, 5000))
	anew.Member.Incarnation = "later"
	q := Valid(o.View, 4, map[cluster.NodeID]cluster.Promise{"n2": o.TakeOver.Promises["n2"], "n3": anew})
	if len(q) != 2 {
		t.Fatalf("both promises are valid, have %v", q)
	}
	if _, missing := Satisfied(o.View, q); missing == "" {
		t.Errorf("satisfied by %v, although one of the rule's two standbys with k = 1 is gone", q)
	}
	q["n1"] = promised("n1", 4, pos(2, 1000))
	if _, missing := Satisfied(o.View, q); missing != "" {
		t.Errorf("not satisfied by the rule's primary: %s", missing)
	}
}

// V5: a promise is worth nothing once the data that it was given with is gone; what is only silent, or cannot be looked at
// for the moment, still counts.
func TestV5DataLostAfterThePromise(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(*Observation)
		counts bool
	}{
		{"as it was", func(*Observation) {}, true},
		{"silent since", func(o *Observation) { delete(o.TakeOver.Statuses, "n3") }, true},
		{"unreadable at the moment", func(o *Observation) { told(o, cluster.DataUnreadable, "") }, true},
		{"lost", func(o *Observation) { told(o, cluster.DataAbsent, "") }, false},
		{"another life", func(o *Observation) { told(o, cluster.DataOurs, "later") }, false},
		{"its own is lost", func(o *Observation) {
			o.TakeOver.Promises["n3"] = promised("n3", 3, pos(2, 1000))
			o.Local.Postgres.Data, o.Local.Postgres.Incarnation = cluster.DataAbsent, ""
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			c.edit(o)
			if got := Choose(o); (got.Node != "") != c.counts {
				t.Errorf("choice %+v, want one: %t", got, c.counts)
			}
			if got := acquire(o).Action == Acquire; got != c.counts {
				t.Errorf("acquires: %t, want %t", got, c.counts)
			}
		})
	}
}

// told makes n3's status say what its directory holds now.
func told(o *Observation, data cluster.DataState, life cluster.Incarnation) {
	s := o.TakeOver.Statuses["n3"]
	s.Postgres.Data, s.Postgres.Incarnation = data, life
	o.TakeOver.Statuses["n3"] = s
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
		{"mode off, nobody near enough", func(o *Observation) { off(o); o.View.LastLSN.Position.LSN = 5000 }, []string{"acknowledged commits may be only on n1", "waiting for n1"}, "n3"},
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

var adoptedEnd = cluster.Position{Timeline: 9, LSN: 1000, Parent: 2}

// adopted makes timeline 9 one that was made by hand and adopted with a node's data by pgquorum recover.
func adopted(o *Observation, node cluster.NodeID) {
	forks := maps.Clone(o.View.Forks)
	forks[9] = cluster.Fork{Timeline: 9, Parent: 2, LSN: 900, Node: node, Term: 3, Adopted: true}
	o.View.Forks = forks
}
