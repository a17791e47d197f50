package decide

import (
	"slices"
	"testing"
	"time"

	"pgquorum/cluster"
)

// heldNode is n3, stopped, with WAL of its own, held by a rule that nobody else can settle, and patient.
func heldNode() *Observation {
	o := healthy("n3")
	stopped(&o.Local.Postgres)
	o.Position = pos(1, 600)
	o.HeldSince = testNow.Add(-HeldPatience)
	away := o.Peers["n2"]
	away.Err = "no answer"
	o.Peers["n2"] = away
	return o
}

// B4, V5: a life that cannot be let go goes on in a copy of the holder after a while, unless commits may be here alone.
func TestB4HeldByRule(t *testing.T) {
	lost := func(d cluster.DataState) func(*Observation) {
		return editLocal(func(p *cluster.PostgresStatus) {
			*p = cluster.PostgresStatus{Data: d, State: cluster.PostgresStopped}
		})
	}
	runNext(t, heldNode, []nextCase{
		{"patient", func(*Observation) {}, Clone, ReasonHeld},
		{"not yet", func(o *Observation) { o.HeldSince++ }, Wait, ReasonInRule},
		{"not held", func(o *Observation) { o.HeldSince = 0 }, Wait, ReasonInRule},
		{"it runs", editLocal(func(p *cluster.PostgresStatus) { p.State, p.Role = cluster.PostgresRunning, cluster.RoleStandby }), StopPostgres, ReasonHeld},
		{"it runs, and nobody is there to copy from", func(o *Observation) {
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresRunning, cluster.RoleStandby
			p := o.Peers["n1"]
			p.Status.Postgres.Timeline = 1
			o.Peers["n1"] = p
		}, Wait, ReasonHeld},
		{"the WAL is gone", func(o *Observation) { o.Position, o.Removed = pos(2, 900), "n1: gone" }, Clone, ReasonRemoved},
		{"its data is lost", lost(cluster.DataAbsent), Clone, ReasonNoData},
		{"its data is lost, not yet", func(o *Observation) { lost(cluster.DataAbsent)(o); o.HeldSince++ }, Wait, ReasonInRule},
		{"its data is lost, and commits may have been there alone", func(o *Observation) {
			lost(cluster.DataAbsent)(o)
			o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: 3, Term: 2, Primary: member("n3"), Timeline: 1})
		}, Wait, ReasonInRule},
		{"its rewind broke off", lost(cluster.DataRewinding), Rewind, ReasonRewindBroken},
		{"its rewind broke off, and rewinds fail", func(o *Observation) {
			lost(cluster.DataRewinding)(o)
			failed(o, Rewind, MaxRewinds)
		}, Clone, ReasonRewindImpossible},
		{"its rewind broke off, and rewinds are switched off, not yet", func(o *Observation) {
			lost(cluster.DataRewinding)(o)
			o.UseRewind = false
			o.HeldSince++
		}, Wait, ReasonInRule},
		{"seeded by hand", lost(cluster.DataUnclaimed), ClaimData, ReasonNotRegistered},
		{"seeded by hand, while it runs", func(o *Observation) {
			lost(cluster.DataUnclaimed)(o)
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresRunning, cluster.RoleStandby
		}, StopPostgres, ReasonNotRegistered},
		{"the directory is of another life than the registry has, and cannot be registered yet", func(o *Observation) {
			o.Local.Postgres.Incarnation = "other"
			o.Retry[Register] = testNow.Add(time.Second)
		}, Wait, ReasonNotRegistered},
		{"seeded by hand, not yet", func(o *Observation) { lost(cluster.DataUnclaimed)(o); o.HeldSince++ }, Wait, ReasonInRule},
		{"commits may be here alone", func(o *Observation) {
			o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: 3, Term: 2, Primary: member("n3"), Timeline: 1})
		}, Wait, ReasonInRule},
		{"a primary whose commits others have", func(o *Observation) {
			o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: 3, Term: 2, Primary: member("n3"), Timeline: 1, K: 1, Standbys: []cluster.Member{member("n1"), member("n2")}})
		}, Clone, ReasonHeld},
		{"V1 promised a higher term", func(o *Observation) { o.Promised = 4; o.Position = pos(2, 900) }, StartStandby, ReasonStopped},
		{"its view is older than what it followed", editLocal(func(p *cluster.PostgresStatus) { p.SourceTerm = 4 }), Wait, ReasonSource},
		{"out of the rules", func(o *Observation) { o.View.Rules[0].Standbys = []cluster.Member{member("n2")} }, Rewind, ReasonDiverged},
	})
	for name, edit := range map[string]func(*Observation){
		"diverged": func(*Observation) {},
		"removed":  func(o *Observation) { o.Position, o.Removed = pos(2, 900), "n1: gone" },
	} {
		o := heldNode()
		edit(o)
		if d := Next(o); d.Life != member("n3").Incarnation || d.Source != "n1" {
			t.Errorf("%s: copied from %q as %q", name, d.Source, d.Life)
		}
		if got := WantsOut(o); got != member("n3").Incarnation {
			t.Errorf("%s: it asks to let %q go", name, got)
		}
	}
}

// ADR 0032: the copy that takes lost data's place is a new life, and counts only as such.
func TestV5LostLifeIsNotContinued(t *testing.T) {
	o := heldNode()
	o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
	if d := Next(o); d.Action != Clone || d.Life != "" || d.Source != "n1" {
		t.Errorf("%s of %q from %q", d.Action, d.Life, d.Source)
	}
	if got := WantsOut(o); got != member("n3").Incarnation {
		t.Errorf("it asks to let %q go", got)
	}
}

// ADR 0032: an acquisition in place names the lives that there are, with the rule's own k.
func TestV5InPlaceWithANewLife(t *testing.T) {
	o := frozenHolder()
	reborn := o.View.Nodes["n3"]
	reborn.Incarnation = "later"
	o.View.Nodes["n3"] = reborn
	cur, _ := o.View.Current()
	d := Next(o)
	want := []cluster.Member{member("n2"), {Node: "n3", Incarnation: "later"}}
	if d.Action != Acquire || !d.Acquire.InPlace || !slices.Equal(d.Acquire.Standbys, want) || d.Acquire.K != cur.K || d.Acquire.Mode != cur.Mode {
		t.Errorf("%s: %+v", d.Action, d.Acquire)
	}
	if now, _ := o.View.Current(); !slices.Equal(now.Standbys, cur.Standbys) || now.Standbys[1] != member("n3") {
		t.Errorf("the recorded rule was changed: %+v", now)
	}
}

// A node is held only where nobody else can settle the newest rule, and while there is a holder to copy from.
func TestHeld(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*Observation)
		want bool
	}{
		"diverged":             {func(*Observation) {}, true},
		"in no rule":           {func(o *Observation) { o.View.Rules[0].Standbys = nil }, false},
		"it follows":           {func(o *Observation) { o.Position = pos(2, 900) }, false},
		"WAL is removed":       {func(o *Observation) { o.Position, o.Removed = pos(2, 900), "n1: gone" }, true},
		"no data":              {func(o *Observation) { o.Local.Postgres.Data = cluster.DataAbsent }, true},
		"half-rewound":         {func(o *Observation) { o.Local.Postgres.Data = cluster.DataRewinding }, true},
		"unclaimed":            {func(o *Observation) { o.Local.Postgres.Data = cluster.DataUnclaimed }, true},
		"foreign":              {func(o *Observation) { o.Local.Postgres.Data = cluster.DataForeign }, false},
		"no holder":            {func(o *Observation) { o.View.Key.Holder = "" }, false},
		"no position":          {func(o *Observation) { o.Position, o.HeldSince = cluster.Position{}, 0 }, false},
		"no position any more": {func(o *Observation) { o.Position = cluster.Position{} }, true},
		"the holder has not answered of late": {func(o *Observation) {
			p := o.Peers["n1"]
			p.At = testNow.Add(-ReachableFor - 1)
			o.Peers["n1"] = p
		}, false},
		"the other streams":               {back(nil), false},
		"the other streams, two must":     {back(func(o *Observation, _ *cluster.PostgresStatus) { o.View.Rules[0].K = 2 }), true},
		"the other is another life":       {back(func(_ *Observation, p *cluster.PostgresStatus) { p.Incarnation = "other" }), true},
		"the other follows somebody else": {back(func(_ *Observation, p *cluster.PostgresStatus) { p.Source = "n3" }), true},
		"the other does not stream":       {back(func(_ *Observation, p *cluster.PostgresStatus) { p.Streaming = false }), true},
	} {
		o := heldNode()
		tt.edit(o)
		if got := Held(o); got != tt.want {
			t.Errorf("%s: held %t, want %t", name, got, tt.want)
		}
	}
}

// back brings n2 back, as it is after edit.
func back(edit func(*Observation, *cluster.PostgresStatus)) func(*Observation) {
	return func(o *Observation) {
		p := o.Peers["n2"]
		p.Err = ""
		if edit != nil {
			edit(o, &p.Status.Postgres)
		}
		o.Peers["n2"] = p
	}
}
