package decide

import (
	"fmt"
	"strings"
	"time"

	"pgquorum/cluster"
)

// GateFor is how long /primary waits at most for the rule of a new term to be settled (S4).
const GateFor = time.Second

// Gate is what S4 remembers of the key's holder: the term and the run of Postgres in which it is the primary, since when,
// and whether its rule was settled once in that run. What is unsettled later is a change of the rule, which shuts
// nothing: what was shown stays confirmed under a rule that is recorded (S2). The zero Gate: no primary of the key here.
type Gate struct {
	Term    cluster.Term
	Run     string // Postgres' start time
	Since   cluster.Instant
	Settled bool
}

// Next is the gate after an observation.
func (g Gate) Next(o *Observation) Gate {
	p := o.Local.Postgres
	if p.State != cluster.PostgresRunning || p.Role != cluster.RolePrimary || o.View.Key.Holder != o.Self {
		return Gate{}
	}
	if g.Term != o.View.Key.Term || g.Run != p.StartTime {
		g = Gate{Term: o.View.Key.Term, Run: p.StartTime, Since: o.Now}
	}
	g.Settled = g.Settled || RuleSettled(o)
	return g
}

// Open says whether /primary may be shown: the rule was settled, or a second has passed; in strict mode k has reached
// k_full (S1).
func (g Gate) Open(o *Observation, kFull int) bool {
	cur, ok := o.View.Current()
	switch {
	case !ok || g.Term == 0:
		return false
	case o.View.Config.SynchronousModeStrict && cur.Mode != cluster.SyncOff && cur.K < kFull:
		return false
	case g.Settled:
		return true
	}
	return o.Now.Sub(g.Since) >= GateFor
}

// Opens is when the second of a gate ends that is still shut; zero: there is none.
func (g Gate) Opens() cluster.Instant {
	if g.Term == 0 || g.Settled {
		return 0
	}
	return g.Since.Add(GateFor)
}

// RuleSettled says whether the newest rule is in force and confirmed, and no older one is recorded beside it (S2, S4).
func RuleSettled(o *Observation) bool { return len(o.View.Rules) == 1 && o.RuleProven }

// ShownUnsettled says in words what is still missing when /primary is shown only because its second has passed (S4), so
// that a row that is read may yet vanish; empty: the gate is shut, or open because the rule is settled.
func ShownUnsettled(o *Observation, g Gate, kFull int) string {
	if g.Settled || !g.Open(o, kFull) {
		return ""
	}
	cur, _ := o.View.Current()
	missing := []string{fmt.Sprintf("rule %d (k=%d of %d standbys) is not settled after %v", cur.ID, cur.K, len(cur.Standbys), GateFor)}
	if n := len(o.View.Rules) - 1; n > 0 {
		missing = append(missing, fmt.Sprintf("older rules still recorded: %d, the oldest of term %d under %s", n, o.View.Rules[0].Term, o.View.Rules[0].Primary.Node))
	}
	if !o.RuleProven {
		missing = append(missing, "its list is not proven in force and confirmed in this run of postgres")
	}
	if Unable(o) {
		var silent []string
		for _, m := range cur.Standbys {
			if !able(o, m) {
				silent = append(silent, string(m.Node))
			}
		}
		missing = append(missing, "these of its standbys do not stream: "+strings.Join(silent, ", "))
	}
	return strings.Join(missing, "; ")
}
