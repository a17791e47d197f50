package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pgquorum/cluster"
)

// peerOf changes what this node heard of a peer.
func peerOf(f *fakeSource, name cluster.NodeID, change func(*cluster.PeerView)) {
	peers := make(map[cluster.NodeID]cluster.PeerView)
	for n, p := range f.snap.Peers {
		peers[n] = p
	}
	p := peers[name]
	change(&p)
	peers[name] = p
	f.snap.Peers = peers
}

func tagged(f *fakeSource, tags cluster.Tags) {
	nodes := make(map[cluster.NodeID]cluster.Node)
	for name, n := range f.snap.View.Nodes {
		if name == f.snap.Self {
			n.Tags = tags
		}
		nodes[name] = n
	}
	f.snap.View.Nodes = nodes
}

func rule(f *fakeSource, change func(*cluster.SyncRule)) {
	r, _ := f.snap.View.Current()
	change(&r)
	f.snap.View.Rules = []cluster.SyncRule{r}
}

var (
	primaryPaths  = []string{"/", "/primary", "/read-write", "/master"}
	leaderPaths   = append([]string{"/leader", "//leader", "/leader/", "/readiness", "/read-only", "/read-only-sync", "/read-only-synchronous", "/read-only-quorum"}, primaryPaths...)
	standbyChecks = []string{"/replica", "/sync", "/synchronous", "/quorum", "/async", "/asynchronous"}
)

type healthCase struct {
	name string
	edit func(*fakeSource)
	ok   []string // 200
	no   []string // 503
}

// TestHealthPrimary: one healthy primary and one edit a case. The lease cases are L5: /primary is 503 from E - F.
func TestHealthPrimary(t *testing.T) {
	t.Parallel()
	notPrimary := append([]string{"/read-only", "/read-only-sync", "/read-only-quorum"}, primaryPaths...)
	runHealthCases(t, primarySource, []healthCase{
		{"healthy", nil, append([]string{"/health", "/liveness"}, leaderPaths...), append([]string{"/standby-leader", "/standby_leader", "/unknown", "/primaries"}, standbyChecks...)},
		{"L5 a nanosecond before the fence point", func(f *fakeSource) { f.now = f.lease.End.Add(-100*time.Millisecond - 1) }, leaderPaths, nil},
		{"L5 at the fence point", func(f *fakeSource) { f.now = f.lease.End.Add(-100 * time.Millisecond) }, []string{"/health", "/liveness"}, append([]string{"/leader", "//leader", "/readiness"}, notPrimary...)},
		{"no lease", func(f *fakeSource) { f.lease = cluster.Lease{} }, []string{"/health"}, leaderPaths},
		{"L2 lease of another term", func(f *fakeSource) { f.lease.Term = 6 }, []string{"/health"}, leaderPaths},
		{"key names another", func(f *fakeSource) { f.snap.View.Key.Holder = "n2" }, []string{"/health"}, leaderPaths},
		{"key released", func(f *fakeSource) { f.snap.View.Key.Released = true }, []string{"/health"}, leaderPaths},
		{"S4 gate not open", func(f *fakeSource) { f.snap.GateOpen = false }, []string{"/leader", "/readiness"}, notPrimary},
		{"shutting down", func(f *fakeSource) { f.snap.Shutdown = true }, []string{"/leader"}, notPrimary},
		{"other timeline", func(f *fakeSource) { f.snap.Local.Postgres.Timeline = 2 }, []string{"/leader"}, notPrimary},
		{"in recovery still", func(f *fakeSource) { f.snap.Local.Postgres.Role = cluster.RoleStandby }, []string{"/leader", "/health"}, primaryPaths},
		{"hung", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresHung }, []string{"/leader"}, append([]string{"/health"}, notPrimary...)},
		{"stopped", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresStopped }, []string{"/liveness"}, append([]string{"/health"}, notPrimary...)},
		{"tags do not matter to /primary", nil, []string{"/primary?tag_rack=a"}, []string{"/read-only?tag_rack=a", "/health?tag_rack=a"}},
		{"loop stuck", func(f *fakeSource) { f.snap.LoopTurn = f.now - 30*second }, primaryPaths, []string{"/liveness"}},
		{"loop never went round", func(f *fakeSource) { f.snap.LoopTurn = 0 }, nil, []string{"/liveness"}},
		{"loop stuck, paused", func(f *fakeSource) { f.snap.LoopTurn, f.snap.View.Pause = 0, &cluster.Pause{} }, []string{"/liveness"}, nil},
	})
}

// TestHealthStandby: one healthy quorum standby and one edit a case.
func TestHealthStandby(t *testing.T) {
	t.Parallel()
	quorum := []string{"/replica", "/quorum", "/read-only", "/read-only-quorum", "/readiness", "/health", "/liveness"}
	none := []string{"/replica", "/quorum", "/sync", "/async", "/read-only", "/read-only-quorum", "/read-only-sync"}
	behind := func(f *fakeSource) {
		f.snap.Local.Postgres.Replayed = someLSN - 20000
		f.snap.Local.Postgres.Received = someLSN - 5000
	}
	runHealthCases(t, standbySource, []healthCase{
		{"healthy", nil, quorum, append([]string{"/leader", "/sync", "/async", "/read-only-sync", "/standby-leader", "/what"}, primaryPaths...)},
		{"not in the list", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.Standbys = r.Standbys[1:] }) }, []string{"/replica", "/async", "/asynchronous", "/read-only"}, []string{"/quorum", "/sync", "/read-only-quorum"}},
		{"V5 cloned anew: another incarnation", func(f *fakeSource) { f.snap.Local.Postgres.Incarnation = "new" }, []string{"/replica", "/async"}, []string{"/quorum"}},
		{"k is 0", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.K = 0 }) }, []string{"/async"}, []string{"/quorum"}},
		{"no rule at all", func(f *fakeSource) { f.snap.View.Rules = nil }, []string{"/async"}, []string{"/quorum", "/sync"}},
		{"only the newest rule counts", func(f *fakeSource) {
			r, _ := f.snap.View.Current()
			f.snap.View.Rules = []cluster.SyncRule{r, {Primary: member("n1"), Mode: cluster.SyncQuorum}}
		}, []string{"/async"}, []string{"/quorum"}},
		{"not streaming", func(f *fakeSource) { f.snap.Local.Postgres.Streaming = false }, []string{"/replica", "/async"}, []string{"/quorum", "/readiness", "/replica?replication_state=streaming"}},
		{"S7 mode on", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.Mode = cluster.SyncOn }) }, []string{"/sync", "/synchronous", "/read-only-sync", "/read-only-synchronous", "/replica"}, []string{"/quorum", "/async", "/read-only-quorum"}},
		{"mode off", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.Mode = cluster.SyncOff }) }, []string{"/async"}, []string{"/sync", "/quorum"}},
		{"noloadbalance", func(f *fakeSource) { tagged(f, cluster.Tags{NoLoadBalance: true}) }, []string{"/health", "/readiness"}, none},
		{"stopped", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresStopped }, []string{"/liveness"}, append([]string{"/health", "/readiness"}, none...)},
		{"hung", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresHung }, []string{"/liveness"}, append([]string{"/health", "/readiness"}, none...)},
		{"shutting down", func(f *fakeSource) { f.snap.Shutdown = true }, []string{"/health"}, none},
		{"behind", behind, []string{"/replica", "/replica?lag=20000", "/replica?lag=20kB", "/replica?lag=", "/replica?lag=much", "/replica?lag=10mb", "/readiness", "/readiness?lag=20000", "/readiness?lag=5000&mode=write"},
			[]string{"/replica?lag=19999", "/replica?lag=0", "/quorum?lag=1kB", "/read-only?lag=1kB", "/async?lag=1kB", "/readiness?lag=19999", "/readiness?lag=4999&mode=write", "/readiness?lag=5000&mode=apply"}},
		{"far behind", func(f *fakeSource) { f.snap.Local.Postgres.Replayed = someLSN - 1<<20 - 1 }, []string{"/replica"}, []string{"/readiness", "/replica?lag=1MB"}},
		{"primary's position from the FSM", func(f *fakeSource) {
			f.snap.Peers = nil
			f.snap.View.LastLSN = cluster.LastLSN{Term: 7, Position: cluster.Position{Timeline: 3, LSN: someLSN + 4096}}
		}, []string{"/replica?lag=4kB"}, []string{"/replica?lag=4095"}},
		{"the FSM's position is of an older term", func(f *fakeSource) {
			f.snap.Peers = nil
			f.snap.View.LastLSN = cluster.LastLSN{Term: 6, Position: cluster.Position{Timeline: 3, LSN: someLSN + 4096}}
		}, []string{"/replica?lag=0"}, nil},
		{"primary unknown, what was received shows the lag", func(f *fakeSource) {
			f.snap.Peers = nil
			f.snap.Local.Postgres.Replayed -= 4096
		}, []string{"/replica?lag=4kB", "/readiness"}, []string{"/replica?lag=4095"}},
		{"nothing known of the primary", func(f *fakeSource) { f.snap.Peers, f.snap.Local.Postgres.Received = nil, 0 }, []string{"/replica?lag=1"}, []string{"/readiness"}},
		{"caught up with an idle primary", nil, []string{"/replica?max_age=1", "/replica?max_age=0.5"}, nil},
		{"caught up, as of long ago", func(f *fakeSource) { f.now += 2 * second }, []string{"/replica?max_age=3", "/replica?max_age=100"}, []string{"/replica?max_age=1"}},
		{"age of the last replayed commit", behind, []string{"/replica?max_age=90"}, []string{"/replica?max_age=89", "/replica?max_age=x", "/replica?max_age=-1", "/replica?max_age=0"}},
		{"age unknown", func(f *fakeSource) { behind(f); f.snap.Local.Postgres.ReplayTime = "" }, []string{"/replica"}, []string{"/replica?max_age=1000"}},
		{"read your writes", nil, []string{"/replica?min_lsn=0/3000060"}, []string{"/replica?min_lsn=0/3000061", "/replica?min_lsn=x"}},
		{"tags", func(f *fakeSource) {
			tagged(f, cluster.Tags{NoSync: true, FailoverPriority: 2, Custom: map[string]string{"rack": "a"}})
		}, []string{"/replica?tag_rack=a", "/replica?tag_nosync=true&tag_rack=a", "/replica?tag_failover_priority=2"}, []string{"/replica?tag_rack=b", "/replica?tag_site=a", "/quorum?tag_rack=b", "/health?tag_rack=b"}},
	})
}

func runHealthCases(t *testing.T, base func() *fakeSource, cases []healthCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := base()
			if tc.edit != nil {
				f.edit(tc.edit)
			}
			s := newTestServer(f, nil)
			for _, path := range tc.ok {
				wantHealth(t, s, path, http.StatusOK)
			}
			for _, path := range tc.no {
				wantHealth(t, s, path, http.StatusServiceUnavailable)
			}
		})
	}
}

// wantHealth asks all three methods: one code, and a body for GET only.
func wantHealth(t *testing.T, s *Server, path string, want int) {
	t.Helper()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
		w := callRaw(t, s, method, path)
		if w.Code != want {
			t.Errorf("%s %s: got %d, want %d", method, path, w.Code, want)
		}
		bodyless := method != http.MethodGet || path == "/liveness" || len(path) >= 10 && path[:10] == "/readiness"
		if bodyless != (w.Body.Len() == 0) {
			t.Errorf("%s %s: body of %d bytes", method, path, w.Body.Len())
		}
		if !bodyless && w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: content type %q", method, path, w.Header().Get("Content-Type"))
		}
	}
}

// callRaw asks for a path as it is: httptest.NewRequest would read "//leader" as a host.
func callRaw(t testing.TB, s *Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	return call(t, s, method, "http://node:8008"+path, nil)
}

// TestPrimaryIsJudgedAtRequestTime: a demoted node's /primary is 503 at once, with the same old snapshot (L5).
func TestPrimaryIsJudgedAtRequestTime(t *testing.T) {
	t.Parallel()
	f := primarySource()
	s := newTestServer(f, nil)
	wantHealth(t, s, "/primary", http.StatusOK)
	f.mu.Lock()
	f.now = f.lease.FencePoint(f.snap.View.Key.Lease)
	f.mu.Unlock()
	wantHealth(t, s, "/primary", http.StatusServiceUnavailable)
	f.mu.Lock()
	f.lease.End = f.lease.End.Add(time.Second)
	f.mu.Unlock()
	wantHealth(t, s, "/primary", http.StatusOK)
	f.mu.Lock()
	f.lease = cluster.Lease{}
	f.mu.Unlock()
	wantHealth(t, s, "/primary", http.StatusServiceUnavailable)
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	const none = ^uint64(0)
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, " 16 ": 16, "16MB": 16 << 20, "16 MB": 16 << 20, "1kB": 1024, "2GB": 2 << 30, "1TB": 1 << 40, "5B": 5,
		"0x400": 1024, "0x400 kB": 1 << 20, "010": 8, "1.5kB": 1536, ".5kB": 512, "1e3": 1000, "1e1kB": 10240, "1.0001MB": 1 << 20,
		"2.5": 2, "3.5": 4, "-5": 0, "+5": 5,
		"": none, "MB": none, "x": none, "1 XB": none, "10mb": none, "10KB": none, "08": none, "1..5": none, "99999999999999999999": none,
		"9999999TB": none, "1e400": none, "1MB2": none,
	} {
		got, ok := parseBytes(text)
		if ok != (want != none) || ok && got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, ok, want)
		}
	}
}
