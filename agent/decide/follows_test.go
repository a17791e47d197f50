package decide

import (
	"testing"

	"pgquorum/cluster"
)

// S6 (ADR 0036): without an order nobody streams from a holder that may not be promoted yet, wherever its own WAL ends: what the
// holder sends then may be more than its promotion keeps. Its order is taken, since the holder knows.
func TestS6FollowsByItself(t *testing.T) {
	for name, tt := range map[string]struct {
		at       cluster.Position
		recorded bool // where the key's timeline left its parent
		ordered  bool
		want     cluster.NodeID
	}{
		"its parent's end":                            {pos(2, 900), true, false, "n2"},
		"an older timeline's beginning":               {pos(1, 400), true, false, "n2"},
		"an older timeline's end":                     {pos(1, 500), true, false, "n2"},
		"the timeline itself":                         {pos(4, 950), true, false, "n2"},
		"fork unknown, its parent's end":              {pos(2, 900), false, false, ""},
		"fork unknown, an older timeline's beginning": {pos(1, 400), false, false, ""},
		"fork unknown, an older timeline's end":       {pos(1, 500), false, false, ""},
		"fork unknown, the timeline itself":           {pos(4, 950), false, false, "n2"}, // somebody was promoted to it
		"fork unknown, ordered to":                    {pos(2, 900), false, true, "n2"},
		"no position":                                 {cluster.Position{}, true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := func() *Observation {
				o := healthy("n3")
				fork := cluster.Fork{Timeline: 4, Parent: 2, Node: "n2", Term: 4}
				if tt.recorded {
					fork.LSN = 900
				}
				o.View.Forks[4] = fork
				o.View.Key = cluster.LeaderKey{Holder: "n2", Member: member("n2"), Term: 4, Timeline: 4, Lease: o.View.Key.Lease}
				o.Position = tt.at
				p := &o.Local.Postgres
				p.Source, p.SourceTerm, p.SourceTimeline, p.Streaming = "", 0, 0, false
				if tt.ordered {
					p.Source, p.SourceTerm, p.SourceTimeline = "n2", 4, 4
				}
				return o
			}
			if got := Next(at()); got.Source != tt.want && !tt.ordered || tt.ordered && got.Action != None {
				t.Errorf("running: %s from %q (%s), want source %q", got.Action, got.Source, got.Detail, tt.want)
			}
			o := at()
			stopped(&o.Local.Postgres)
			o.StoppedSince = testNow.Add(-HandOverPatience)
			if got := Next(o); got.Action != StartStandby || got.Source != tt.want {
				t.Errorf("stopped: %s from %q (%s), want source %q", got.Action, got.Source, got.Detail, tt.want)
			}
		})
	}
}

// S6: a candidate's walsenders send whole records only, and nothing that comes later, once it is cut off and has replayed all.
func TestS6SendsWholeRecords(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*cluster.PostgresStatus)
		want bool
	}{
		"cut off, all replayed": {func(*cluster.PostgresStatus) {}, true},
		"more received":         {func(p *cluster.PostgresStatus) { p.Received = 1001 }, false},
		"has a source":          {func(p *cluster.PostgresStatus) { p.Source = "n1" }, false},
		"still receives":        {func(p *cluster.PostgresStatus) { p.Streaming = true }, false},
		"a primary":             {func(p *cluster.PostgresStatus) { p.Role, p.Received = cluster.RolePrimary, 1001 }, true},
		"stopped":               {stopped, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := cluster.PostgresStatus{State: cluster.PostgresRunning, Role: cluster.RoleStandby, Received: 1000, Replayed: 1000}
			tt.edit(&p)
			if got := SendsWholeRecords(p); got != tt.want {
				t.Errorf("%+v: %v, want %v", p, got, tt.want)
			}
		})
	}
}
