package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// TestMistakesOfContent holds each limit, with the text, line and column that an operator reads.
func TestMistakesOfContent(t *testing.T) {
	t.Parallel()
	const (
		raft    = "raft:\n"
		members = `  members: {n1: "127.0.0.1:7400", n2: "127.0.0.1:7401", n3: "127.0.0.1:7402"}`
		pg      = "postgresql:\n"
	)
	long := strings.Repeat("n", 44)
	cases := []struct {
		name string
		edit []string
		want []string
	}{
		{"no scope", []string{"scope: main\n", ""},
			[]string{"node.yml: scope: required"}},
		{"scope with a slash", []string{"scope: main", "scope: a/b"},
			[]string{`node.yml:1:1: scope: want letters, digits, "-", "_" and "." only, have "a/b"`}},
		{"S6: a name that application_name would cut", []string{"name: n1\n", "name: " + long + "\n", `{n1: "127`, `{` + long + `: "127`},
			[]string{"node.yml:2:1: name: want at most 43 characters, have 44", "node.yml:6:13: raft.members." + long + ": want at most 43 characters, have 44"}},
		{"name among no members", []string{"name: n1", "name: n9"},
			[]string{`node.yml:6:3: raft.members: this node's name "n9" is not among them: n1, n2, n3`}},
		{"advertise is not the member's address", []string{raft, "raft:\n  advertise: 127.0.0.1:7409\n"},
			[]string{"node.yml:7:13: raft.members.n1: want raft.advertise 127.0.0.1:7409, have 127.0.0.1:7400: the other nodes would look for this one in the wrong place"}},
		{"one address for two", []string{"127.0.0.1:7402", "127.0.0.1:7401"},
			[]string{"node.yml:6:57: raft.members.n3: has the address of n2, 127.0.0.1:7401"}},
		{"names that fold to one slot", []string{"n2:", "N.2:", "n3:", "n-2:"},
			[]string{"node.yml:6:58: raft.members.n-2: folds to the replication slot n_2, as N.2 does; choose names that differ in more than case, - _ and ."}},
		{"member without port", []string{"127.0.0.1:7402", "127.0.0.1"},
			[]string{`node.yml:6:57: raft.members.n3: want host:port such as 10.0.0.1:7400, have "127.0.0.1"`}},
		{"port out of range", []string{"127.0.0.1:7402", "127.0.0.1:70000"},
			[]string{`node.yml:6:57: raft.members.n3: want host:port such as 10.0.0.1:7400, have "127.0.0.1:70000"`}},
		{"member as wildcard", []string{"127.0.0.1:7402", "0.0.0.0:7402"},
			[]string{`node.yml:6:57: raft.members.n3: want one address that others can connect to, have "0.0.0.0:7402"`}},
		{"no members", []string{members + "\n", ""},
			[]string{"node.yml:3:1: raft.members: required: name and address of every first member"}},
		{"join, which this version cannot", []string{members, "  join: ['http://127.0.0.1:8008']"},
			[]string{"node.yml:6:3: raft.join: is not in this version: every node is a first member, named in raft.members"}},
		{"a member without a vote", []string{raft, "raft:\n  voter: false\n"},
			[]string{"node.yml:4:3: raft.voter: is not in this version: every first member votes"}},
		{"off loopback without TLS", []string{"listen: 127.0.0.1:7400", "listen: 0.0.0.0:7400"},
			[]string{"node.yml:4:3: raft.listen: 0.0.0.0:7400 is not loopback and raft.tls is not configured: whoever reaches it would rule the cluster. Configure raft.tls, or say raft.insecure: true"}},
		{"half of TLS", []string{raft, "raft:\n  tls: {certfile: /dev/null}\n"},
			[]string{"node.yml:4:3: raft.tls.keyfile: required: certfile, keyfile and cafile go together", "node.yml:4:3: raft.tls.cafile: required: certfile, keyfile and cafile go together"}},
		{"TLS file that is not there", []string{raft, "raft:\n  tls: {certfile: /dev/null, keyfile: /no/key, cafile: /dev/null}\n"},
			[]string{"node.yml:4:30: raft.tls.keyfile: cannot be read: open /no/key: no such file or directory"}},
		{"L7: heartbeat too short", []string{raft, "raft:\n  heartbeat_timeout: 50ms\n"},
			[]string{"node.yml:4:3: raft.heartbeat_timeout: want 100ms to 1m0s, have 50ms"}},
		{"L7: heartbeat too long", []string{raft, "raft:\n  heartbeat_timeout: 61\n"},
			[]string{"node.yml:4:3: raft.heartbeat_timeout: want 100ms to 1m0s, have 1m1s"}},
		{"L7: lease as long as the leader lease", []string{raft, "raft:\n  lease_ttl: 900ms\n"},
			[]string{"node.yml:4:3: raft.lease_ttl: not safe with heartbeat_timeout 1s: lease: lease_ttl 900ms must be under the leader lease timeout 900ms"}},
		{"L7: transport timeout not under half the lease", []string{raft, "raft:\n  lease_ttl: 640ms\n"},
			[]string{"node.yml:4:3: raft.lease_ttl: not safe with heartbeat_timeout 1s: lease: transport timeout 320ms must be under half of lease_ttl 640ms"}},
		{"U6: grace too short", []string{raft, "raft:\n  soft_fence_grace: 900ms\n"},
			[]string{"node.yml:4:3: raft.soft_fence_grace: want raft.heartbeat_timeout (1s) to 10m0s, have 900ms"}},
		{"U6: grace too long", []string{raft, "raft:\n  soft_fence_grace: 11m\n"},
			[]string{"node.yml:4:3: raft.soft_fence_grace: want raft.heartbeat_timeout (1s) to 10m0s, have 11m0s"}},
		{"snapshots after too few entries", []string{raft, "raft:\n  snapshot_threshold: 15\n"},
			[]string{"node.yml:4:3: raft.snapshot_threshold: want 16 to 1000000 entries, have 15"}},
		{"snapshots after too many entries", []string{raft, "raft:\n  snapshot_threshold: 1000001\n"},
			[]string{"node.yml:4:3: raft.snapshot_threshold: want 16 to 1000000 entries, have 1000001"}},
		{"L7: negative lease", []string{raft, "raft:\n  lease_ttl: -1s\n"},
			[]string{"node.yml:4:3: raft.lease_ttl: want more than 0, have -1s"}},
		{"relative data_dir", []string{"data_dir: /var/lib/postgresql/15/main", "data_dir: main"},
			[]string{`node.yml:11:3: postgresql.data_dir: want an absolute path, have "main"`}},
		{"no data_dir", []string{"  data_dir: /var/lib/pgquorum\n", ""},
			[]string{"node.yml:3:1: raft.data_dir: required"}},
		{"U4: raft.data_dir in PGDATA", []string{"data_dir: /var/lib/pgquorum", "data_dir: /var/lib/postgresql/15/main/raft"},
			[]string{"node.yml:5:3: raft.data_dir: /var/lib/postgresql/15/main/raft lies in postgresql.data_dir /var/lib/postgresql/15/main, which a clone or a rewind overwrites (U4)"}},
		{"U4: the same directory twice", []string{"data_dir: /var/lib/pgquorum", "data_dir: /var/lib/postgresql/15/main/"},
			[]string{"node.yml:5:3: raft.data_dir: /var/lib/postgresql/15/main/ lies in postgresql.data_dir /var/lib/postgresql/15/main, which a clone or a rewind overwrites (U4)"}},
		{"PGDATA in raft.data_dir", []string{"data_dir: /var/lib/postgresql/15/main", "data_dir: /var/lib/pgquorum/main"},
			[]string{"node.yml:11:3: postgresql.data_dir: /var/lib/pgquorum/main lies in raft.data_dir /var/lib/pgquorum; keep them apart"}},
		{"one port for two", []string{"listen: 127.0.0.1:8008", "listen: 127.0.0.1:5432"},
			[]string{"node.yml:10:3: postgresql.listen: port 5432 is restapi.listen's already; each needs its own"}},
		{"API without port", []string{"listen: 127.0.0.1:8008", "listen: localhost"},
			[]string{`node.yml:8:3: restapi.listen: want host:port such as 10.0.0.1:7400, have "localhost"`, `node.yml:8:3: restapi.connect_address: required, because restapi.listen "localhost" is no address that others can connect to`}},
		{"user without password", []string{"restapi:\n", "restapi:\n  authentication: {username: admin}\n"},
			[]string{"node.yml:8:3: restapi.authentication.password: required beside username: password or password_file"}},
		{"password without user", []string{"restapi:\n", "restapi:\n  authentication: {password: x}\n"},
			[]string{"node.yml:8:3: restapi.authentication.username: required beside the password"}},
		{"certificate without key", []string{"restapi:\n", "restapi:\n  certfile: /dev/null\n"},
			[]string{"node.yml:7:1: restapi.keyfile: required beside certfile"}},
		{"client certificates without authority", []string{"restapi:\n", "restapi:\n  verify_client: required\n"},
			[]string{"node.yml:7:1: restapi.cafile: required with verify_client: required"}},
		{"verify_client", []string{"restapi:\n", "restapi:\n  verify_client: always\n"},
			[]string{`node.yml:8:3: restapi.verify_client: want none, optional or required, have "always"`, "node.yml:7:1: restapi.cafile: required with verify_client: always"}},
		{"allowlist, which this version does not heed", []string{"restapi:\n", "restapi:\n  allowlist: [10.0.0.0/8]\n"},
			[]string{"node.yml:8:3: restapi.allowlist: is not in this version: use restapi.authentication, and a packet filter for the port"}},
		{"programs that are not there", []string{"bin_dir: BIN", "bin_dir: /nowhere"},
			[]string{"node.yml:12:3: postgresql.bin_dir: /nowhere lacks initdb, postgres, pg_ctl, pg_basebackup, pg_controldata, pg_waldump, pg_rewind"}},
		{"some passwords", []string{", password: s3", ""},
			[]string{"node.yml:13:3: postgresql.authentication: want a password for every user (scram-sha-256) or for none; superuser and replication has one, rewind has none"}},
		{"scram without passwords", []string{", password: s1", "", ", password: s2", "", ", password: s3", "", pg, "postgresql:\n  pg_hba: [host all all 10.0.0.0/8 scram-sha-256]\n"},
			[]string{`node.yml:10:3: postgresql.pg_hba: the line "host all all 10.0.0.0/8 scram-sha-256" asks "rewind" for a password, and postgresql.authentication gives none`}},
		{"one user twice", []string{"username: rewind", "username: replicator"},
			[]string{`node.yml:16:5: postgresql.authentication.rewind.username: "replicator" is the replication user already`}},
		{"socket directory", []string{pg, "postgresql:\n  parameters: {unix_socket_directories: run}\n"},
			[]string{`node.yml:10:16: postgresql.parameters.unix_socket_directories: want an absolute directory first, have "run"`}},
		{"socket with too long a name", []string{"data_dir: /var/lib/pgquorum", "data_dir: /" + strings.Repeat("d", 90)},
			[]string{"node.yml:5:3: raft.data_dir: PostgreSQL's socket /" + strings.Repeat("d", 90) + "/socket/.s.PGSQL.5432 would have a name of 112 bytes, and 107 is the most; choose a shorter directory"}},
		{"level", []string{raft, "log: {level: loud}\nraft:\n"},
			[]string{`node.yml:3:7: log.level: want debug, info, warning or error, have "loud"`}},
		{"probes of the disks", []string{raft, "disk: {probe_interval: 50ms, probe_deadline: 2m}\nraft:\n"},
			[]string{
				"node.yml:3:8: disk.probe_interval: want 100ms to 1m0s, have 50ms",
				"node.yml:3:30: disk.probe_deadline: want 500ms to 1m0s, have 2m0s",
			}},
		{"an alarm below the minimum", []string{raft, "disk: {warn_free: 100MB, min_free_wal: 200MB}\nraft:\n"},
			[]string{"node.yml:3:26: disk.min_free_wal: want disk.warn_free, 104857600 bytes, or less, have 209715200: the alarm would come after what it is to prevent"}},
		{"watchdog's mode", []string{raft, "watchdog: {mode: sometimes}\nraft:\n"},
			[]string{`node.yml:3:12: watchdog.mode: want off, automatic or required, have "sometimes"`}},
		{"watchdog's device", []string{raft, "watchdog: {device: watchdog0}\nraft:\n"},
			[]string{`node.yml:3:12: watchdog.device: want an absolute path, have "watchdog0"`}},
		{"watchdog of half seconds", []string{raft, "watchdog: {timeout: 2500ms}\nraft:\n"},
			[]string{"node.yml:3:12: watchdog.timeout: want whole seconds, as the kernel's devices have, have 2.5s"}},
		{"watchdog that a lease would meet", []string{raft, "watchdog: {timeout: 1}\nraft:\n"},
			[]string{"node.yml:3:12: watchdog.timeout: want 1.8s at least, the lease of 800ms and 1s to end PostgreSQL in, have 1s"}},
		{"Patroni's half of a ttl", []string{raft, "watchdog: {mode: required, safety_margin: -1}\nraft:\n"},
			[]string{"node.yml:3:28: watchdog.safety_margin: want 0 or more, have -1s: the timeout is watchdog.timeout here, no part of a ttl"}},
		{"watchdog that nobody waits for", []string{raft, "watchdog: {timeout: 400, safety_margin: 201}\nraft:\n"},
			[]string{"node.yml:3:12: watchdog.timeout: want 10m0s at most together with safety_margin, have 6m40s and 3m21s"}},
		{"dynamic config", []string{raft, "bootstrap: {dcs: {synchronous_node_count: 0, primary_start_timeout: -1, primary_stop_timeout: -2}}\nraft:\n"},
			[]string{
				"node.yml:3:19: bootstrap.dcs.synchronous_node_count: want 1 or more, have 0",
				"node.yml:3:46: bootstrap.dcs.primary_start_timeout: want 0 or more, have -1s",
				"node.yml:3:73: bootstrap.dcs.primary_stop_timeout: want 0 or more, have -2s",
			}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, errs := load(t, edit(t, healthy, c.edit...))
			wantLines(t, "errors", errs, c.want...)
		})
	}
}

// offLoopback is the base of what only matters on real networks.
func offLoopback(t *testing.T) string {
	return edit(t, healthy,
		"  listen: 127.0.0.1:7400\n", "  listen: 10.0.0.1:7400\n  insecure: true\n",
		`"127.0.0.1:7400", n2: "127.0.0.1:7401", n3: "127.0.0.1:7402"`, `"10.0.0.1:7400", n2: "10.0.0.2:7400", n3: "10.0.0.3:7400"`,
		"listen: 127.0.0.1:8008", "listen: 0.0.0.0:8008",
		"listen: 127.0.0.1:5432", "listen: '*:5432'")
}

func TestAddressesBehindWildcards(t *testing.T) {
	t.Parallel()
	c, _, errs := load(t, offLoopback(t))
	wantLines(t, "errors", errs)
	if c.RestAPI.ConnectAddress != "10.0.0.1:8008" || c.PostgreSQL.ConnectAddress != "10.0.0.1:5432" {
		t.Errorf("connect addresses %s and %s, want the host of raft.advertise", c.RestAPI.ConnectAddress, c.PostgreSQL.ConnectAddress)
	}
	c, _, errs = load(t, edit(t, offLoopback(t), "listen: 10.0.0.1:7400\n", "listen: 0.0.0.0:7400\n"))
	wantLines(t, "errors", errs)
	if c.Raft.Advertise != "10.0.0.1:7400" {
		t.Errorf("advertise %s, want the member's address", c.Raft.Advertise)
	}
	_, _, errs = load(t, edit(t, offLoopback(t), "listen: '*:5432'", "listen: 127.0.0.1:5432"))
	wantLines(t, "errors", errs, "node.yml:11:3: postgresql.connect_address: 127.0.0.1:5432 is loopback, while raft.advertise is 10.0.0.1:7400: the other nodes cannot reach it")
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	const (
		insecure = "node.yml:5:3: raft.insecure: Raft runs without TLS on 10.0.0.1:7400: whoever reaches it rules the cluster"
		noUser   = "node.yml:9:3: restapi.authentication: no credentials: calls that change something are accepted from loopback only"
	)
	off := offLoopback(t)
	n3 := `, n3: "127.0.0.1:7402"`
	cases := []struct {
		name string
		text string
		want []string
	}{
		{"off loopback", off, []string{insecure, noUser}},
		{"password in clear text", edit(t, off, "restapi:\n", "restapi:\n  authentication: {username: u, password: p}\n"),
			[]string{insecure, "node.yml:10:3: restapi.certfile: no TLS: the password travels in clear text"}},
		{"no passwords off loopback", edit(t, off, ", password: s1", "", ", password: s2", "", ", password: s3", ""),
			[]string{insecure, noUser, `node.yml:14:3: postgresql.authentication: no passwords: whoever reaches *:5432 may copy the database as "replicator"`}},
		{"one member", edit(t, healthy, `, n2: "127.0.0.1:7401"`+n3, ""),
			[]string{"node.yml:6:3: raft.members: one member: nobody can take over"}},
		{"two members", edit(t, healthy, n3, ""),
			[]string{"node.yml:6:3: raft.members: TWO members: when either is lost, the other stops too, because one of two is no majority; this is less available than one. Add a third, an arbiter without PostgreSQL will do"}},
		{"four members", edit(t, healthy, n3, n3+`, n4: "127.0.0.1:7403"`),
			[]string{"node.yml:6:3: raft.members: 4 members bear the loss of no more than 3 would; use an odd number"}},
		{"U6: a grace without soft fence", edit(t, healthy, "raft:\n", "raft:\n  soft_fence: false\n  soft_fence_grace: 5s\n"),
			[]string{"node.yml:5:3: raft.soft_fence_grace: has no effect: raft.soft_fence is false"}},
		{"L7: a short lease", edit(t, healthy, "raft:\n", "raft:\n  heartbeat_timeout: 300ms\n"),
			[]string{"node.yml:4:3: raft.heartbeat_timeout: the lease lasts 240ms; under 400ms a single lost packet may cost it, for TCP waits 200ms or more before it sends again"}},
		{"Patroni's keys", healthy + "etcd3: {hosts: [a]}\nkubernetes: {}\nnamespace: /db/\nbootstrap: {dcs: {ttl: 30, loop_wait: 10, retry_timeout: 10}}\n", []string{
			"node.yml:17:1: etcd3: has no meaning here: pgquorum keeps the cluster's state by itself, in Raft; ignored",
			"node.yml:18:1: kubernetes: has no meaning here: pgquorum keeps the cluster's state by itself, in Raft; ignored",
			"node.yml:19:1: namespace: has no meaning here: pgquorum keeps the cluster's state by itself, in Raft; ignored",
			"node.yml:20:19: bootstrap.dcs.ttl: has no meaning here: the lease follows from raft.heartbeat_timeout; ignored",
			"node.yml:20:28: bootstrap.dcs.loop_wait: has no meaning here: the agent wakes on events; ignored",
			"node.yml:20:43: bootstrap.dcs.retry_timeout: has no meaning here: there is no store to retry; ignored",
		}},
		{"Patroni's watchdog", healthy + "watchdog: {mode: require, device: /dev/watchdog0, safety_margin: 5, driver: testing}\n",
			[]string{"node.yml:17:69: watchdog.driver: has no meaning here: the device is the kernel's; ignored"}},
		{"Patroni's keys that ask for nothing", healthy + "watchdog: {mode: off, device: /dev/watchdog, safety_margin: 5}\ntags: {clonefrom: false, nostream: no}\nvip:\n", nil},
		{"a tag near a known one", healthy + "tags: {no_failover: true, zone: a}\n",
			[]string{"node.yml:17:8: tags.no_failover: taken as a tag of your own; if tags.nofailover was meant, mend its spelling"}},
		{"a disk without a minimum", healthy + "disk: {min_free_raft: 0}\n",
			[]string{"node.yml:17:8: disk.min_free_raft: is 0: a disk there counts as full only once a write to it is refused"}},
		{"strict beside off", healthy + "bootstrap: {dcs: {synchronous_mode: off, synchronous_mode_strict: true}}\n",
			[]string{"node.yml:17:42: bootstrap.dcs.synchronous_mode_strict: has no effect beside synchronous_mode: off"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, warnings, errs := load(t, c.text)
			wantLines(t, "errors", errs)
			wantLines(t, "warnings", warnings, c.want...)
		})
	}
}

// TestWatchdog holds what an acquisition records: nothing but in mode required.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text     string
		mode     cluster.WatchdogMode
		timeout  time.Duration
		recorded time.Duration
	}{
		{"", cluster.WatchdogAutomatic, 5 * time.Second, 0},
		{"watchdog: {mode: off, timeout: 1}\n", cluster.WatchdogOff, time.Second, 0},
		{"watchdog: {mode: false}\n", cluster.WatchdogOff, 5 * time.Second, 0},
		{"watchdog: {mode: Auto}\n", cluster.WatchdogAutomatic, 5 * time.Second, 0},
		{"watchdog: {mode: required}\n", cluster.WatchdogRequired, 5 * time.Second, 6 * time.Second},
		{"watchdog: {mode: required, timeout: 2, safety_margin: 0}\n", cluster.WatchdogRequired, 2 * time.Second, 2 * time.Second},
	} {
		conf, _, errs := load(t, healthy+c.text)
		wantLines(t, "errors", errs)
		if got := conf.AcquisitionLease().Watchdog; conf.WatchdogMode() != c.mode || conf.Watchdog.Timeout != c.timeout || got != c.recorded {
			t.Errorf("%s: %s, %v, recorded %v, want %s, %v, %v", c.text, conf.WatchdogMode(), conf.Watchdog.Timeout, got, c.mode, c.timeout, c.recorded)
		}
		if conf.Dynamic().Lease != conf.Lease() || conf.Lease().Watchdog != 0 {
			t.Errorf("%s: a node's watchdog stands in the dynamic config: %+v", c.text, conf.Dynamic().Lease)
		}
	}
	slow, _, errs := load(t, edit(t, healthy, "raft:\n", "raft:\n  heartbeat_timeout: 60\n"))
	wantLines(t, "errors", errs)
	if slow.Watchdog.Timeout != 51*time.Second {
		t.Errorf("a lease of 48s has a watchdog of %v, want 51s", slow.Watchdog.Timeout)
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	cases := []struct {
		tags       string
		nofailover bool
		priority   int
		warning    string
	}{
		{"{}", false, 1, ""},
		{"{failover_priority: 5}", false, 5, ""},
		{"{failover_priority: 0}", true, 0, ""},
		{"{failover_priority: -1}", true, 0, ""},
		{"{nofailover: true}", true, 1, ""},
		{"{nofailover: true, failover_priority: 2}", true, 2, "has no effect beside nofailover: true"},
		{"{nofailover: false, failover_priority: 0}", true, 0, "0 means nofailover, and wins"},
	}
	for _, c := range cases {
		t.Run(c.tags, func(t *testing.T) {
			t.Parallel()
			conf, warnings, errs := load(t, healthy+"tags: "+c.tags+"\n")
			wantLines(t, "errors", errs)
			got := conf.ClusterTags()
			if got.NoFailover != c.nofailover || got.FailoverPriority != c.priority {
				t.Errorf("%+v, want nofailover %v, priority %d", got, c.nofailover, c.priority)
			}
			if all := strings.Join(warnings, "\n"); (c.warning == "") != (all == "") || !strings.Contains(all, c.warning) {
				t.Errorf("warnings %q, want %q", all, c.warning)
			}
		})
	}
	conf, _, _ := load(t, healthy+"tags: {zone: a, rack: 7}\n")
	if got := conf.ClusterTags().Custom; got["zone"] != "a" || got["rack"] != "7" {
		t.Errorf("custom tags %v", got)
	}
}

func TestDataDirBehindALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pgdata"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pgdata", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	_, _, errs := load(t, edit(t, healthy,
		"data_dir: /var/lib/pgquorum", "data_dir: "+dir+"/link/raft", "data_dir: /var/lib/postgresql/15/main", "data_dir: "+dir+"/pgdata"))
	if len(errs) != 1 || !strings.Contains(errs[0], "lies in postgresql.data_dir") {
		t.Errorf("errors %q, want one that finds raft.data_dir in PGDATA through the link (U4)", errs)
	}
}
