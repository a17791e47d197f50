package main

// mutant is one broken rule: the text old stands in file exactly once and becomes new; the tests of pkg whose names match
// run must then fail. run is narrow, so that each takes seconds.
type mutant struct {
	name, rule string
	file       string
	old, new   string
	pkg, run   string
}

// mutants are the rules, broken. Who adds a rule adds its mutant.
var mutants = []mutant{
	// Lease.
	{"lease-from-answer", "L1", "raftfsm/lease_transport.go",
		"\tt.answered(cluster.NodeID(id), args, &answer, sent)", "\tsent = t.clock()\n\tt.answered(cluster.NodeID(id), args, &answer, sent)",
		"./raftfsm", "^TestL1CountsFromBeforeSending$"},
	{"lease-from-the-fastest-voter", "L1", "cluster/lease.go",
		"return times[len(times)-q].Add(ttl), true", "return times[len(times)-1].Add(ttl), true", "./cluster", "^TestLeaseEnd$"},
	{"lease-with-one-answer-too-few", "L1", "cluster/lease.go",
		"len(times) < q {", "len(times) < q-1 {", "./cluster", "^TestLeaseEnd$"},
	{"wait-without-drift", "L4", "cluster/lease.go",
		"return time.Duration((int64(p.TTL)*num + den - 1) / den)", "_, _ = num, den\n\treturn p.TTL", "./cluster", "^TestWait$"},
	{"alive-until-E", "L5", "cluster/lease.go",
		"return l.End.Add(-p.Fence)", "return l.End", "./agent/decide", "^TestHolder$"},
	{"primary-without-lease-not-fenced", "L5", "agent/decide/fence.go",
		"p.Role != cluster.RolePrimary || o.holds()", "p.Role != cluster.RolePrimary || o.holds() || o.View.Key.Holder == o.Self", "./agent/decide", "^(TestHolder|TestInvariants)$"},
	{"ttl-as-long-as-leader-lease", "L7", "cluster/lease.go",
		"case p.TTL >= t.LeaderLease:", "case p.TTL > t.LeaderLease:", "./cluster", "^TestCheckRefuses$"},

	// Guard.
	{"guard-fences-only-primaries", "U2", "pgctl/guard_fence.go",
		"if g.lease.Term != 0 && !g.lease.Live(l, now) {", "if g.lease.Term != 0 && !g.lease.Live(l, now) && g.pm != nil && (g.pm.primary || g.pm.promoted) {",
		"./pgctl", "^TestGuard$/^U2_a_standby_under_an_armed_lease_is_fenced$"},

	// Take-over.
	{"no-wait", "K5", "agent/decide/takeover.go",
		"\treturn waitLeft(o) <= 0", "\treturn true", "./agent/decide", "^(TestTakeOver|TestInvariants)$"},
	{"holder-attests-itself", "K5", "cluster/lease.go",
		"v != holder && ok", "ok", "./cluster", "^TestLeaseSurelyOver$"},
	{"attest-of-an-older-raft-term", "K5", "cluster/lease.go",
		"a.RaftTerm >= r && ", "", "./cluster", "^TestLeaseSurelyOver$"},
	{"attest-overtakes-heartbeat", "K5", "raftfsm/attest.go",
		"if err := n.acks.wait(ctx); err != nil {", "if err := ctx.Err(); err != nil {", "./raftfsm", "^TestK5AttestWaitsForHeartbeatInHandling$"},
	{"promise-under-a-live-lease", "K4", "agent/decide/takeover.go",
		"case o.holds() && term > o.View.Key.Term:", "case o.holds() && term < o.View.Key.Term:", "./agent/decide", "^TestK4MayPromise$"},
	{"refused-comes-first", "K6", "agent/decide/candidate.go",
		"return before(refused(o, b))", "return before(refused(o, a))", "./agent/decide", "^TestC2Choose$"},
	{"inherited-promises-not-checked", "K6", "agent/decide/takeover.go",
		"if missing != \"\" { // B5", "if missing == \"never\" {", "./agent/decide", "^TestK6ChosenNeedsEveryRule$"},
	{"acquire-no-compare-on-term", "K7", "raftfsm/apply_key.go",
		"case c.ExpectTerm != k.Term:", "case c.ExpectTerm > k.Term:", "./raftfsm", "^TestK7AcquireLeader$"},
	{"acquire-no-compare-on-rules", "K7", "raftfsm/apply_key.go",
		"case c.RulesVersion != v.RulesVersion:", "case c.RulesVersion > v.RulesVersion:", "./raftfsm", "^TestK7AcquireLeader$"},
	{"acquire-drops-old-rules", "G3", "raftfsm/apply_key.go",
		"\taddRule(v, c.Standbys, c.K, c.Mode)\n", "\taddRule(v, c.Standbys, c.K, c.Mode)\n\tv.Rules = v.Rules[len(v.Rules)-1:]\n",
		"./raftfsm", "^(TestK7AcquireLeader|TestPropertyInvariants)$"},

	// Promises and positions.
	{"promise-not-kept", "V1", "pgctl/promise.go",
		"return writeDurable(filepath.Join(p.opt.GuardDir, promiseFile), want)", "return nil", "./pgctl", "^TestFollowRefusesBelowPromise$"},
	{"promise-lowered", "V1", "pgctl/promise.go",
		"if have.Term > term {", "if have.Term > term+1 {", "./pgctl", "^TestFollowRefusesBelowPromise$"},
	{"cut-by-reload-alone", "V2", "pgctl/cut.go",
		"return run, p.endReceiver(quick, run)", "_ = quick\n\treturn run, nil", "./pgctl", "^TestCutWithReplayPaused$"},
	{"replay-lsn-as-position", "V3", "pgctl/position.go",
		"return cluster.Position{Timeline: h.at(live.received), LSN: live.received}, nil", "return cluster.Position{Timeline: h.at(live.replayed), LSN: live.replayed}, nil",
		"./pgctl", "^TestPositionOfStandby$"},
	{"positions-by-lsn-alone", "V4", "cluster/timeline.go",
		"case oka != okb && okb, oka && okb && ta < tb:", "case oka != okb && okb:", "./cluster", "^TestCompare$"},
	{"promise-of-another-life", "V5", "agent/decide/candidate.go",
		"p.Term == term && registered && p.Member == member &&", "p.Term == term && registered && (p.Member == member || true) &&", "./agent/decide", "^TestV5ValidPromises$"},
	{"promise-of-another-term", "G1", "agent/decide/candidate.go",
		"if p.Term == term && registered", "if p.Term >= term-1 && registered", "./agent/decide", "^TestV5ValidPromises$"},
	{"clone-while-it-counts", "V5", "agent/decide/standby.go",
		"func noData(o *Observation) (Decision, bool) {\n\tif inRule(", "func noData(o *Observation) (Decision, bool) {\n\tif false && inRule(",
		"./agent/decide", "^TestInvariantsOfBrokenData$/^absent$"},
	{"rewind-while-it-counts", "V5", "agent/decide/standby.go",
		"func rewindAgain(o *Observation) (Decision, bool) {\n\tif inRule(", "func rewindAgain(o *Observation) (Decision, bool) {\n\tif false && inRule(",
		"./agent/decide", "^TestInvariantsOfBrokenData$/^rewinding$"},

	// Candidate.
	{"no-promises-needed", "C1", "agent/decide/candidate.go",
		"\tif missing != \"\" {\n\t\treturn Choice{Missing: missing}", "\tif missing == \"never\" {\n\t\treturn Choice{Missing: missing}",
		"./agent/decide", "^(TestTakeOver|TestC1AgainstASecondModel)$"},
	{"one-promise-too-few", "C1", "agent/decide/candidate.go",
		"in >= len(r.Standbys)-r.K+1", "in >= len(r.Standbys)-r.K", "./agent/decide", "^TestC1AgainstASecondModel$"},
	{"unfenced-primary-satisfies", "C1", "agent/decide/candidate.go",
		"in && p.Member == r.Primary && p.Fenced {", "in && p.Member == r.Primary {", "./agent/decide", "^TestC1Satisfied$"},
	{"lowest-m-of-the-rules", "C1", "agent/decide/candidate.go",
		"v.Forks.Compare(low, m) > 0 {", "v.Forks.Compare(low, m) < 0 {", "./agent/decide", "^TestC1AgainstASecondModel$"},
	{"highest-m-of-the-ways", "C1", "agent/decide/candidate.go",
		"v.Forks.Compare(p, low) < 0 {", "v.Forks.Compare(p, low) > 0 {", "./agent/decide", "^TestC1Satisfied$"},
	{"off-rule-without-lag", "C1", "agent/decide/candidate.go",
		"p.Position.LSN.Behind(last.LSN) <= v.Config.MaximumLagOnFailover", "p.Position.LSN.Behind(last.LSN) < 1<<62", "./agent/decide", "^TestC1Satisfied$"},
	{"candidate-below-m", "C2", "agent/decide/candidate.go",
		"return o.View.Forks.Compare(q[n].Position, m) < 0 })", "return false && n == \"\" })", "./agent/decide", "^TestC1AgainstASecondModel$"},
	{"priority-before-position", "C2", "agent/decide/candidate.go",
		"\t\tcase c != 0:\n\t\t\treturn c\n\t\tcase na.Tags.FailoverPriority != nb.Tags.FailoverPriority:\n\t\t\treturn nb.Tags.FailoverPriority - na.Tags.FailoverPriority\n",
		"\t\tcase na.Tags.FailoverPriority != nb.Tags.FailoverPriority:\n\t\t\treturn nb.Tags.FailoverPriority - na.Tags.FailoverPriority\n\t\tcase c != 0:\n\t\t\treturn c\n",
		"./agent/decide", "^TestC2Choose$"},

	// Sync rules.
	{"node-count-lowers-k", "S1", "agent/decide/syncrule.go",
		"return min(n, max(d/2, f, nodeCount))", "return min(n, nodeCount+0*(d+f))", "./agent/decide", "^TestS1KFull$"},
	{"rule-overtakes-another", "S2", "raftfsm/apply_rules.go",
		"\tif c.RulesVersion != v.RulesVersion {\n\t\treturn refuse(c, \"rule for rules version", "\tif c.RulesVersion > v.RulesVersion {\n\t\treturn refuse(c, \"rule for rules version", "./raftfsm", "^TestS2AddRule$"},
	{"rule-changes-before-settled", "S2", "agent/decide/syncrule.go",
		"case differs && (settled || want.K < cur.K", "case differs && (true || want.K < cur.K", "./agent/decide", "^TestS2OrderOfRules$"},
	{"empty-to-list-trusted-at-once", "S3", "pgctl/syncnames.go",
		"if list != \"\" && !set {", "if list == \"\" && !set {", "./pgctl", "^TestSyncNamesFromEmpty$"},
	{"gate-does-not-wait", "S4", "agent/decide/gate.go",
		"return o.Now.Sub(since) >= GateFor", "return o.Now.Sub(since) >= 0", "./agent/decide", "^TestS4GateOpen$"},
	{"strict-lowers-k", "S5", "agent/decide/syncrule.go",
		"if o.View.Config.SynchronousModeStrict || k == 0 {", "if k == 0 {", "./agent/decide", "^(TestS5Lowered|TestS5Property)$"},
	{"leaving-lowers-k", "S5", "agent/decide/syncrule.go",
		"if len(s) < k { // only S5 lowers k", "if len(s) < k-9 { // only S5 lowers k", "./agent/decide", "^TestS5LeavingNeverLowersBelowTheFloor$"},
	{"primarys-tag-lowers-k-full", "S1", "agent/decide/syncrule.go",
		"return m.Node == primary })", "return m.Node == primary || o.View.Nodes[primary].Tags.NoSync })", "./agent/decide", "^TestS1NoSyncPrimaryKeepsItsStandby$"},
	{"silent-standby-streams", "S8", "agent/decide/syncrule.go",
		" && w.ReplyAge <= ReplyLimit", "", "./agent/decide", "^TestS1WantedRule$"},

	// Timelines.
	{"timeline-not-entered", "F1", "raftfsm/apply_key.go",
		"\tif !c.InPlace {\n\t\tenterFork(v, c)\n\t}\n", "", "./raftfsm", "^TestK7AcquireLeader$"},
	{"timeline-not-above-all-seen", "F1", "raftfsm/apply_timelines.go",
		"top := max(v.Forks.Newest(), c.Parent, c.SeenMax)", "top := max(v.Forks.Newest(), c.Parent)", "./raftfsm", "^TestK7AcquireLeader$"},
	{"promotion-takes-any-number", "F2", "pgctl/promote.go",
		"w.addPlaceholders(h.tli, spec.Timeline)", "w.addPlaceholders(h.tli, h.tli+1)", "./pgctl", "^TestPromoteTakesAllottedTimeline$"},
	{"wrong-timeline-kept", "F2", "agent/decide/primary.go",
		"if o.Local.Postgres.Timeline != k.Timeline { // F2", "if o.Local.Postgres.Timeline > k.Timeline+9 { // F2", "./agent/decide", "^TestHolder$"},
	{"unallotted-timeline-followed", "F3", "cluster/timeline.go",
		"return Diverged // F3: what Raft did not allot is never followed", "return Prefix", "./cluster", "^TestRelate$"},
}
