package decide

import (
	"time"

	"pgquorum/cluster"
)

// GateFor is how long /primary waits at most for the rule of a new term to be settled (S4).
const GateFor = time.Second

// GateOpen says whether /primary may be shown by a primary that has run since the given moment in the key's term: its
// rule is settled, or a second has passed; in strict mode k has reached k_full (S1).
func GateOpen(o *Observation, since cluster.Instant, kFull int) bool {
	cur, ok := o.View.Current()
	switch {
	case !ok:
		return false
	case o.View.Config.SynchronousModeStrict && cur.Mode != cluster.SyncOff && cur.K < kFull:
		return false
	case len(o.View.Rules) == 1 && o.RuleProven:
		return true
	}
	return o.Now.Sub(since) >= GateFor
}
