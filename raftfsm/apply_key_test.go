package raftfsm

import (
	"math"
	"testing"
	"time"

	"pgquorum/cluster"
)

func claimOf(n, from cluster.NodeID) cluster.Claim {
	return cluster.Claim{Node: n, From: from, ClusterID: "c-" + string(n), Config: testConfig()}
}

func TestClaimAndSystemID(t *testing.T) {
	t.Parallel()
	first := []cluster.Command{claimOf("n1", "")}
	moved := []cluster.Command{claimOf("n1", ""), claimOf("n2", "n1")}
	identified := []cluster.Command{claimOf("n1", ""), cluster.SetSystemID{Node: "n1", SystemID: "77"}}
	otherConfig := claimOf("n1", "")
	otherConfig.Config.SynchronousNodeCount = 2
	runCases(t, newMachine, []applyCase{
		{name: "first", cmd: claimOf("n1", ""), check: func(v *cluster.View) bool {
			return v.Claim == "n1" && v.ClusterID == "c-n1" && v.Config.SynchronousMode == cluster.SyncQuorum
		}},
		{name: "no node", cmd: claimOf("", ""), refused: "names no node"},
		{name: "no cluster id", cmd: cluster.Claim{Node: "n1"}, refused: "needs a cluster id"},
		{name: "first, replaces a claim that is not", cmd: claimOf("n1", "n2"), refused: `in place of "n2": the claim is ""'s`},
		{name: "second, as if first", prepare: first, cmd: claimOf("n2", ""), refused: `the claim is "n1"'s (cluster id c-n1)`},
		{name: "again", prepare: first, cmd: claimOf("n1", ""), same: true},
		{name: "again, other cluster id", prepare: first, cmd: cluster.Claim{Node: "n1", ClusterID: "c9", Config: testConfig()}, refused: "cluster id c-n1"},
		{name: "again, other config", prepare: first, cmd: otherConfig, refused: "cluster id c-n1"},
		{name: "replaces, keeps id", prepare: first, cmd: claimOf("n2", "n1"), check: func(v *cluster.View) bool { return v.Claim == "n2" && v.ClusterID == "c-n1" }},
		{name: "replaces again", prepare: moved, cmd: claimOf("n2", "n1"), same: true},
		{name: "the replaced one's, late", prepare: moved, cmd: claimOf("n1", ""), refused: `the claim is "n2"'s`},
		{name: "after initdb", prepare: identified, cmd: claimOf("n2", "n1"), refused: "system identifier 77 already"},
		{name: "after initdb, again by who has it", prepare: identified, cmd: claimOf("n1", ""), refused: "system identifier 77 already"},

		{name: "system id", prepare: first, cmd: cluster.SetSystemID{Node: "n1", SystemID: "77"}, check: func(v *cluster.View) bool { return v.SystemID == "77" }},
		{name: "system id, empty", prepare: first, cmd: cluster.SetSystemID{Node: "n1"}, refused: "no system identifier"},
		{name: "system id, unclaimed", cmd: cluster.SetSystemID{SystemID: "77"}, refused: `the claim is ""'s`},
		{name: "system id, not the claim's node", prepare: first, cmd: cluster.SetSystemID{Node: "n2", SystemID: "77"}, refused: `from "n2": the claim is "n1"'s`},
		{name: "system id again", prepare: identified, cmd: cluster.SetSystemID{Node: "n1", SystemID: "77"}, same: true},
		{name: "another system id", prepare: identified, cmd: cluster.SetSystemID{Node: "n1", SystemID: "78"}, refused: "the cluster has 77 already"},
	})
}

// acquire is n2's take-over with one edit.
func acquire(edit func(c *cluster.AcquireLeader)) cluster.AcquireLeader {
	c := takeOver()
	edit(&c)
	return c
}

// inPlace is n1's acquisition of term 2 on its own timeline with one edit.
func inPlace(edit func(c *cluster.AcquireLeader)) cluster.AcquireLeader {
	c := firstAcquisition()
	c.ExpectTerm, c.RulesVersion, c.InPlace, c.Parent = 1, 1, true, 1
	edit(&c)
	return c
}

// K7: compare-and-set; F1: the number; G3: rules are added; L4: the lease is recorded.
func TestK7AcquireLeader(t *testing.T) {
	t.Parallel()
	busy := []cluster.Command{cluster.CountHandback{Term: 1}, cluster.Refuse{Node: "n3", Term: 2, Reason: "disk"},
		cluster.RecordLSN{Node: "n1", Term: 1, Position: cluster.Position{Timeline: 1, LSN: 500}}}
	runCases(t, healthyMachine, []applyCase{
		{name: "take-over", prepare: busy, cmd: takeOver(), check: func(v *cluster.View) bool {
			want := cluster.LeaderKey{Holder: "n2", Member: life("n2"), Term: 2, Timeline: 3, Lease: testLease}
			return v.Key == want && v.Handbacks == 0 && len(v.Refusals) == 0 && v.LastLSN.Position.LSN == 500
		}},
		{name: "G3 rule is added", cmd: takeOver(), check: func(v *cluster.View) bool {
			old, r := v.Rules[0], v.Rules[len(v.Rules)-1]
			return len(v.Rules) == 2 && v.RulesVersion == 2 && old.ID == 1 && old.Primary == life("n1") && r.ID == 2 &&
				r.Same(cluster.SyncRule{Term: 2, Primary: life("n2"), Standbys: []cluster.Member{life("n3")}, K: 1, Mode: cluster.SyncQuorum}) && r.Timeline == 3
		}},
		{name: "F1 timeline is known at once", cmd: takeOver(), check: func(v *cluster.View) bool {
			return v.Forks[3] == cluster.Fork{Timeline: 3, Parent: 1, Node: "n2", Term: 2, Reason: "n1 is gone", Time: "2026-01-01T00:01:00Z"}
		}},
		{name: "F1 above what a disk has seen", cmd: acquire(func(c *cluster.AcquireLeader) { c.SeenMax = 8 }), check: func(v *cluster.View) bool { return v.Key.Timeline == 10 }},
		{name: "F1 above the parent", cmd: acquire(func(c *cluster.AcquireLeader) { c.Parent = 5 }), check: func(v *cluster.View) bool { return v.Key.Timeline == 7 }},
		{name: "F1 above one that was allotted and never used", prepare: []cluster.Command{acquire(func(c *cluster.AcquireLeader) { c.SeenMax = 8 })},
			cmd: acquire(func(c *cluster.AcquireLeader) {
				c.Node, c.Member, c.ExpectTerm, c.RulesVersion, c.Standbys, c.K = "n3", life("n3"), 2, 2, nil, 0
			}), check: func(v *cluster.View) bool { return v.Key.Timeline == 12 && v.Forks[12].Parent == 1 }},
		{name: "F1 no number left", cmd: acquire(func(c *cluster.AcquireLeader) { c.SeenMax = math.MaxUint32 }), refused: "above 4294967295: there is none"},
		{name: "F1 no parent", cmd: acquire(func(c *cluster.AcquireLeader) { c.Parent = 0 }), refused: "timeline without a parent"},
		{name: "standbys are sorted", cmd: acquire(func(c *cluster.AcquireLeader) { c.Standbys = []cluster.Member{life("n3"), life("n1")} }),
			check: func(v *cluster.View) bool { return v.Rules[1].Standbys[0] == life("n1") }},
		{name: "event", cmd: takeOver(), check: func(v *cluster.View) bool {
			e := v.Events[len(v.Events)-1]
			return e.Type == "leader_acquired" && e.Node == "n2" && e.Term == 2 && e.Time == "2026-01-01T00:01:00Z"
		}},

		{name: "term too old", cmd: acquire(func(c *cluster.AcquireLeader) { c.ExpectTerm = 0 }), refused: `term 0+1 for "n2": the term is 1, held by "n1"`},
		{name: "term ahead", cmd: acquire(func(c *cluster.AcquireLeader) { c.ExpectTerm = 2 }), refused: "the term is 1"},
		{name: "rules have moved", cmd: acquire(func(c *cluster.AcquireLeader) { c.RulesVersion = 0 }), refused: "rules version 0: the rules are at version 1"},
		{name: "lost the race", prepare: []cluster.Command{takeOver()},
			cmd: acquire(func(c *cluster.AcquireLeader) {
				c.Node, c.Member, c.Standbys = "n3", life("n3"), []cluster.Member{life("n2")}
			}),
			refused: `the term is 2, held by "n2"`},
		{name: "another's data", cmd: acquire(func(c *cluster.AcquireLeader) { c.Member = life("n3") }), refused: "the data n3_a is another node's"},
		{name: "V5 not the registered incarnation", cmd: acquire(func(c *cluster.AcquireLeader) { c.Member.Incarnation = "b" }), refused: `incarnation "b" is not the registered one, "a"`},
		{name: "not registered", cmd: acquire(func(c *cluster.AcquireLeader) { c.Node, c.Member.Node = "n9", "n9" }), refused: `incarnation "a" is not the registered one, ""`},
		{name: "no data", cmd: acquire(func(c *cluster.AcquireLeader) { c.Node, c.Member = "n9", cluster.Member{Node: "n9"} }), refused: "is not the registered one"},
		{name: "no ttl", cmd: acquire(func(c *cluster.AcquireLeader) { c.Lease.TTL = 0 }), refused: "lease of ttl 0s"},
		{name: "L4 ttl so long that W overflows", cmd: acquire(func(c *cluster.AcquireLeader) { c.Lease.TTL = math.MaxInt64 / 1000 }), refused: "lease of ttl"},
		{name: "L4 rho of half", cmd: acquire(func(c *cluster.AcquireLeader) { c.Lease.RhoPPM = 500_000 }), refused: "lease of ttl"},
		{name: "fence as long as the lease", cmd: acquire(func(c *cluster.AcquireLeader) { c.Lease.Fence = c.Lease.TTL }), refused: "lease of ttl"},
		{name: "k too high", cmd: acquire(func(c *cluster.AcquireLeader) { c.K = 2 }), refused: "rule of 2 confirmations: want 0 to 1"},

		{name: "again", prepare: []cluster.Command{takeOver()}, cmd: takeOver(), same: true},
		{name: "again, rules have gone on", prepare: []cluster.Command{takeOver(), cluster.AddRule{Node: "n2", Term: 2, RulesVersion: 2, Mode: cluster.SyncQuorum}}, cmd: takeOver(), same: true},
		{name: "again, other rule", prepare: []cluster.Command{takeOver()}, cmd: acquire(func(c *cluster.AcquireLeader) { c.K = 0 }), refused: "the term is 2"},
		{name: "again, other parent", prepare: []cluster.Command{takeOver()}, cmd: acquire(func(c *cluster.AcquireLeader) { c.Parent = 5 }), refused: "the term is 2"},
		{name: "again, other lease", prepare: []cluster.Command{takeOver()}, cmd: acquire(func(c *cluster.AcquireLeader) { c.Lease.TTL++ }), refused: "the term is 2"},
		{name: "again, in place", prepare: []cluster.Command{takeOver()}, cmd: acquire(func(c *cluster.AcquireLeader) { c.InPlace = true }), refused: "the term is 2"},
		{name: "again, after its release", prepare: []cluster.Command{takeOver(), cluster.ReleaseLeader{Node: "n2", Term: 2}}, cmd: takeOver(), refused: "the term is 2"},
		{name: "again, a term later", prepare: []cluster.Command{takeOver(), inPlaceOf2()}, cmd: takeOver(), refused: "the term is 3"},
	})
}

// inPlaceOf2 is n2's acquisition of term 3 after takeOver.
func inPlaceOf2() cluster.AcquireLeader {
	c := takeOver()
	c.ExpectTerm, c.RulesVersion, c.InPlace, c.Parent = 2, 2, true, 2
	return c
}

// C3, K3: in place keeps the timeline, and only the holder's same data may.
func TestAcquireLeaderInPlace(t *testing.T) {
	t.Parallel()
	keep := func(*cluster.AcquireLeader) {}
	released := cluster.ReleaseLeader{Node: "n1", Term: 1}
	runCases(t, healthyMachine, []applyCase{
		{name: "holder", prepare: []cluster.Command{released}, cmd: inPlace(keep), check: func(v *cluster.View) bool {
			return v.Key.Term == 2 && v.Key.Timeline == 1 && !v.Key.Released && len(v.Forks) == 1 &&
				len(v.Rules) == 1 && v.Rules[0].ID == 2 && v.Rules[0].Term == 2 && v.Rules[0].Timeline == 1 && v.RulesVersion == 2 // the same rule again
		}},
		{name: "G3 in place with another rule", cmd: inPlace(func(c *cluster.AcquireLeader) { c.Standbys = c.Standbys[:1] }), check: func(v *cluster.View) bool {
			return len(v.Rules) == 2 && v.Rules[0].ID == 1 && len(v.Rules[1].Standbys) == 1
		}},
		{name: "again", prepare: []cluster.Command{inPlace(keep)}, cmd: inPlace(keep), same: true},
		{name: "again, with a new timeline", prepare: []cluster.Command{inPlace(keep)}, cmd: inPlace(func(c *cluster.AcquireLeader) { c.InPlace = false }), refused: "the term is 2"},
		{name: "not the holder", cmd: acquire(func(c *cluster.AcquireLeader) { c.InPlace = true }), refused: `for "n2_a" in place: timeline 1 is n1_a's`},
	})
	runCases(t, newMachine, []applyCase{
		{name: "nothing held yet", prepare: []cluster.Command{registration("n1")},
			cmd: cluster.AcquireLeader{Node: "n1", Member: life("n1"), InPlace: true, Lease: testLease, Mode: cluster.SyncOff}, refused: "in place"},
	})
}

// F1: the first timeline.
func TestFirstAcquisition(t *testing.T) {
	t.Parallel()
	alone := cluster.AcquireLeader{Node: "n1", Member: life("n1"), SeenMax: 1, Lease: testLease, Mode: cluster.SyncQuorum}
	adopted, used := alone, alone
	adopted.Parent, adopted.SeenMax = 7, 6
	used.SeenMax = 3
	entered := []cluster.Command{registration("n1")}
	runCases(t, newMachine, []applyCase{
		{name: "new cluster", prepare: entered, cmd: alone, check: func(v *cluster.View) bool {
			return v.Key.Term == 1 && v.Key.Timeline == 1 && v.Forks[1].Parent == 0 && v.RulesVersion == 1 && v.Rules[0].ID == 1
		}},
		{name: "adopted", prepare: entered, cmd: adopted, check: func(v *cluster.View) bool { return v.Key.Timeline == 9 && v.Forks[9].Parent == 7 }},
		{name: "no parent, but numbers were used", prepare: entered, cmd: used, refused: "a history file has used 3"},
	})
}

func TestReleaseRefuseHandbackLease(t *testing.T) {
	t.Parallel()
	release := cluster.ReleaseLeader{Node: "n1", Term: 1, Reason: "switchover", Time: "t"}
	longer := testLease
	longer.TTL = 900 * time.Millisecond
	watched, endless := testLease, testLease
	watched.Watchdog, endless.Watchdog = cluster.MaxWatchdog, cluster.MaxWatchdog+1
	runCases(t, healthyMachine, []applyCase{
		{name: "B1 release", cmd: release, check: func(v *cluster.View) bool { return v.Key.Released && v.Key.Holder == "n1" && v.Key.Term == 1 }},
		{name: "release again", prepare: []cluster.Command{release}, cmd: release, same: true},
		{name: "G1 release of another term", cmd: cluster.ReleaseLeader{Node: "n1", Term: 2}, refused: `asked by "n1" at term 2: the key is "n1"'s at term 1`},
		{name: "G1 release, late", prepare: []cluster.Command{takeOver()}, cmd: release, refused: `the key is "n2"'s at term 2`},
		{name: "release of another's", cmd: cluster.ReleaseLeader{Node: "n2", Term: 1}, refused: `asked by "n2"`},

		{name: "K3 hand-back", cmd: cluster.CountHandback{Term: 1}, check: func(v *cluster.View) bool { return v.Handbacks == 1 }},
		{name: "K3 second hand-back", prepare: []cluster.Command{cluster.CountHandback{Term: 1}}, cmd: cluster.CountHandback{Term: 1}, check: func(v *cluster.View) bool { return v.Handbacks == 2 }},
		{name: "K3 hand-back of another term", cmd: cluster.CountHandback{Term: 2}, refused: "in term 2: the term is 1"},

		{name: "K6 refusal", cmd: cluster.Refuse{Node: "n2", Term: 2, Reason: "disk"}, check: func(v *cluster.View) bool {
			return v.Refusals["n2"] == cluster.Refusal{Term: 2, Reason: "disk"}
		}},
		{name: "K6 refusal again", prepare: []cluster.Command{cluster.Refuse{Node: "n2", Term: 2, Reason: "disk"}}, cmd: cluster.Refuse{Node: "n2", Term: 2, Reason: "disk"}, same: true},
		{name: "K6 refusal for the present term", cmd: cluster.Refuse{Node: "n2", Term: 1}, refused: "the next term is 2"},
		{name: "K6 refusal, late", prepare: []cluster.Command{takeOver()}, cmd: cluster.Refuse{Node: "n3", Term: 2}, refused: "the next term is 3"},
		{name: "K6 refusal of nobody", cmd: cluster.Refuse{Term: 2}, refused: "names no node"},

		{name: "L4 lease", cmd: cluster.SetLease{Node: "n1", Term: 1, Lease: longer}, check: func(v *cluster.View) bool { return v.Key.Lease == longer }},
		{name: "L4 lease, as it is", cmd: cluster.SetLease{Node: "n1", Term: 1, Lease: testLease}, same: true},
		{name: "L4 lease of another term", cmd: cluster.SetLease{Node: "n1", Term: 2, Lease: longer}, refused: "at term 2"},
		{name: "L4 lease of another's", cmd: cluster.SetLease{Node: "n2", Term: 1, Lease: longer}, refused: `asked by "n2"`},
		{name: "L4 a watchdog is recorded", cmd: cluster.SetLease{Node: "n1", Term: 1, Lease: watched}, check: func(v *cluster.View) bool { return v.Key.Lease.Watchdog == cluster.MaxWatchdog }},
		{name: "L4 a watchdog beyond what a taker can wait for", cmd: cluster.SetLease{Node: "n1", Term: 1, Lease: endless}, refused: "lease with a watchdog of 10m0.000000001s: want 0 to 10m0s"},
		{name: "L4 no lease", cmd: cluster.SetLease{Node: "n1", Term: 1}, refused: "lease of ttl 0s"},
	})
	runCases(t, newMachine, []applyCase{
		{name: "release of nothing", cmd: cluster.ReleaseLeader{}, refused: `the key is ""'s`},
		{name: "hand-back of nothing", cmd: cluster.CountHandback{}, refused: "the term is 0"},
	})
}

// The value of AcquireLeader is the key, also when it is applied again.
func TestAcquireLeaderAnswersTheKey(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	for range 2 {
		if key, ok := m.must(takeOver()).(cluster.LeaderKey); !ok || key != m.View().Key || key.Holder != "n2" {
			t.Errorf("answer %+v, key %+v", key, m.View().Key)
		}
	}
}

// G1: an extension or pause of an older term means nothing in the new one. No command sets them yet, so they are put in.
func TestAcquireLeaderClearsExtensionAndPause(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	v := *m.View()
	v.Extension, v.Pause = &cluster.Extension{Holder: "n1", Term: 1}, &cluster.Pause{Holder: "n1", Term: 1}
	m.view.Store(&v)
	m.must(takeOver())
	if v := m.View(); v.Extension != nil || v.Pause != nil {
		t.Errorf("extension %+v, pause %+v", v.Extension, v.Pause)
	}
}
