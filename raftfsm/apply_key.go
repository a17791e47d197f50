package raftfsm

import (
	"fmt"
	"reflect"
	"time"

	"pgquorum/cluster"
)

// maxLeaseTTL bounds a lease far above any that makes sense: LeaseParams.Wait multiplies it by 1.5 million at most, and
// a product beyond int64 would make W negative, so that a taker would not wait at all.
const maxLeaseTTL = time.Hour

// applyClaim makes a node the one that may run initdb. Once there is a system identifier nobody may, also not who
// claimed it and asks again.
func applyClaim(v *cluster.View, c cluster.Claim) outcome {
	first := c.From == ""
	switch {
	case c.Node == "":
		return refuse(c, "it names no node")
	case v.SystemID != "":
		return refuse(c, "claim for %q: the cluster has system identifier %s already", c.Node, v.SystemID)
	case v.Claim == c.Node && (!first || c.ClusterID == v.ClusterID && reflect.DeepEqual(c.Config, v.Config)):
		return same(nil)
	case v.Claim != c.From:
		return refuse(c, "claim for %q in place of %q: the claim is %q's (cluster id %s)", c.Node, c.From, v.Claim, v.ClusterID)
	case first && c.ClusterID == "":
		return refuse(c, "claim for %q: the first claim needs a cluster id", c.Node)
	}
	if first {
		v.ClusterID, v.Config = c.ClusterID, c.Config
	}
	v.Claim = c.Node
	record(v, "", "claimed", c.Node, "%s may create the database cluster (cluster id %s)", c.Node, v.ClusterID)
	return done(nil)
}

// applySetSystemID records PostgreSQL's system identifier, once.
func applySetSystemID(v *cluster.View, c cluster.SetSystemID) outcome {
	switch {
	case c.SystemID == "":
		return refuse(c, "it has no system identifier")
	case c.Node != v.Claim || v.Claim == "":
		return refuse(c, "system identifier %s from %q: the claim is %q's", c.SystemID, c.Node, v.Claim)
	case v.SystemID == c.SystemID:
		return same(nil)
	case v.SystemID != "":
		return refuse(c, "system identifier %s from %q: the cluster has %s already", c.SystemID, c.Node, v.SystemID)
	}
	v.SystemID = c.SystemID
	record(v, "", "system_id_set", c.Node, "the cluster's system identifier is %s", c.SystemID)
	return done(nil)
}

// applyAcquire makes a node the holder of the next term (K7): compare-and-set on the term and the rules' version, so
// that of two takers that saw the same state one wins. It only adds rules (G3): what was acknowledged under the older
// ones is still to be found by the next taker.
func applyAcquire(v *cluster.View, c cluster.AcquireLeader) outcome {
	if acquisitionStands(v, c) {
		return same(v.Key)
	}
	if why := acquireObstacle(v, c); why != "" {
		return refuse(c, "%s", why)
	}
	timeline := v.Key.Timeline
	if !c.InPlace {
		var why string
		if timeline, why = allot(v, c); why != "" {
			return refuse(c, "%s", why)
		}
	}
	v.Key = cluster.LeaderKey{Holder: c.Node, Member: c.Member, Term: c.ExpectTerm + 1, Timeline: timeline, Lease: c.Lease}
	v.Handbacks, v.Refusals = 0, map[cluster.NodeID]cluster.Refusal{}
	v.Extension, v.Pause = nil, nil // those of older terms: G1, nothing outlives its term
	if !c.InPlace {
		enterFork(v, c)
	}
	addRule(v, c.Standbys, c.K, c.Mode)
	record(v, c.Time, "leader_acquired", c.Node, "%s holds the leader key at term %d on timeline %d (in place: %t): %s",
		c.Node, v.Key.Term, timeline, c.InPlace, c.Reason)
	return done(v.Key)
}

// acquisitionStands says whether everything that c asks for is recorded already, as when it is applied a second time.
// Another proposal of the same node for the same term does not stand: its rule or lease would not be the recorded one.
func acquisitionStands(v *cluster.View, c cluster.AcquireLeader) bool {
	k := v.Key
	if k.Term == 0 || k.Term-1 != c.ExpectTerm || k.Holder != c.Node || k.Member != c.Member || k.Lease != c.Lease || k.Released {
		return false
	}
	fork := v.Forks[k.Timeline]
	if allotted := fork.Term == k.Term; allotted == c.InPlace || allotted && fork.Parent != c.Parent {
		return false
	}
	want := cluster.SyncRule{Term: k.Term, Primary: c.Member, Standbys: sortedMembers(c.Standbys), K: c.K, Mode: c.Mode}
	for _, r := range v.Rules {
		if r.Same(want) {
			return true
		}
	}
	return false
}

// acquireObstacle says why the key cannot be acquired so; empty: it can.
func acquireObstacle(v *cluster.View, c cluster.AcquireLeader) string {
	k := v.Key
	switch {
	case c.ExpectTerm != k.Term:
		return fmt.Sprintf("term %d+1 for %q: the term is %d, held by %q", c.ExpectTerm, c.Node, k.Term, k.Holder)
	case c.RulesVersion != v.RulesVersion:
		return fmt.Sprintf("term %d for %q on rules version %d: the rules are at version %d", k.Term+1, c.Node, c.RulesVersion, v.RulesVersion)
	case c.Member.Node != c.Node:
		return fmt.Sprintf("term %d for %q: the data %s is another node's", k.Term+1, c.Node, c.Member.Life())
	case !registered(v, c.Member):
		return fmt.Sprintf("term %d for %q: incarnation %q is not the registered one, %q", k.Term+1, c.Node, c.Member.Incarnation, v.Nodes[c.Node].Incarnation)
	case c.InPlace && (k.Holder != c.Node || k.Member != c.Member):
		return fmt.Sprintf("term %d for %q in place: timeline %d is %s's", k.Term+1, c.Member.Life(), k.Timeline, k.Member.Life())
	}
	if why := leaseObstacle(c.Lease); why != "" {
		return why
	}
	return ruleObstacle(v, c.Member, c.Standbys, c.K, c.Mode)
}

// leaseObstacle says why a lease cannot be recorded: W could not be computed from it (L4); empty: it can. The full
// check against Raft's timings is the config's.
func leaseObstacle(l cluster.LeaseParams) string {
	if l.Watchdog < 0 || l.Watchdog > cluster.MaxWatchdog {
		return fmt.Sprintf("lease with a watchdog of %v: want 0 to %v", l.Watchdog, cluster.MaxWatchdog)
	}
	if l.TTL <= 0 || l.TTL > maxLeaseTTL || l.Fence < 0 || l.Fence >= l.TTL || l.RhoPPM < 0 || l.RhoPPM >= 500_000 {
		return fmt.Sprintf("lease of ttl %v, fence %v, rho %d ppm: want 0 < ttl <= %v, 0 <= fence < ttl, 0 <= rho < 500000 ppm",
			l.TTL, l.Fence, l.RhoPPM, maxLeaseTTL)
	}
	return ""
}

// applyRelease gives the key back (B1). The guard's fenced answer is the proposer's business (U4).
func applyRelease(v *cluster.View, c cluster.ReleaseLeader) outcome {
	if why := notHolder(v, c.Node, c.Term); why != "" {
		return refuse(c, "%s", why)
	}
	if v.Key.Released {
		return same(nil)
	}
	v.Key.Released = true
	record(v, c.Time, "leader_released", c.Node, "%s gave the leader key of term %d back: %s", c.Node, c.Term, c.Reason)
	return done(nil)
}

// applyCountHandback counts one more hand-back in the key's term (K3). It is the one command that counts again when it
// is applied again: that ends the hand-backs sooner, which is safe.
func applyCountHandback(v *cluster.View, c cluster.CountHandback) outcome {
	if c.Term != v.Key.Term || v.Key.Term == 0 {
		return refuse(c, "hand-back in term %d: the term is %d, held by %q", c.Term, v.Key.Term, v.Key.Holder)
	}
	v.Handbacks++
	record(v, "", "handed_back", v.Key.Holder, "Raft leadership handed back to %s, time %d in term %d", v.Key.Holder, v.Handbacks, c.Term)
	return done(v.Handbacks)
}

// applyRefuse records that a node cannot take the next term (K6).
func applyRefuse(v *cluster.View, c cluster.Refuse) outcome {
	switch {
	case c.Node == "":
		return refuse(c, "it names no node")
	case c.Term != v.Key.Term+1:
		return refuse(c, "refusal of %q for term %d: the next term is %d", c.Node, c.Term, v.Key.Term+1)
	}
	refusal := cluster.Refusal{Term: c.Term, Reason: c.Reason}
	if v.Refusals[c.Node] == refusal {
		return same(nil)
	}
	v.Refusals = with(v.Refusals, c.Node, refusal)
	record(v, "", "candidate_refused", c.Node, "%s cannot take term %d: %s", c.Node, c.Term, c.Reason)
	return done(nil)
}

// applySetLease changes the lease of the holder's term (L4).
func applySetLease(v *cluster.View, c cluster.SetLease) outcome {
	if why := notHolder(v, c.Node, c.Term); why != "" {
		return refuse(c, "%s", why)
	}
	if why := leaseObstacle(c.Lease); why != "" {
		return refuse(c, "%s", why)
	}
	if v.Key.Lease == c.Lease {
		return same(nil)
	}
	v.Key.Lease = c.Lease
	record(v, "", "lease_changed", c.Node, "the lease of term %d is %v, fence %v, rho %d ppm", c.Term, c.Lease.TTL, c.Lease.Fence, c.Lease.RhoPPM)
	return done(nil)
}

// notHolder says why a command of (node, term) is not the holder's (G1); empty: it is.
func notHolder(v *cluster.View, node cluster.NodeID, term cluster.Term) string {
	if node == "" || node != v.Key.Holder || term != v.Key.Term {
		return fmt.Sprintf("asked by %q at term %d: the key is %q's at term %d", node, term, v.Key.Holder, v.Key.Term)
	}
	return ""
}
