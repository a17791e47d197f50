package decide

import (
	"fmt"
	"strings"

	"pgquorum/cluster"
)

// bootstrap is the first start (docs/design.md, section 6): the first leader runs initdb only if no initial member has a data
// directory. The claim in the FSM makes that one node's business, so that a second leader cannot make a second cluster.
func bootstrap(o *Observation) (Decision, bool) {
	v := o.View
	if v.SystemID != "" && v.Claim == o.Self {
		return firstTerm(o)
	}
	if v.SystemID != "" {
		return toClaimant(o), true
	}
	if v.Claim == o.Self && o.Local.Postgres.Data == cluster.DataOurs {
		return Decision{Action: SetSystemID, Reason: ReasonFirstStart, Detail: o.Local.Postgres.SystemID}, true
	}
	if missing := unanswered(o); missing != "" {
		return again(o, Decision{Action: Wait, Reason: ReasonMembersMissing, Detail: "waiting for " + missing}), true
	}
	owner, detail := dataOwner(o)
	switch {
	case owner == "" && detail == "":
		if v.Claim == o.Self {
			return Decision{Action: InitDB, Reason: ReasonFirstStart}, true
		}
		return Decision{Action: Claim, Reason: ReasonFirstStart, Node: v.Claim}, true
	case owner != "" && owner == v.Claim:
		return toClaimant(o), true
	}
	return again(o, Decision{Action: Wait, Reason: ReasonForeignData, Detail: detail}), true
}

// firstTerm is the claimant's first acquisition: no rule, no parent, timeline 1.
func firstTerm(o *Observation) (Decision, bool) {
	me, ok := o.me()
	if !ok {
		return again(o, Decision{Action: Wait, Reason: ReasonNoData, Detail: fmt.Sprintf("the first data directory is %s", o.Local.Postgres.Data)}), true
	}
	if d, differs := register(o); differs {
		return d, true
	}
	if w := o.Local.Guard.Watchdog; w.Missing() != "" { // section 11
		return Decision{Action: Wait, Reason: ReasonNoWatchdog, Detail: w.Problem}, true
	}
	mode := o.View.Config.SynchronousMode
	return Decision{Action: Acquire, Reason: ReasonFirstStart, Term: 1, Acquire: cluster.AcquireLeader{
		Node: o.Self, RulesVersion: o.View.RulesVersion, Member: me, Lease: o.Lease0, Mode: mode,
	}}, true
}

// toClaimant hands leadership to the node that has the only data.
func toClaimant(o *Observation) Decision {
	if _, answered := statusOf(o, o.View.Claim); answered && !silent(o, o.View.Claim) && (o.TakeOver.Hops < 2 || rested(o)) {
		return unlessResting(o, Decision{Action: Transfer, Reason: ReasonClaimant, Node: o.View.Claim, Term: o.TakeOver.Term})
	}
	return again(o, Decision{Action: Wait, Reason: ReasonClaimant, Detail: "waiting for " + string(o.View.Claim)})
}

// unanswered names the initial members whose status is not known.
func unanswered(o *Observation) string {
	var missing []string
	for _, m := range o.Members {
		if _, ok := statusOf(o, m); !ok {
			missing = append(missing, string(m))
		}
	}
	return strings.Join(missing, ", ")
}

// dataOwner finds the member that has a data directory. detail explains, for an operator, a state that only they can
// resolve; owner is set only for a directory that pgquorum itself made.
func dataOwner(o *Observation) (owner cluster.NodeID, detail string) {
	var found []string
	for _, m := range o.Members {
		s, _ := statusOf(o, m)
		switch s.Postgres.Data {
		case cluster.DataAbsent:
			continue
		case cluster.DataOurs:
			owner = m
		}
		found = append(found, fmt.Sprintf("%s (%s)", m, s.Postgres.Data))
	}
	if len(found) == 0 || len(found) == 1 && owner != "" && owner == o.View.Claim {
		return owner, ""
	}
	return "", fmt.Sprintf("a new cluster is made only when no member has a data directory; found on %s: move them away, or start the cluster that they belong to",
		strings.Join(found, ", "))
}

// register says whether the registry's entry for this node must change (V5 is kept by the FSM: the life of the newest
// rule's primary cannot be replaced).
func register(o *Observation) (Decision, bool) {
	want := o.Node
	want.Incarnation = o.Local.Postgres.Incarnation
	have, known := o.View.Nodes[o.Self]
	if known && want.Incarnation == "" {
		want.Incarnation = have.Incarnation // a life is replaced, never merely taken away: the rules may count on it
	}
	if known && sameNode(have, want) {
		return Decision{}, false
	}
	if !o.retryAfter(Register).IsZero() {
		return Decision{}, false
	}
	return Decision{Action: Register, Reason: ReasonNotRegistered}, true
}

func sameNode(a, b cluster.Node) bool {
	return a.UID == b.UID && a.Incarnation == b.Incarnation && a.RaftAddr == b.RaftAddr && a.APIURL == b.APIURL &&
		a.PostgresAddr == b.PostgresAddr && a.Version == b.Version && sameTags(a.Tags, b.Tags)
}

func sameTags(a, b cluster.Tags) bool {
	if len(a.Custom) != len(b.Custom) {
		return false
	}
	for k, v := range a.Custom {
		if w, ok := b.Custom[k]; !ok || v != w {
			return false
		}
	}
	return a.NoFailover == b.NoFailover && a.FailoverPriority == b.FailoverPriority && a.NoLoadBalance == b.NoLoadBalance &&
		a.NoSync == b.NoSync && a.Location == b.Location
}
