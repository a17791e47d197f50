package raftfsm

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"pgquorum/cluster"
)

var names = []cluster.NodeID{"n1", "n2", "n3", "n4"}

// often draws x mostly, else one of the others: a run goes on, and still tries what must be refused.
func often[T any](t *rapid.T, label string, x T, others ...T) T {
	const most = 24 // of so many and one for each of the others
	if i := rapid.IntRange(0, most+len(others)-1).Draw(t, label); i >= most {
		return others[i-most]
	}
	return x
}

func anyTerm(t *rapid.T, x cluster.Term) cluster.Term { return often(t, "term", x, x+1, x-1) }
func anyVersion(t *rapid.T, x uint64) uint64          { return often(t, "version", x, x+1, x-1) }

// anyMember is mostly the node's registered life.
func anyMember(t *rapid.T, v *cluster.View, n cluster.NodeID) cluster.Member {
	i := often(t, "incarnation", v.Nodes[n].Incarnation, "a", "b", "")
	return cluster.Member{Node: n, Incarnation: i}
}

// anyRule draws standbys that are mostly others than primary, k and mode.
func anyRule(t *rapid.T, v *cluster.View, primary cluster.NodeID) (standbys []cluster.Member, k int, mode cluster.SyncMode) {
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names[:3]), 0, 3, rapid.ID).Draw(t, "standbys") {
		if n != primary || often(t, "primary too", false, true) {
			standbys = append(standbys, anyMember(t, v, n))
		}
	}
	if len(standbys) > 0 && often(t, "twice", false, true) {
		standbys = append(standbys, standbys[0])
	}
	mode = often(t, "mode", cluster.SyncQuorum, cluster.SyncOn, cluster.SyncOff, "maybe")
	return standbys, often(t, "k", len(standbys), 0, 1, -1, len(standbys)+1), mode
}

func anyLease(t *rapid.T) cluster.LeaseParams {
	watched := testLease
	watched.Watchdog = rapid.SampledFrom([]time.Duration{time.Second, 6 * time.Second, cluster.MaxWatchdog, cluster.MaxWatchdog + 1, -1}).Draw(t, "watchdog")
	return often(t, "lease", testLease, watched, cluster.DefaultLease(2*time.Second), cluster.DefaultLease(5*time.Hour), cluster.LeaseParams{},
		cluster.LeaseParams{TTL: time.Second, RhoPPM: 1_000_000}, cluster.LeaseParams{TTL: time.Second, Fence: time.Second})
}

// anyCommand draws a command that fits the state more often than not. n makes its time unlike the others'.
func anyCommand(t *rapid.T, v *cluster.View, n int) cluster.Command {
	node := rapid.SampledFrom(names).Draw(t, "node")
	holder := often(t, "holder", v.Key.Holder, names...)
	term, version, now := anyTerm(t, v.Key.Term), anyVersion(t, v.RulesVersion), fmt.Sprint("t", n)
	switch rapid.IntRange(0, 16).Draw(t, "kind") {
	case 0:
		from := often(t, "from", v.Claim, names...)
		return cluster.Claim{Node: node, From: from, ClusterID: rapid.SampledFrom([]string{"c-n1", "c2", ""}).Draw(t, "cluster"), Config: anyConfig(t)}
	case 1:
		return cluster.SetSystemID{Node: often(t, "claimer", v.Claim, names...), SystemID: often(t, "system", "77", "78", "")}
	case 2, 3:
		readmit := cluster.Readmit{Node: often(t, "whose name", node, ""), From: often(t, "from uid", v.Nodes[node].UID, "other", ""),
			UID: rapid.SampledFrom([]cluster.UID{registration(node).Node.UID, "other", ""}).Draw(t, "new uid"), RaftAddr: "new:1"}
		return often[cluster.Command](t, "registration", anyRegistration(t, node), readmit, readmit)
	case 4, 5, 6:
		return anyAcquisition(t, v, node, now)
	case 7:
		return cluster.ReleaseLeader{Node: holder, Term: term, Reason: "asked", Time: now}
	case 8, 9:
		c := cluster.AddRule{Node: holder, Term: term, RulesVersion: version}
		c.Standbys, c.K, c.Mode = anyRule(t, v, holder)
		return c
	case 10, 11:
		return cluster.DropRules{Node: holder, Term: term, RulesVersion: version}
	case 12:
		tl := often(t, "timeline", v.Key.Timeline, 1, 2, 3, 9)
		return cluster.RecordFork{Timeline: tl, Parent: often(t, "parent", v.Forks[tl].Parent, 0, 1, 2), LSN: rapid.SampledFrom([]cluster.LSN{16, 32, 0}).Draw(t, "lsn")}
	case 13:
		lsn := rapid.SampledFrom([]cluster.LSN{v.LastLSN.Position.LSN + 8, v.LastLSN.Position.LSN, 8, 0}).Draw(t, "lsn")
		return cluster.RecordLSN{Node: holder, Term: term, Position: cluster.Position{Timeline: often(t, "timeline", v.Key.Timeline, 0, 1, 2, 9), LSN: lsn}}
	case 14:
		return often[cluster.Command](t, "handback", cluster.CountHandback{Term: term}, cluster.SetLease{Node: holder, Term: term, Lease: anyLease(t)})
	case 15:
		return often[cluster.Command](t, "refuse", cluster.Refuse{Node: often(t, "whom", node, ""), Term: term + 1, Reason: "disk"}, cluster.SetConfig{Config: anyConfig(t)})
	}
	return rapid.SampledFrom([]cluster.Command{cluster.SetConfig{Config: anyConfig(t)}, cluster.SetLease{Node: holder, Term: term, Lease: anyLease(t)},
		cluster.AddEvent{Event: cluster.Event{Time: now, Type: "seen", Node: node}}}).Draw(t, "other")
}

func anyRegistration(t *rapid.T, node cluster.NodeID) cluster.Register {
	c := registration(often(t, "name", node, ""))
	c.Node.Incarnation = rapid.SampledFrom([]cluster.Incarnation{"a", "b", "c", ""}).Draw(t, "incarnation")
	c.Node.UID = often(t, "uid", c.Node.UID, "other", "")
	c.Node.APIURL = often(t, "url", "http://a", "http://b")
	c.Node.Tags.Custom = often(t, "tags", nil, map[string]string{"zone": "z", "rack": "r"}, map[string]string{})
	return c
}

func anyAcquisition(t *rapid.T, v *cluster.View, node cluster.NodeID, now string) cluster.AcquireLeader {
	inPlace := rapid.IntRange(0, 3).Draw(t, "in place") == 3
	if inPlace {
		node = often(t, "who", v.Key.Holder, node)
	}
	c := cluster.AcquireLeader{Node: node, ExpectTerm: anyTerm(t, v.Key.Term), RulesVersion: anyVersion(t, v.RulesVersion),
		Member: anyMember(t, v, often(t, "whose", node, names...)), InPlace: inPlace, Parent: often(t, "parent", v.Key.Timeline, 0, 1, 7),
		SeenMax: often(t, "seen", v.Key.Timeline, 0, 1, 12, v.Key.Timeline+3), Lease: anyLease(t), Reason: "taken", Time: now}
	c.Standbys, c.K, c.Mode = anyRule(t, v, node)
	return c
}

func anyConfig(t *rapid.T) cluster.Dynamic {
	c := testConfig()
	c.SynchronousMode = often(t, "mode", c.SynchronousMode, cluster.SyncOff, "maybe")
	c.SynchronousNodeCount = often(t, "count", 1, 2, -1)
	c.Lease = anyLease(t)
	c.HeartbeatTimeout = often(t, "heartbeat", time.Second, 2*time.Second, 5*time.Hour)
	c.Parameters = often(t, "parameters", nil, map[string]string{"work_mem": "4MB"}, map[string]string{})
	return c
}
