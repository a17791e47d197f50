package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

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
			got := ShownUnsettled(o, o.Now.Add(-c.since), c.kFull)
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
