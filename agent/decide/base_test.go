package decide

import (
	"time"

	"pgquorum/cluster"
)

const (
	testHeartbeat = time.Second
	testNow       = cluster.Instant(1_000_000_000_000)
)

func member(n string) cluster.Member {
	return cluster.Member{Node: cluster.NodeID(n), Incarnation: cluster.Incarnation(n + "-life")}
}

func pos(t cluster.Timeline, lsn cluster.LSN) cluster.Position {
	return cluster.Position{Timeline: t, LSN: lsn}
}

func promised(n string, term cluster.Term, p cluster.Position) cluster.Promise {
	return cluster.Promise{Term: term, Member: member(n), Position: p, Fenced: true}
}

// healthy is a cluster of n1 (key holder, term 3, timeline 2), n2 and n3, as seen by self, with nothing to do.
func healthy(self string) *Observation {
	lease := cluster.DefaultLease(testHeartbeat)
	v := &cluster.View{
		SystemID: "7000", ClusterID: "c", Claim: "n1",
		Key:   cluster.LeaderKey{Holder: "n1", Member: member("n1"), Term: 3, Timeline: 2, Lease: lease},
		Nodes: map[cluster.NodeID]cluster.Node{},
		Forks: cluster.Forks{1: {Timeline: 1, Term: 1, Node: "n1"}, 2: {Timeline: 2, Parent: 1, LSN: 500, Term: 3, Node: "n1"}},
		Rules: []cluster.SyncRule{{ID: 4, Term: 3, Primary: member("n1"), Timeline: 2, Standbys: []cluster.Member{member("n2"), member("n3")}, K: 1, Mode: cluster.SyncQuorum}},
		Config: cluster.Dynamic{SynchronousMode: cluster.SyncQuorum, SynchronousNodeCount: 1, MaximumLagOnFailover: 100,
			PrimaryStartTimeout: time.Minute, PrimaryStopTimeout: time.Minute},
		RulesVersion: 9,
	}
	o := &Observation{
		Now: testNow, Self: cluster.NodeID(self), View: v, Heartbeat: testHeartbeat, Lease0: lease,
		UseRewind: true,
		Members:   []cluster.NodeID{"n1", "n2", "n3"}, Voters: [][]cluster.NodeID{{"n1", "n2", "n3"}},
		Peers: map[cluster.NodeID]cluster.PeerView{}, Retry: map[Action]cluster.Instant{}, Failures: map[Action]Failures{},
		TakeOver: TakeOver{Term: 4, Statuses: map[cluster.NodeID]cluster.NodeStatus{}, Silent: map[cluster.NodeID]string{}, Promises: map[cluster.NodeID]cluster.Promise{}, Attests: map[cluster.NodeID]cluster.Attest{}},
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		id := cluster.NodeID(n)
		v.Nodes[id] = cluster.Node{Name: id, UID: cluster.UID(n), Incarnation: member(n).Incarnation, PostgresAddr: n + ":5432", Tags: cluster.Tags{FailoverPriority: 1}}
		s := statusFor(n)
		if n == self {
			o.Local, o.Node, o.Position, o.Promised = s, v.Nodes[id], s.Position, s.Promised
			o.Node.Incarnation = ""
		} else {
			o.Peers[id] = cluster.PeerView{Status: s, At: testNow.Add(-100 * time.Millisecond)}
		}
	}
	o.Raft = cluster.RaftStatus{State: cluster.RaftFollower, Term: 7, Leader: "n1", Voters: []cluster.NodeID{"n1", "n2", "n3"}}
	if self == "n1" {
		o.Raft.State, o.Barrier, o.RuleProven = cluster.RaftLeader, true, true
		o.LeaseState = LeaseLive
		o.Lease = cluster.Lease{Term: 3, RaftTerm: 7, End: testNow.Add(600 * time.Millisecond)}
	}
	return o
}

func statusFor(n string) cluster.NodeStatus {
	p := cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", Incarnation: member(n).Incarnation, State: cluster.PostgresRunning, Timeline: 2}
	s := cluster.NodeStatus{Node: cluster.NodeID(n), Promised: 3, Position: pos(2, 1000), Guard: cluster.GuardStatus{Alive: true}}
	if n == "n1" {
		p.Role, p.Current = cluster.RolePrimary, 1000
		for _, m := range []string{"n2", "n3"} {
			p.Replication = append(p.Replication, cluster.WalSender{AppName: member(m).AppName(2), State: "streaming", Flushed: 1000})
		}
		s.LeaseTerm, s.Lease, s.CanPromote = 3, 500*time.Millisecond, "its postgres is no standby"
	} else {
		p.Role, p.Streaming, p.Received, p.Replayed, p.Source, p.SourceTerm, p.SourceTimeline = cluster.RoleStandby, true, 1000, 1000, "n1", 3, 2
	}
	s.Postgres = p
	return s
}

// failed makes an action have failed so often in a row, in the key's term.
func failed(o *Observation, a Action, n int) {
	o.Failures[a] = Failures{InARow: n, Term: o.View.Key.Term, InTerm: n}
}

// taking is n2 as Raft leader after n1 has died: everything is gathered, the lease is over, n2 and n3 have promised.
func taking() *Observation {
	o := healthy("n2")
	o.Raft = cluster.RaftStatus{State: cluster.RaftLeader, Term: 8, Leader: "n2", Voters: o.Raft.Voters}
	o.Barrier = true
	o.Peers["n1"] = cluster.PeerView{Status: statusFor("n1"), At: testNow.Add(-5 * time.Second), Err: "no answer"}
	o.TakeOver.RaftTerm, o.TakeOver.BarrierAt = 8, testNow.Add(-2*time.Second)
	o.TakeOver.AskedAt, o.TakeOver.PromisedAt = testNow, testNow
	o.TakeOver.Statuses["n3"] = statusFor("n3")
	o.TakeOver.Promises["n2"] = promised("n2", 4, pos(2, 1000))
	o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1000))
	o.Promised = 4
	return o
}
