package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

func getJSON(t *testing.T, s *Server, path string) any {
	t.Helper()
	w := call(t, s, http.MethodGet, path, nil)
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Fatalf("GET %s: %d %s %s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return v
}

func wantJSON(t *testing.T, got any, want string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, v) {
		text, _ := json.MarshalIndent(got, "", "  ")
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

const ownPrimary = `{"version":"1.2.3","cluster_id":"c1","term":7,"lease_ms":700,
	"raft":{"state":"leader","leader":"n1","term":11,"commit_index":42,"last_contact_ms":0},
	"guard":{"alive":true,"term":7,"no_primary":3,"frozen":0,"containment":"cgroup"},
	"sync":{"mode":"quorum","set":["n2","n3"],"k":1,"k_full":1,"rules":1},
	"data":"ours","phase":"primary","failover":[{"phase":"noticed","ms":12},{"phase":"promoted","ms":80}]}`

const ownStandby = `{"version":"1.2.3","cluster_id":"c1","term":7,"lease_ms":0,
	"raft":{"state":"follower","leader":"n1","term":11,"commit_index":42,"last_contact_ms":20},
	"guard":{"alive":true,"term":0,"no_primary":0,"frozen":0,"containment":"cgroup"},
	"sync":{"mode":"quorum","set":["n2","n3"],"k":1,"k_full":1,"rules":1},
	"data":"ours","phase":"standby"}`

// TestStatus: the fields of Patroni 4.1's /patroni (get_postgresql_status and _write_status_response in patroni/api.py).
func TestStatus(t *testing.T) {
	t.Parallel()
	primary := `{"state":"running","postmaster_start_time":"2026-01-03 03:00:00.123456+00:00","role":"primary",
		"server_version":150004,"xlog":{"location":50331744},"timeline":3,
		"replication":[{"application_name":"n2_n2data_3","client_addr":"10.0.0.2","state":"streaming","sync_state":"quorum"}],
		"dcs_last_seen":1767484800,"database_system_identifier":"7123456789012345678",
		"patroni":{"version":"4.1.4","scope":"main","name":"n1"},"pgquorum":` + ownPrimary + `}`
	standby := `{"state":"running","postmaster_start_time":"2026-01-03 03:00:00.123456+00:00","role":"replica",
		"server_version":150004,"xlog":{"received_location":50331744,"replayed_location":50331744,
		"replayed_timestamp":"2026-01-03 04:00:00.500000+00:00","paused":false},"timeline":3,"replication_state":"streaming",
		"quorum_standby":true,"dcs_last_seen":1767484799,"database_system_identifier":"7123456789012345678",
		"patroni":{"version":"4.1.4","scope":"main","name":"n2"},"pgquorum":` + ownStandby + `}`
	for _, path := range []string{"/patroni", "/status", "/primary", "/whatever"} {
		w := call(t, newTestServer(primarySource(), nil), http.MethodGet, path, nil)
		var got any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(path, err)
		}
		wantJSON(t, got, primary)
	}
	wantJSON(t, getJSON(t, newTestServer(standbySource(), nil), "/patroni"), standby)
}

// TestStatusEdits: one healthy standby and one edit a case; the named fields are as given, null meaning left out.
func TestStatusEdits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		edit func(*fakeSource)
		want string
	}{
		{"stopped", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresStopped }, `{"state":"stopped","role":"replica","xlog":null,"timeline":null,"server_version":null,"quorum_standby":null}`},
		{"hung", func(f *fakeSource) { f.snap.Local.Postgres.State = cluster.PostgresHung }, `{"state":"unknown"}`},
		{"no data", func(f *fakeSource) {
			f.snap.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		}, `{"role":"uninitialized","database_system_identifier":"7123456789012345678"}`},
		{"paused", func(f *fakeSource) { f.snap.View.Pause = &cluster.Pause{} }, `{"pause":true}`},
		{"key released", func(f *fakeSource) { f.snap.View.Key.Released = true }, `{"cluster_unlocked":true}`},
		{"no holder", func(f *fakeSource) { f.snap.View.Key.Holder = "" }, `{"cluster_unlocked":true}`},
		{"pending restart", func(f *fakeSource) { f.snap.Local.Postgres.PendingRestart = true }, `{"pending_restart":true}`},
		{"watchdog missing", watchdogIs(cluster.WatchdogStatus{Mode: cluster.WatchdogRequired, Problem: "no device"}), `{"watchdog_failed":true}`},
		{"watchdog missing, and not required", watchdogIs(cluster.WatchdogStatus{Mode: cluster.WatchdogAutomatic, Problem: "no device"}), `{"watchdog_failed":null}`},
		{"mode on", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.Mode = cluster.SyncOn }) }, `{"sync_standby":true,"quorum_standby":null}`},
		{"no receiver", func(f *fakeSource) {
			f.snap.Local.Postgres.Received, f.snap.Local.Postgres.Streaming, f.snap.Local.Postgres.ReplayTime = 0, false, ""
		}, `{"xlog":{"received_location":50331744,"replayed_location":50331744,"paused":false},"replication_state":null}`},
		{"tags", func(f *fakeSource) {
			tagged(f, cluster.Tags{NoFailover: true, FailoverPriority: 1, Location: "a", Custom: map[string]string{"rack": "r1"}})
		}, `{"tags":{"nofailover":true,"location":"a","rack":"r1"}}`},
		{"never heard of a leader", func(f *fakeSource) { f.snap.Local.Raft.Leader, f.snap.Local.Raft.LastContact = "", 0 }, `{"dcs_last_seen":0}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := standbySource()
			f.edit(tc.edit)
			got := getJSON(t, newTestServer(f, nil), "/patroni").(map[string]any)
			var want map[string]any
			if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			for field, value := range want {
				if !reflect.DeepEqual(got[field], value) {
					t.Errorf("%s: got %v, want %v", field, got[field], value)
				}
			}
		})
	}
}

// TestStatusCache: the body is made anew for a new snapshot, a new term or after 50 ms, and not between.
func TestStatusCache(t *testing.T) {
	t.Parallel()
	f := primarySource()
	s := newTestServer(f, nil)
	lease := func() float64 {
		return getJSON(t, s, "/patroni").(map[string]any)["pgquorum"].(map[string]any)["lease_ms"].(float64)
	}
	for _, tc := range []struct {
		at   time.Duration
		want float64
	}{{0, 700}, {49 * time.Millisecond, 700}, {50 * time.Millisecond, 650}, {800 * time.Millisecond, 0}} {
		f.mu.Lock()
		f.now = 1000 * second
		f.now = f.now.Add(tc.at)
		f.mu.Unlock()
		if got := lease(); got != tc.want {
			t.Errorf("after %v: lease_ms %v, want %v", tc.at, got, tc.want)
		}
	}
	f.edit(func(f *fakeSource) { f.snap.Phase = "stopping" })
	if got := call(t, s, http.MethodGet, "/patroni", nil).Body.String(); !strings.Contains(got, `"phase":"stopping"`) {
		t.Error("a new snapshot is not shown:", got)
	}
}

const clusterGolden = `{"scope":"main","members":[
	{"name":"n1","role":"leader","state":"running","api_url":"http://10.0.0.1:8008/patroni","host":"10.0.0.1","port":5432,"timeline":3,
	 "pgquorum":{"seen_ms":0,"phase":"primary","raft":"leader"}},
	{"name":"n2","role":"quorum_standby","state":"streaming","api_url":"http://10.0.0.2:8008/patroni","host":"10.0.0.2","port":5432,"timeline":3,
	 "lsn":"0/3000060","lag":0,"receive_lsn":"0/3000060","receive_lag":0,"replay_lsn":"0/3000060","replay_lag":0,
	 "pgquorum":{"seen_ms":0,"phase":"standby","raft":"follower"}},
	{"name":"n3","role":"quorum_standby","state":"streaming","api_url":"http://10.0.0.3:8008/patroni","host":"10.0.0.3","port":5432,"timeline":3,
	 "lsn":"0/3000060","lag":0,"receive_lsn":"0/3000060","receive_lag":0,"replay_lsn":"0/3000060","replay_lag":0,
	 "pgquorum":{"seen_ms":0,"phase":"standby","raft":"follower"}}]}`

// TestCluster: the fields of Patroni 4.1's /cluster (cluster_as_json in patroni/utils.py); the same on leader and standby.
func TestCluster(t *testing.T) {
	t.Parallel()
	wantJSON(t, getJSON(t, newTestServer(primarySource(), nil), "/cluster"), clusterGolden)
	wantJSON(t, getJSON(t, newTestServer(standbySource(), nil), "/cluster"), clusterGolden)
}

// TestClusterEdits: n2's view of the cluster, one edit a case; what n1, n2 and n3 show as "role state lag receive replay".
func TestClusterEdits(t *testing.T) {
	t.Parallel()
	healthy := [3]string{"leader running - - -", "quorum_standby streaming 0 0 0", "quorum_standby streaming 0 0 0"}
	with := func(i int, text string) [3]string { w := healthy; w[i] = text; return w }
	for _, tc := range []struct {
		name string
		edit func(*fakeSource)
		want [3]string
	}{
		{"healthy", func(*fakeSource) {}, healthy},
		{"n3 behind", func(f *fakeSource) {
			peerOf(f, "n3", func(p *cluster.PeerView) {
				p.Status.Postgres.Received -= 16
				p.Status.Postgres.Replayed -= 64
			})
		}, with(2, "quorum_standby streaming 16 16 64")},
		{"n3 without a receiver", func(f *fakeSource) {
			peerOf(f, "n3", func(p *cluster.PeerView) { p.Status.Postgres.Received, p.Status.Postgres.Streaming = 0, false })
		}, with(2, "replica running 0 unknown 0")},
		{"n3 not heard of late", func(f *fakeSource) {
			peerOf(f, "n3", func(p *cluster.PeerView) { p.At, p.Err = f.now-4*second, "timeout" })
		}, with(2, "replica unknown unknown unknown unknown")},
		{"n3 missed one call", func(f *fakeSource) {
			peerOf(f, "n3", func(p *cluster.PeerView) { p.At, p.Err = f.now-second, "timeout" })
		}, healthy},
		{"n3 never heard of", func(f *fakeSource) { peerOf(f, "n3", func(p *cluster.PeerView) { *p = cluster.PeerView{} }) }, with(2, "replica unknown unknown unknown unknown")},
		{"S7 mode on, n3 silent", func(f *fakeSource) {
			rule(f, func(r *cluster.SyncRule) { r.Mode = cluster.SyncOn })
			peerOf(f, "n3", func(p *cluster.PeerView) { *p = cluster.PeerView{} })
		}, [3]string{"leader running - - -", "sync_standby streaming 0 0 0", "sync_standby unknown unknown unknown unknown"}},
		{"mode off", func(f *fakeSource) { rule(f, func(r *cluster.SyncRule) { r.Mode, r.K = cluster.SyncOff, 0 }) },
			[3]string{"leader running - - -", "replica streaming 0 0 0", "replica streaming 0 0 0"}},
		{"V5 n3 cloned anew", func(f *fakeSource) {
			peerOf(f, "n3", func(p *cluster.PeerView) { p.Status.Postgres.Incarnation = "new" })
		}, with(2, "replica streaming 0 0 0")},
		{"holder not heard of", func(f *fakeSource) {
			peerOf(f, "n1", func(p *cluster.PeerView) { p.At = f.now - 4*second })
		}, with(0, "leader unknown - - -")},
		{"holder never heard of", func(f *fakeSource) { peerOf(f, "n1", func(p *cluster.PeerView) { *p = cluster.PeerView{} }) },
			[3]string{"leader unknown - - -", "quorum_standby streaming unknown unknown unknown", "quorum_standby streaming unknown unknown unknown"}},
		{"holder was demoted and says so", func(f *fakeSource) {
			peerOf(f, "n1", func(p *cluster.PeerView) { p.Status = standbyStatus("n1") })
		}, [3]string{"replica streaming unknown unknown unknown", "quorum_standby streaming unknown unknown unknown", "quorum_standby streaming unknown unknown unknown"}},
		{"holder is being promoted", func(f *fakeSource) {
			peerOf(f, "n1", func(p *cluster.PeerView) {
				p.Status.Postgres.Role, p.Status.Postgres.Streaming = cluster.RoleStandby, false
				p.Status.Postgres.Current = 0
			})
		}, [3]string{"leader running - - -", "quorum_standby streaming unknown unknown unknown", "quorum_standby streaming unknown unknown unknown"}},
		{"key released", func(f *fakeSource) { f.snap.View.Key.Released = true }, with(0, "replica running unknown unknown unknown")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := standbySource()
			f.edit(tc.edit)
			for i, m := range getJSON(t, newTestServer(f, nil), "/cluster").(map[string]any)["members"].([]any) {
				fields := m.(map[string]any)
				got := fields["role"].(string) + " " + fields["state"].(string)
				for _, name := range []string{"lag", "receive_lag", "replay_lag"} {
					text, err := json.Marshal(fields[name])
					if err != nil {
						t.Fatal(err)
					}
					got += " " + strings.Trim(strings.ReplaceAll(string(text), "null", "-"), `"`)
				}
				if got != tc.want[i] {
					t.Errorf("n%d: got %q, want %q", i+1, got, tc.want[i])
				}
			}
		})
	}
}

// TestClusterOwnLeaseOver: a holder that knows its lease to be over claims nothing (L5).
func TestClusterOwnLeaseOver(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.edit(func(f *fakeSource) { f.lease = cluster.Lease{} })
	first := getJSON(t, newTestServer(f, nil), "/cluster").(map[string]any)["members"].([]any)[0].(map[string]any)
	if first["role"] != "replica" {
		t.Errorf("role of a holder without a lease: %v", first["role"])
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	f := primarySource()
	s := newTestServer(f, nil)
	wantJSON(t, getJSON(t, s, "/history"), `[[1,33554432,"failover","2026-01-02T03:04:05.678Z","n2"],[2,50331648,"switchover","2026-01-03T03:04:05.678Z","n1"]]`)
	f.edit(func(f *fakeSource) {
		f.snap.View.Forks = cluster.Forks{
			1: {Timeline: 1}, 2: {Timeline: 2, Parent: 1, LSN: 16, Node: "n2"},
			3: {Timeline: 3, Parent: 1, LSN: 32, Node: "n3"}, // n2 gave way: 2 is no ancestor of 3
			4: {Timeline: 4, Parent: 3, Node: "n1"},          // LSN not recorded yet
		}
		f.snap.View.Key.Timeline = 4
	})
	wantJSON(t, getJSON(t, s, "/history"), `[[1,32,"","","n3"]]`)
	f.edit(func(f *fakeSource) { f.snap.View.Forks, f.snap.View.Key = nil, cluster.LeaderKey{} })
	wantJSON(t, getJSON(t, s, "/history"), `[]`)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newTestServer(primarySource(), nil)
	for path, want := range map[string][]float64{
		"/events": {1, 2, 3}, "/events?since=0": {1, 2, 3}, "/events?since=2": {3}, "/events?since=99": {},
		"/events?since=2026-01-02T03:04:05.678Z": {3}, "/events?node=n1": {1, 3}, "/events?type=failover": {2}, "/events?node=n1&type=failover": {},
	} {
		got := []float64{}
		for _, e := range getJSON(t, s, path).([]any) {
			got = append(got, e.(map[string]any)["id"].(float64))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	for path, code := range map[string]int{"/events?since=yesterday": 400, "/events?follow=1": 501} {
		if w := call(t, s, http.MethodGet, path, nil); w.Code != code {
			t.Errorf("%s: got %d, want %d", path, w.Code, code)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	const want = `{"heartbeat_timeout":"1s","lease_ttl":"800ms","maximum_lag_on_failover":1048576,` +
		`"postgresql":{"parameters":{"max_connections":"200","work_mem":"8MB"}},"primary_start_timeout":300,"primary_stop_timeout":30,` +
		`"synchronous_mode":"quorum","synchronous_mode_strict":false,"synchronous_node_count":1}`
	s := newTestServer(primarySource(), nil)
	for range 5 {
		if got := call(t, s, http.MethodGet, "/config", nil).Body.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func watchdogIs(w cluster.WatchdogStatus) func(*fakeSource) {
	return func(f *fakeSource) { f.snap.Local.Guard.Watchdog = w }
}

// TestWatchdog: the status and the metrics of each state of it.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                     string
		is                       cluster.WatchdogStatus
		want                     string
		active, timeout, problem string
	}{
		{"nothing said", cluster.WatchdogStatus{}, `null`, "0", "0", "0"},
		{"off", cluster.WatchdogStatus{Mode: cluster.WatchdogOff}, `null`, "0", "0", "0"},
		{"turned off while open", cluster.WatchdogStatus{Mode: cluster.WatchdogOff, Active: true, Timeout: 5 * time.Second}, `{"mode":"off","active":true,"timeout_s":5}`, "1", "5", "0"},
		{"open", cluster.WatchdogStatus{Mode: cluster.WatchdogRequired, Active: true, Timeout: 5 * time.Second, Endless: true}, `{"mode":"required","active":true,"timeout_s":5,"endless":true}`, "1", "5", "0"},
		{"not there", cluster.WatchdogStatus{Mode: cluster.WatchdogAutomatic, Problem: "no device"}, `{"mode":"automatic","active":false,"timeout_s":0,"problem":"no device"}`, "0", "0", "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := primarySource()
			f.edit(watchdogIs(tc.is))
			s := newTestServer(f, nil)
			own := getJSON(t, s, "/patroni").(map[string]any)["pgquorum"].(map[string]any)["guard"].(map[string]any)
			wantJSON(t, own["watchdog"], tc.want)
			text := call(t, s, http.MethodGet, "/metrics", nil).Body.String()
			for name, value := range map[string]string{"active": tc.active, "timeout_seconds": tc.timeout, "problem": tc.problem} {
				if line := "pgquorum_watchdog_" + name + `{name="n1",scope="main"} ` + value + "\n"; !strings.Contains(text, line) {
					t.Errorf("no line %q", line)
				}
			}
		})
	}
}

// TestMetrics: Patroni's names with its labels and types, and ours.
func TestMetrics(t *testing.T) {
	t.Parallel()
	text := call(t, newTestServer(primarySource(), nil), http.MethodGet, "/metrics", nil).Body.String()
	for name, value := range map[string]string{
		"patroni_version": "40104", "patroni_primary": "1", "patroni_master": "1", "patroni_replica": "0", "patroni_standby_leader": "0",
		"patroni_xlog_location": "5.0331744e+07", "patroni_postgres_timeline": "3", "patroni_postgres_running": "1", "patroni_postgres_server_version": "150004",
		"patroni_postgres_state": "5", "patroni_cluster_unlocked": "0", "patroni_is_paused": "0", "patroni_pending_restart": "0",
		"patroni_postmaster_start_time": "1.767409200123456e+09", "patroni_dcs_last_seen": "1.7674848e+09",
		"pgquorum_term": "7", "pgquorum_lease_remaining_seconds": "0.7", "pgquorum_two_primaries": "0", "raft_is_leader": "1", "raft_commit_index": "42",
	} {
		if line := name + `{name="n1",scope="main"} ` + value + "\n"; !strings.Contains(text, line) {
			t.Errorf("no line %q; there is %q", line, regexp.MustCompile(`(?m)^`+name+`\{.*$`).FindString(text))
		}
	}
	for _, line := range []string{`pgquorum_failover_seconds{name="n1",phase="promoted",scope="main"} 0.08`, "# TYPE patroni_xlog_location counter", "# TYPE patroni_primary gauge", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q", line)
		}
	}
	standby := call(t, newTestServer(standbySource(), nil), http.MethodGet, "/metrics", nil).Body.String()
	for _, line := range []string{`patroni_replica{name="n2",scope="main"} 1`, `patroni_quorum_standby{name="n2",scope="main"} 1`,
		`patroni_postgres_streaming{name="n2",scope="main"} 1`, `patroni_xlog_replayed_location{name="n2",scope="main"} 5.0331744e+07`, `patroni_xlog_location{name="n2",scope="main"} 0`} {
		if !strings.Contains(standby, line+"\n") {
			t.Errorf("standby: no line %q", line)
		}
	}
}

// TestTwoPrimaries: a second primary of this term is an alarm, an old primary's last word is not (P1).
func TestTwoPrimaries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		edit func(*cluster.PeerView)
		want string
	}{
		{"promoted by hand", func(p *cluster.PeerView) { p.Status = primaryStatus("n3") }, "1"},
		{"said so before it knew of the term", func(p *cluster.PeerView) { p.Status = primaryStatus("n3"); p.Status.KeyTerm = 6 }, "0"},
		{"said so long ago", func(p *cluster.PeerView) { p.Status = primaryStatus("n3"); p.At -= 10 * second }, "0"},
	} {
		f := primarySource()
		f.edit(func(f *fakeSource) { peerOf(f, "n3", tc.edit) })
		text := call(t, newTestServer(f, nil), http.MethodGet, "/metrics", nil).Body.String()
		if !strings.Contains(text, `pgquorum_two_primaries{name="n1",scope="main"} `+tc.want+"\n") {
			t.Errorf("%s: want %s", tc.name, tc.want)
		}
	}
}
