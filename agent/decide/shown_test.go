package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// gateSince is the gate of a primary that has held the key for a time.
func gateSince(o *Observation, d time.Duration) Gate {
	return Gate{Term: o.View.Key.Term, Run: o.Local.Postgres.StartTime, Since: o.Now.Add(-d)}.Next(o)
}

// S4: a rule that is changed within the first second, as when a second standby comes, does not take /primary back; another
// run of Postgres, another term, and whoever is no primary of the key begin anew.
func TestS4GateStaysOpen(t *testing.T) {
	unsettled := func(o *Observation) { o.RuleProven = false }
	for _, c := range []struct {
		name string
		edit func(*Observation)
		open bool
	}{
		{"nothing changed", func(*Observation) {}, true},
		{"an older rule beside the next", func(o *Observation) { o.View.Rules = append(o.View.Rules, o.View.Rules[0]) }, true},
		{"the next rule's list not proven", unsettled, true},
		{"S1 strict, k lowered", func(o *Observation) {
			o.View.Config.SynchronousModeStrict = true
			o.View.Rules[0].K = 0
		}, false},
		{"another run of postgres", func(o *Observation) { unsettled(o); o.Local.Postgres.StartTime = "next run" }, false},
		{"another term", func(o *Observation) { unsettled(o); o.View.Key.Term++ }, false},
		{"the key is another's", func(o *Observation) { o.View.Key.Holder = "n2" }, false},
		{"postgres is stopped", func(o *Observation) { o.Local.Postgres.State = cluster.PostgresStopped }, false},
		{"postgres is a standby", func(o *Observation) { o.Local.Postgres.Role = cluster.RoleStandby }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := healthy("n1")
			settled := Gate{}.Next(before)
			if !settled.Open(before, 1) {
				t.Fatal("not open once its rule is settled")
			}
			o := healthy("n1")
			c.edit(o)
			if got := settled.Next(o).Open(o, 1); got != c.open {
				t.Errorf("open %t, want %t", got, c.open)
			}
		})
	}
}

// S4: what the event says when /primary is shown only because its second has passed.
func TestS4ShownUnsettled(t *testing.T) {
	older := func(o *Observation) {
		o.View.Rules = append([]cluster.SyncRule{{ID: 3, Term: 2, Primary: member("n3"), Timeline: 1, K: 1, Mode: cluster.SyncQuorum}}, o.View.Rules...)
	}
	for _, c := range []struct {
		name  string
		edit  func(*Observation)
		since time.Duration
		kFull int
		says  []string // parts; none: no event
	}{
		{"S4 settled", func(*Observation) {}, time.Hour, 1, nil},
		{"S4 older rules, the second not over", older, GateFor - 1, 1, nil},
		{"S4 older rules, a second", older, GateFor, 1, []string{"rule 4 (k=1 of 2 standbys)", "older rules still recorded: 1, the oldest of term 2 under n3"}},
		{"S4 list not proven, a second", func(o *Observation) { o.RuleProven = false }, GateFor, 1, []string{"not proven in force and confirmed"}},
		{"S4 nobody streams, a second", func(o *Observation) { older(o); o.RuleProven = false; gone(o, "n2", "n3") }, GateFor, 1,
			[]string{"do not stream: n2, n3", "not proven", "older rules"}},
		{"S4 enough stream: none is named", func(o *Observation) { older(o); gone(o, "n2") }, GateFor, 1, []string{"rule 4"}},
		{"S1 strict below k_full is not shown at all", func(o *Observation) { older(o); o.View.Config.SynchronousModeStrict = true }, time.Hour, 2, nil},
		{"no rule is not shown at all", func(o *Observation) { o.View.Rules = nil }, time.Hour, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			got := ShownUnsettled(o, gateSince(o, c.since), c.kFull)
			if (got == "") != (len(c.says) == 0) {
				t.Fatalf("says %q, want %q", got, c.says)
			}
			for _, part := range c.says {
				if !strings.Contains(got, part) {
					t.Errorf("%q does not say %q", got, part)
				}
			}
			if c.name == "S4 enough stream: none is named" && strings.Contains(got, "do not stream") {
				t.Errorf("%q names standbys although enough stream", got)
			}
		})
	}
}
