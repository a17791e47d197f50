package config

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/config.md anew")

const referencePath = "../docs/config.md"

// TestReferenceIsCurrent holds docs/config.md and the code together: the page is made from the tags of Config.
func TestReferenceIsCurrent(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what the code says; run: go test ./config -run Reference -update", referencePath)
	}
}

// TestEveryKeyIsDescribed keeps the page complete, and its defaults the code's own.
func TestEveryKeyIsDescribed(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, k := range schema.leaves() {
		if k.desc == "" {
			t.Errorf("%s has no description", k.path)
		}
		if other, clash := seen[k.env()]; clash {
			t.Errorf("%s and %s share %s", other, k.path, k.env())
		}
		seen[k.env()] = k.path
	}
	c := withConstants()
	for path, value := range map[string]any{
		"raft.voter": c.Raft.Voter, "raft.heartbeat_timeout": c.Raft.HeartbeatTimeout, "raft.insecure": c.Raft.Insecure,
		"raft.soft_fence": c.Raft.SoftFence, "raft.snapshot_threshold": c.Raft.SnapshotThreshold,
		"restapi.listen": c.RestAPI.Listen, "restapi.verify_client": c.RestAPI.VerifyClient,
		"postgresql.listen": c.PostgreSQL.Listen, "postgresql.use_pg_rewind": c.PostgreSQL.UsePgRewind,
		"watchdog.mode": c.Watchdog.Mode, "watchdog.device": c.Watchdog.Device, "watchdog.safety_margin": c.Watchdog.SafetyMargin,
		"tags.failover_priority": c.Tags.FailoverPriority, "log.level": c.Log.Level, "log.format": c.Log.Format,
		"bootstrap.dcs.synchronous_mode":       c.Bootstrap.DCS.SynchronousMode,
		"bootstrap.dcs.synchronous_node_count": c.Bootstrap.DCS.SynchronousNodeCount,
	} {
		if k := find(path); k == nil || k.def != fmt.Sprint(value) {
			t.Errorf("%s: the page's default differs from the code's, %v", path, value)
		}
	}
	for path, want := range map[string]any{
		"bootstrap.dcs.primary_start_timeout": c.Bootstrap.DCS.PrimaryStartTimeout,
		"bootstrap.dcs.primary_stop_timeout":  c.Bootstrap.DCS.PrimaryStopTimeout,
	} {
		if got, err := parseDuration(find(path).def); err != nil || got != want {
			t.Errorf("%s: the page's default differs from the code's, %v", path, want)
		}
	}
	if got, err := parseBytes(find("bootstrap.dcs.maximum_lag_on_failover").def); err != nil || got != c.Bootstrap.DCS.MaximumLagOnFailover {
		t.Errorf("bootstrap.dcs.maximum_lag_on_failover: the page's default differs from the code's, %d", c.Bootstrap.DCS.MaximumLagOnFailover)
	}
	for path := range foreignKeys {
		if find(path) != nil {
			t.Errorf("%s is a key, and also one without meaning", path)
		}
	}
}

func find(path string) *key {
	k := schema
	for name := range strings.SplitSeq(path, ".") {
		if k = k.child(name); k == nil {
			return nil
		}
	}
	return k
}

// reference renders the page.
func reference() string {
	var b strings.Builder
	b.WriteString(`# The node's file

<!-- Made from the code: go test ./config -run Reference -update -->

One YAML file a node, ` + "`" + DefaultPath + "`" + ` by default. The names follow Patroni wherever the thing is the same.
Each key can also be set by an environment variable, which wins over the file: its name is ` + "`PGQUORUM_`" + ` and the key's
path in capitals with ` + "`_`" + ` for each dot, so ` + "`raft.listen`" + ` is ` + "`PGQUORUM_RAFT_LISTEN`" + `. Lists and maps are then YAML
text: ` + "`PGQUORUM_RAFT_MEMBERS='{n1: 10.0.0.1:7400, n2: 10.0.0.2:7400, n3: 10.0.0.3:7400}'`" + `. A variable set to nothing counts as not set.

Durations are written as ` + "`800ms`, `1s` or `5m`" + `; a plain number is seconds. true, on and yes mean the same, and so do false, off and no.
A password may stand in a file, named by ` + "`password_file`" + `; the white space around it is taken off.

An unknown key is refused, with its line, its column and the nearest known key.
`)
	renderSection(&b, schema)
	renderForeign(&b)
	return b.String()
}

func renderSection(b *strings.Builder, section *key) {
	if section.path != "" {
		fmt.Fprintf(b, "\n## %s\n\n%s\n", section.path, section.desc)
	}
	var rows []*key
	for _, k := range section.children {
		if k.kind != kindSection {
			rows = append(rows, k)
		}
	}
	if len(rows) > 0 {
		b.WriteString("\n| key | value | default | |\n|---|---|---|---|\n")
	}
	for _, k := range rows {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.name, k.kind, k.defaultHere(), k.desc)
	}
	for _, k := range section.children {
		if k.kind == kindSection {
			renderSection(b, k)
		}
	}
}

// defaultHere picks the user's own name out of the three that the shared type lists.
func (k *key) defaultHere() string {
	switch k.path {
	case "postgresql.authentication.superuser.username":
		return "postgres"
	case "postgresql.authentication.replication.username":
		return "replicator"
	case "postgresql.authentication.rewind.username":
		return "rewind"
	}
	return k.def
}

func renderForeign(b *strings.Builder) {
	b.WriteString(`
## Keys of Patroni's files that have no effect

A file that was written for Patroni may hold these. Each is named at the start, as a warning or, where to go on without it
would do something other than what was asked for, as an error. Where the last column says "if set", nothing is said of the
values false, off, no, none, 0 and empty.

| key | what is said | |
|---|---|---|
`)
	paths := make([]string, 0, len(foreignKeys))
	for path := range foreignKeys {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		n := foreignKeys[path]
		kind := "warning"
		if n.refuse {
			kind = "error"
		}
		if n.quiet {
			kind += ", if set"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", path, n.text, kind)
	}
}
