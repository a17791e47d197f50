package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// healthy is the base that each case edits; its bin_dir is found, so these tests need no PostgreSQL of their own.
const healthy = `scope: main
name: n1
raft:
  listen: 127.0.0.1:7400
  data_dir: /var/lib/pgquorum
  members: {n1: "127.0.0.1:7400", n2: "127.0.0.1:7401", n3: "127.0.0.1:7402"}
restapi:
  listen: 127.0.0.1:8008
postgresql:
  listen: 127.0.0.1:5432
  data_dir: /var/lib/postgresql/15/main
  bin_dir: BIN
  authentication:
    superuser: {username: postgres, password: s1}
    replication: {username: replicator, password: s2}
    rewind: {username: rewind, password: s3}
`

// binDir makes a directory that looks like PostgreSQL's programs, without the ones named.
func binDir(t *testing.T, without ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range append(slices.Clone(programs), rewindProgram) {
		path := filepath.Join(dir, p)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range without {
		if err := os.Remove(filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write puts text into a file called node.yml.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// edit replaces the one place of old in text; pairs of old and new.
func edit(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			t.Fatalf("%q stands %d times in the text", pairs[i], strings.Count(text, pairs[i]))
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// load loads text, with the temporary directory's name taken out of what it says.
func load(t *testing.T, text string, env ...string) (c *Config, warnings []string, errs []string) {
	t.Helper()
	path := write(t, strings.Replace(text, "BIN", binDir(t), 1))
	c, warned, err := Load(path, env)
	plain := func(s string) string { return strings.ReplaceAll(s, filepath.Dir(path)+"/", "") }
	for _, w := range warned {
		warnings = append(warnings, plain(w.String()))
	}
	if err != nil {
		errs = strings.Split(plain(err.Error()), "\n")
	}
	return c, warnings, errs
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestHealthyFileLoadsWithoutAWord(t *testing.T) {
	t.Parallel()
	c, warnings, errs := load(t, healthy)
	wantLines(t, "errors", errs)
	wantLines(t, "warnings", warnings)
	if c == nil {
		t.Fatal("no config")
	}
	checks := []struct {
		what      string
		got, want any
	}{
		{"advertise", c.Raft.Advertise, "127.0.0.1:7400"},
		{"members", c.Raft.Members["n3"], "127.0.0.1:7402"},
		{"heartbeat", c.Raft.HeartbeatTimeout, time.Second},
		{"voter", c.Raft.Voter, true},
		{"snapshots", c.Raft.SnapshotThreshold, 4096},
		{"api address", c.RestAPI.ConnectAddress, "127.0.0.1:8008"},
		{"api url", c.APIURL(), "http://127.0.0.1:8008"},
		{"postgres address", c.PostgreSQL.ConnectAddress, "127.0.0.1:5432"},
		{"rewind", c.PostgreSQL.UsePgRewind, true},
		{"socket", c.SocketDir(), filepath.Join(c.Raft.DataDir, "socket")},
		{"lease", c.Lease(), cluster.DefaultLease(time.Second)},
		{"timings", c.Timings(), cluster.DefaultTimings(time.Second)},
		{"tags", c.ClusterTags(), cluster.Tags{FailoverPriority: 1}},
		{"dynamic", c.Dynamic(), cluster.Dynamic{
			SynchronousMode: cluster.SyncQuorum, SynchronousNodeCount: 1, MaximumLagOnFailover: 1 << 20,
			PrimaryStartTimeout: 300 * time.Second, PrimaryStopTimeout: 30 * time.Second,
			HeartbeatTimeout: time.Second, Lease: cluster.DefaultLease(time.Second),
		}},
	}
	for _, ch := range checks {
		if !reflect.DeepEqual(ch.got, ch.want) {
			t.Errorf("%s: %v, want %v", ch.what, ch.got, ch.want)
		}
	}
}

// TestMistakesOfForm holds the text, line and column of every mistake that the reader itself finds.
func TestMistakesOfForm(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		text string
		want []string
	}{
		{"unknown key, misspelt", edit(t, healthy, "  listen: 127.0.0.1:7400", "  lisen: 127.0.0.1:7400"),
			[]string{"node.yml:4:3: raft.lisen: unknown key; nearest known key: raft.listen"}},
		{"unknown key of the root", healthy + "nmae: n1\n",
			[]string{"node.yml:17:1: nmae: unknown key; nearest known key: name"}},
		{"key of another section", healthy + "data_dir: /x\n",
			[]string{"node.yml:17:1: data_dir: unknown key; it belongs at raft.data_dir or postgresql.data_dir"}},
		{"two mistakes at once", healthy + "log: {levl: info, fromat: text}\n",
			[]string{"node.yml:17:7: log.levl: unknown key; nearest known key: log.level", "node.yml:17:19: log.fromat: unknown key; nearest known key: log.format"}},
		{"no duration", edit(t, healthy, "raft:", "raft:\n  heartbeat_timeout: soon"),
			[]string{`node.yml:4:22: raft.heartbeat_timeout: want a duration such as 1s or 800ms, or seconds, have "soon"`}},
		{"no boolean", edit(t, healthy, "raft:", "raft:\n  voter: maybe"),
			[]string{`node.yml:4:10: raft.voter: want true or false, have "maybe"`}},
		{"no number", healthy + "tags: {failover_priority: high}\n",
			[]string{`node.yml:17:27: tags.failover_priority: want a whole number, have "high"`}},
		{"no size", healthy + "bootstrap: {dcs: {maximum_lag_on_failover: 1 mile}}\n",
			[]string{`node.yml:17:44: bootstrap.dcs.maximum_lag_on_failover: want bytes, or a number with B, kB, MB, GB or TB, have "1 mile"`}},
		{"no mode", healthy + "bootstrap: {dcs: {synchronous_mode: remote_apply}}\n",
			[]string{`node.yml:17:37: bootstrap.dcs.synchronous_mode: want quorum, on or off, have "remote_apply"`}},
		{"a value for a section", healthy + "log: info\n",
			[]string{"node.yml:17:6: log: want keys and values, have a single value"}},
		{"a list for a value", edit(t, healthy, "scope: main", "scope: [main]"),
			[]string{"node.yml:1:8: scope: want one value, have a list"}},
		{"a block for a value", edit(t, healthy, "scope: main", "scope:\n  name: main"),
			[]string{"node.yml:2:3: scope: want one value, have keys and values"}},
		{"a value for a list", edit(t, healthy, "postgresql:", "postgresql:\n  pg_hba: local all all peer"),
			[]string{"node.yml:10:11: postgresql.pg_hba: want a list, have a single value"}},
		{"a map in a list", edit(t, healthy, "postgresql:", "postgresql:\n  pg_hba: [{a: b}]"),
			[]string{"node.yml:10:12: postgresql.pg_hba: want one value, have keys and values"}},
		{"a list in a map", edit(t, healthy, "postgresql:", "postgresql:\n  parameters: {work_mem: [1]}"),
			[]string{"node.yml:10:26: postgresql.parameters.work_mem: want one value, have a list"}},
		{"a secret is not repeated", edit(t, healthy, "password: s1", "password: {s1: topsecret}"),
			[]string{"node.yml:14:47: postgresql.authentication.superuser.password: want one value, have keys and values"}},
		{"option of the agent", healthy + "bootstrap:\n  initdb:\n  - data-checksums\n  - pwfile: /x\n",
			[]string{"node.yml:20:5: bootstrap.initdb: --pwfile is the agent's own; take it out"}},
		{"two options in one", healthy + "bootstrap:\n  initdb:\n  - {encoding: UTF8, locale: C}\n",
			[]string{"node.yml:19:5: bootstrap.initdb: want an option such as data-checksums or encoding: UTF8, have 2 keys in one entry"}},
		{"an alias without anchor", edit(t, healthy, "name: n1", "name: *me"),
			[]string{"node.yml:2:7: alias *me has no anchor before it"}},
		{"no YAML", "scope: main\n  name: n1\n",
			[]string{"node.yml:1:8: no valid YAML: mapping value is not allowed in this context"}},
		{"a key twice", healthy + "scope: other\n",
			[]string{`node.yml:17:1: no valid YAML: mapping key "scope" already defined at [1:1]`}},
		{"two documents", "scope: a\n---\nscope: b\n",
			[]string{"node.yml:3:1: a second document; the node's file is one"}},
		{"lease_ttl of the dynamic config", healthy + "bootstrap: {dcs: {lease_ttl: 1s}}\n",
			[]string{"node.yml:17:19: bootstrap.dcs.lease_ttl: stands at raft.lease_ttl, which gives its first value"}},
		{"what would be missed", healthy + "vip: {address: 10.0.0.100/24}\n",
			[]string{"node.yml:17:1: vip: is not in this version; the address would never be set"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, errs := load(t, c.text)
			wantLines(t, "errors", errs, c.want...)
		})
	}
}

func TestErrorIsTyped(t *testing.T) {
	t.Parallel()
	_, _, err := Load(write(t, "scop: main\n"), nil)
	var e *Error
	if !errors.As(err, &e) || e.Place.Line != 1 || e.Place.Column != 1 || e.Key != "scop" {
		t.Errorf("error %#v, want one of line 1, column 1, key scop", err)
	}
	_, _, err = Load(filepath.Join(t.TempDir(), "absent.yml"), nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want the cause that the file does not exist", err)
	}
	_, _, err = Load(write(t, strings.Repeat("#", maxFile+1)), nil)
	if err == nil || !strings.Contains(err.Error(), "longer than 262144 bytes") {
		t.Errorf("error %v, want a limit of 262144 bytes", err)
	}
}

func TestValuesAsOperatorsWriteThem(t *testing.T) {
	t.Parallel()
	c, warnings, errs := load(t, edit(t, healthy,
		"raft:\n", "raft:\n  heartbeat_timeout: 2\n",
		"postgresql:\n", "postgresql:\n  use_pg_rewind: no\n  pg_hba:\n  - local all all peer\n  parameters: {max_connections: 200, hot_standby_feedback: on, fsync: true, archive_command: ''}\n")+`
bootstrap:
  dcs:
    synchronous_mode: true
    maximum_lag_on_failover: 10MB
    primary_start_timeout: 300
    postgresql: {parameters: {work_mem: 8MB}}
  initdb:
  - data-checksums
  - encoding: UTF8
log: {level: INFO}
`)
	wantLines(t, "errors", errs)
	wantLines(t, "warnings", warnings)
	wantParameters := map[string]string{"max_connections": "200", "hot_standby_feedback": "on", "fsync": "true", "archive_command": ""}
	switch d := c.Dynamic(); {
	case c.Raft.HeartbeatTimeout != 2*time.Second, d.HeartbeatTimeout != 2*time.Second:
		t.Errorf("heartbeat %v, want 2s", c.Raft.HeartbeatTimeout)
	case c.PostgreSQL.UsePgRewind:
		t.Error("use_pg_rewind: no was not read")
	case !reflect.DeepEqual(c.PostgreSQL.Parameters, wantParameters):
		t.Errorf("parameters %v, want %v", c.PostgreSQL.Parameters, wantParameters)
	case d.SynchronousMode != cluster.SyncOn || d.MaximumLagOnFailover != 10<<20 || d.PrimaryStartTimeout != 300*time.Second:
		t.Errorf("dynamic %+v", d)
	case d.Parameters["work_mem"] != "8MB":
		t.Errorf("dynamic parameters %v", d.Parameters)
	case !reflect.DeepEqual(c.Bootstrap.InitDB, []string{"--data-checksums", "--encoding=UTF8"}):
		t.Errorf("initdb %v", c.Bootstrap.InitDB)
	case c.Log.Level != "info":
		t.Errorf("level %q", c.Log.Level)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	t.Parallel()
	text := edit(t, healthy, `    superuser: {username: postgres, password: s1}
    replication: {username: replicator, password: s2}
`, `    superuser: &base {username: postgres, password: one}
    replication: {<<: *base, username: replicator}
`)
	c, _, errs := load(t, text)
	wantLines(t, "errors", errs)
	if r := c.PostgreSQL.Authentication.Replication; r.Username != "replicator" || r.Password != "one" {
		t.Errorf("replication %+v, want its own name and the merged password", r)
	}
}
