package raftfsm

import (
	"fmt"
	"slices"

	"pgquorum/cluster"
)

// applyAddRule records a further rule of the holder's term beside the present ones (S2 step 1). Its value is the rule.
func applyAddRule(v *cluster.View, c cluster.AddRule) outcome {
	if why := notWriter(v, c.Node, c.Term); why != "" {
		return refuse(c, "%s", why)
	}
	want := cluster.SyncRule{Term: c.Term, Primary: v.Key.Member, Standbys: sortedMembers(c.Standbys), K: c.K, Mode: c.Mode}
	if last, ok := v.Current(); ok && c.RulesVersion+1 == v.RulesVersion && last.Same(want) {
		return same(last)
	}
	if c.RulesVersion != v.RulesVersion {
		return refuse(c, "rule for rules version %d: the rules are at version %d", c.RulesVersion, v.RulesVersion)
	}
	if why := ruleObstacle(v, v.Key.Member, c.Standbys, c.K, c.Mode); why != "" {
		return refuse(c, "%s", why)
	}
	r := addRule(v, c.Standbys, c.K, c.Mode)
	record(v, "", "sync_rule_added", c.Node, "rule %d of term %d: mode %s, %d of %d standbys, %d rules recorded",
		r.ID, r.Term, r.Mode, r.K, len(r.Standbys), len(v.Rules))
	return done(r)
}

// applyDropRules keeps only the rule that was recorded last: the holder has seen an LSN confirmed under it that covers
// every older acknowledged commit (S2 step 4, S4).
func applyDropRules(v *cluster.View, c cluster.DropRules) outcome {
	if why := notWriter(v, c.Node, c.Term); why != "" {
		return refuse(c, "%s", why)
	}
	if one := len(v.Rules) == 1; one && (c.RulesVersion == v.RulesVersion || c.RulesVersion+1 == v.RulesVersion) {
		return same(nil)
	}
	if c.RulesVersion != v.RulesVersion {
		return refuse(c, "for rules version %d: the rules are at version %d", c.RulesVersion, v.RulesVersion)
	}
	last, _ := v.Current() // the holder's term has its rule: an acquisition adds one, and this keeps one
	dropped := len(v.Rules) - 1
	v.Rules = []cluster.SyncRule{last}
	v.RulesVersion++
	record(v, "", "sync_rules_dropped", c.Node, "rule %d alone holds, %d older ones dropped", last.ID, dropped)
	return done(nil)
}

// notWriter says why a command of (node, term) may not change the rules: a holder that gave the key back acknowledges
// nothing more, and a taker may be reading them; empty: it may.
func notWriter(v *cluster.View, node cluster.NodeID, term cluster.Term) string {
	if why := notHolder(v, node, term); why != "" {
		return why
	}
	if v.Key.Released {
		return fmt.Sprintf("asked by %q at term %d: it has released the key", node, term)
	}
	return ""
}

// addRule appends a rule of the key's holder, term and timeline. One that asks the same of the same primary on the same
// timeline goes: the new one vouches for the same commits in the same ways (docs/adr/0018). Rules are never empty once there
// is one, so the last ID says how many were ever recorded.
func addRule(v *cluster.View, standbys []cluster.Member, k int, mode cluster.SyncMode) cluster.SyncRule {
	last, _ := v.Current()
	r := cluster.SyncRule{ID: last.ID + 1, Term: v.Key.Term, Primary: v.Key.Member, Timeline: v.Key.Timeline,
		Standbys: sortedMembers(standbys), K: k, Mode: mode}
	rules := slices.DeleteFunc(slices.Clone(v.Rules), func(old cluster.SyncRule) bool {
		return old.Timeline == r.Timeline && old.Asks(r)
	})
	v.Rules = append(rules, r)
	v.RulesVersion++
	return r
}

// ruleObstacle says why a rule cannot be recorded; empty: it can.
func ruleObstacle(v *cluster.View, primary cluster.Member, standbys []cluster.Member, k int, mode cluster.SyncMode) string {
	if !knownMode(mode) {
		return fmt.Sprintf("rule of mode %q: want quorum, on or off", mode)
	}
	if k < 0 || k > len(standbys) {
		return fmt.Sprintf("rule of %d confirmations: want 0 to %d, its standbys", k, len(standbys))
	}
	if mode == cluster.SyncOff && k != 0 {
		return fmt.Sprintf("rule of mode off with %d confirmations: want 0 (S7)", k)
	}
	seen := map[cluster.NodeID]bool{primary.Node: true}
	for _, m := range standbys {
		if seen[m.Node] {
			return fmt.Sprintf("rule with standby %s: the node is its primary %s or named twice", m.Life(), primary.Life())
		}
		if !registered(v, m) {
			return fmt.Sprintf("rule with standby %s: the registered incarnation is %q (V5)", m.Life(), v.Nodes[m.Node].Incarnation)
		}
		seen[m.Node] = true
	}
	return ""
}

// knownMode says whether the mode is one of the three.
func knownMode(m cluster.SyncMode) bool {
	return m == cluster.SyncQuorum || m == cluster.SyncOn || m == cluster.SyncOff
}

// sortedMembers copies members in the order in which rules hold them, never nil.
func sortedMembers(ms []cluster.Member) []cluster.Member {
	sorted := append([]cluster.Member{}, ms...)
	cluster.SortMembers(sorted)
	return sorted
}
