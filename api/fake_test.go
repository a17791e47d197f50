package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"pgquorum/cluster"
)

const (
	second  = cluster.Instant(time.Second)
	someLSN = cluster.LSN(0x3000060)
)

// fakeSource is a node in memory: tests change its state between requests.
type fakeSource struct {
	mu      sync.Mutex
	snap    *cluster.Snapshot
	lease   cluster.Lease
	now     cluster.Instant
	result  cluster.ActionResult
	asked   []cluster.SwitchoverRequest
	checked []cluster.SwitchoverRequest
	during  func(ctx context.Context) // runs inside Switchover
}

func (f *fakeSource) Snapshot() *cluster.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snap
}

func (f *fakeSource) Lease() cluster.Lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lease
}

func (f *fakeSource) Now() cluster.Instant {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeSource) Switchover(ctx context.Context, req cluster.SwitchoverRequest) cluster.ActionResult {
	f.mu.Lock()
	f.asked = append(f.asked, req)
	during, result := f.during, f.result
	f.mu.Unlock()
	if during != nil {
		during(ctx)
	}
	return result
}

func (f *fakeSource) CheckSwitchover(_ context.Context, req cluster.SwitchoverRequest) cluster.ActionResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checked = append(f.checked, req)
	return f.result
}

// edit changes the snapshot as the agent does: by putting another in its place.
func (f *fakeSource) edit(change func(*fakeSource)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, view := *f.snap, *f.snap.View
	snap.View, f.snap = &view, &snap
	change(f)
}

func member(name string) cluster.Member {
	return cluster.Member{Node: cluster.NodeID(name), Incarnation: cluster.Incarnation(name + "data")}
}

// primarySource is n1, a healthy primary of three nodes in mode quorum, k = 1, seen by itself.
func primarySource() *fakeSource {
	now := 1000 * second
	v := &cluster.View{
		ClusterID: "c1",
		Index:     42, Scope: "main", SystemID: "7123456789012345678",
		Key: cluster.LeaderKey{Holder: "n1", Member: member("n1"), Term: 7, Timeline: 3, Lease: cluster.DefaultLease(time.Second)},
		Nodes: map[cluster.NodeID]cluster.Node{
			"n1": registered("n1", "10.0.0.1"), "n2": registered("n2", "10.0.0.2"), "n3": registered("n3", "10.0.0.3"),
		},
		Forks: cluster.Forks{
			1: {Timeline: 1, Node: "n1", Term: 1},
			2: {Timeline: 2, Parent: 1, LSN: 0x2000000, Node: "n2", Term: 4, Reason: "failover", Time: "2026-01-02T03:04:05.678Z"},
			3: {Timeline: 3, Parent: 2, LSN: 0x3000000, Node: "n1", Term: 7, Reason: "switchover", Time: "2026-01-03T03:04:05.678Z"},
		},
		Rules: []cluster.SyncRule{{ID: 9, Term: 7, Primary: member("n1"), Timeline: 3,
			Standbys: []cluster.Member{member("n2"), member("n3")}, K: 1, Mode: cluster.SyncQuorum}},
		Config: cluster.Dynamic{SynchronousMode: cluster.SyncQuorum, SynchronousNodeCount: 1, MaximumLagOnFailover: 1 << 20,
			PrimaryStartTimeout: 300 * time.Second, PrimaryStopTimeout: 30 * time.Second, HeartbeatTimeout: time.Second,
			Lease: cluster.DefaultLease(time.Second), Parameters: map[string]string{"work_mem": "8MB", "max_connections": "200"}},
		Events: []cluster.Event{
			{ID: 1, Time: "2026-01-01T00:00:00Z", Type: "bootstrap", Node: "n1", Term: 1},
			{ID: 2, Time: "2026-01-02T03:04:05.678Z", Type: "failover", Node: "n2", Term: 4},
			{ID: 3, Time: "2026-01-03T03:04:05.678Z", Type: "switchover", Node: "n1", Term: 7},
		},
	}
	snap := &cluster.Snapshot{
		Self: "n1", View: v, Local: primaryStatus("n1"), LocalAt: now, Acquired: true, GateOpen: true, LoopTurn: now, KFull: 1,
		Phase:     "primary",
		PhaseTime: map[string]time.Duration{"noticed": 12 * time.Millisecond, "promoted": 80 * time.Millisecond},
		Peers: map[cluster.NodeID]cluster.PeerView{
			"n2": {Status: standbyStatus("n2"), At: now}, "n3": {Status: standbyStatus("n3"), At: now},
		},
	}
	return &fakeSource{snap: snap, lease: cluster.Lease{Term: 7, RaftTerm: 11, End: now.Add(800 * time.Millisecond)}, now: now}
}

// standbySource is the same cluster seen by n2, a healthy standby.
func standbySource() *fakeSource {
	f := primarySource()
	f.snap.Self, f.snap.Local = "n2", standbyStatus("n2")
	f.snap.Acquired, f.snap.GateOpen, f.snap.PhaseTime = false, false, nil
	f.snap.Phase = "standby"
	f.snap.Peers = map[cluster.NodeID]cluster.PeerView{
		"n1": {Status: primaryStatus("n1"), At: f.now}, "n3": {Status: standbyStatus("n3"), At: f.now},
	}
	f.lease = cluster.Lease{}
	return f
}

func registered(name, host string) cluster.Node {
	return cluster.Node{Name: cluster.NodeID(name), Incarnation: member(name).Incarnation, RaftAddr: host + ":7400",
		APIURL: "http://" + host + ":8008/patroni", PostgresAddr: host + ":5432"}
}

func primaryStatus(name string) cluster.NodeStatus {
	return cluster.NodeStatus{
		Node: cluster.NodeID(name), KeyTerm: 7, Lease: 700 * time.Millisecond, LeaseTerm: 7,
		Raft:  cluster.RaftStatus{State: cluster.RaftLeader, Term: 11, Leader: cluster.NodeID(name), Commit: 42, Applied: 42},
		Guard: cluster.GuardStatus{Alive: true, Term: 7, NoPrimary: 3, Containment: "cgroup"},
		Phase: "primary",
		Postgres: cluster.PostgresStatus{
			Data: cluster.DataOurs, SystemID: "7123456789012345678", Incarnation: member(name).Incarnation,
			State: cluster.PostgresRunning, Role: cluster.RolePrimary, Version: 150004,
			StartTime: "2026-01-03T03:00:00.123456Z", Timeline: 3, Current: someLSN,
			Replication: []cluster.WalSender{{PID: 5, AppName: "n2_n2data_3", Addr: "10.0.0.2", State: "streaming", Sync: "quorum"}},
		},
	}
}

func standbyStatus(name string) cluster.NodeStatus {
	return cluster.NodeStatus{
		Node: cluster.NodeID(name), KeyTerm: 7,
		Raft:  cluster.RaftStatus{State: cluster.RaftFollower, Term: 11, Leader: "n1", Commit: 42, Applied: 42, LastContact: 20 * time.Millisecond},
		Guard: cluster.GuardStatus{Alive: true, Containment: "cgroup"},
		Phase: "standby",
		Postgres: cluster.PostgresStatus{
			Data: cluster.DataOurs, SystemID: "7123456789012345678", Incarnation: member(name).Incarnation,
			State: cluster.PostgresRunning, Role: cluster.RoleStandby, Version: 150004,
			StartTime: "2026-01-03T03:00:00.123456Z", Timeline: 3, Received: someLSN, Replayed: someLSN,
			ReplayTime: "2026-01-03T04:00:00.5Z", ReplayDelay: 90 * time.Second, Streaming: true, Source: "n1", SourceTerm: 7,
		},
	}
}

func newTestServer(f *fakeSource, change func(*Options)) *Server {
	opt := Options{Source: f, Scope: "main", Name: string(f.snap.Self), Version: "1.2.3"}
	if change != nil {
		change(&opt)
	}
	s := New(opt)
	s.wall = func() time.Time { return time.Date(2026, 1, 4, 0, 0, 0, 0, time.UTC) }
	return s
}

// call asks the handler without a network. Requests come from 192.0.2.1 unless changed.
func call(t testing.TB, s *Server, method, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}
