package pgctl

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgquorum/cluster"
)

// What an operator may set and what not; each refusal names the parameter.
func TestParameters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		node, dynamic map[string]string
		key, want     string
		warn          string
	}{
		{name: "default", key: "wal_keep_size", want: "128MB"},
		{name: "dynamic", dynamic: map[string]string{"work_mem": "8MB"}, key: "work_mem", want: "8MB"},
		{name: "node before dynamic", dynamic: map[string]string{"work_mem": "8MB"}, node: map[string]string{"Work_Mem": "9MB"}, key: "work_mem", want: "9MB"},
		{name: "ours", dynamic: map[string]string{"restart_after_crash": "on"}, key: "restart_after_crash", want: "off", warn: "restart_after_crash"},
		{name: "ours by other means", node: map[string]string{"primary_conninfo": "host=x"}, key: "primary_conninfo", want: "", warn: "primary_conninfo"},
		{name: "sync names", node: map[string]string{"synchronous_standby_names": "*"}, key: "synchronous_standby_names", want: "", warn: "synchronous_standby_names"},
		{name: "too few senders", node: map[string]string{"max_wal_senders": "3"}, key: "max_wal_senders", want: "10", warn: "max_wal_senders"},
		{name: "more senders", node: map[string]string{"max_wal_senders": "30"}, key: "max_wal_senders", want: "30"},
		{name: "logical", node: map[string]string{"wal_level": "logical"}, key: "wal_level", want: "logical"},
		{name: "minimal", node: map[string]string{"wal_level": "minimal"}, key: "wal_level", want: "replica", warn: "wal_level"},
		{name: "commit", dynamic: map[string]string{"synchronous_commit": "remote_apply"}, key: "synchronous_commit", want: "remote_apply"},
		{name: "smuggled line", node: map[string]string{"a = 1\nfsync": "off"}, key: "a = 1\nfsync", want: "", warn: "no parameter's name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := New(Options{DataDir: "/d", Parameters: tt.node, Log: slog.New(slog.DiscardHandler)}, nil)
			got, warnings := p.parameters(tt.dynamic)
			if got[tt.key] != tt.want {
				t.Errorf("%s = %q, want %q", tt.key, got[tt.key], tt.want)
			}
			text := strings.Join(warnings, "; ")
			if tt.warn == "" && text != "" || !strings.Contains(text, tt.warn) {
				t.Errorf("warnings %q, want one of %q", text, tt.warn)
			}
		})
	}
}

// The order of pg_hba.conf: the agent and replication first, then the operator's, then the rest.
func TestHBAOrder(t *testing.T) {
	t.Parallel()
	p := New(Options{
		Superuser: Credentials{"boss of all", "pw"}, Replication: Credentials{"repl", ""}, Rewind: Credentials{"rewind", "x"},
	}, nil)
	text := p.hbaText([]string{"host all all all reject"})
	last := -1
	for _, line := range []string{
		"local\tall\t\"boss of all\"\tscram-sha-256\n", "host\treplication\t\"repl\"\tall\ttrust\n",
		"host\tall\t\"rewind\"\tall\tscram-sha-256\n", "\nhost all all all reject\n", "local\tall\tall\tpeer\n", "host\tall\tall\tall\tscram-sha-256\n",
	} {
		at := strings.Index(text, line)
		if at <= last {
			t.Errorf("line %q at %d, want it after %d:\n%s", line, at, last, text)
		}
		last = at
	}
	if p.socketPermissions() != "0777" {
		t.Error("the socket of a superuser with a password is closed to local clients")
	}
	p.opt.Superuser.Password = ""
	if p.socketMethod() != "trust" || p.socketPermissions() != "0700" {
		t.Error("a socket that trusts everybody is open to everybody")
	}
}

// Settings take effect by a reload; ALTER SYSTEM cannot override ours; a standby is never below its control file.
func TestApplySettings(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	primary.sql("ALTER SYSTEM SET restart_after_crash = on")
	primary.sql("ALTER SYSTEM SET primary_conninfo = 'host=elsewhere'")
	primary.sql("ALTER SYSTEM SET deadlock_timeout = '3s'")
	settings := Settings{Me: primary.me, Parameters: map[string]string{"work_mem": "7MB", "max_connections": "150"}, PgHBA: []string{"host all all 10.0.0.0/8 reject"}}
	must(t, primary.ApplySettings(within(t), settings))
	shows := func(n *node, key, want string) {
		t.Helper()
		eventually(t, waitShort, key+" is "+want, func() bool { return n.value("SELECT current_setting($1)", key) == want })
	}
	shows(primary, "work_mem", "7MB")
	shows(primary, "restart_after_crash", "off")
	shows(primary, "primary_conninfo", "")
	shows(primary, "deadlock_timeout", "3s")
	shows(primary, "max_connections", "100")
	if !primary.look().PendingRestart {
		t.Error("max_connections needs a restart, status does not say so")
	}
	if !strings.Contains(primary.logs.String(), "restart_after_crash") {
		t.Error("the log does not name what was stripped")
	}
	hba, err := os.ReadFile(filepath.Join(primary.opt.DataDir, hbaFile))
	must(t, err)
	if !strings.Contains(string(hba), "10.0.0.0/8 reject") {
		t.Errorf("operator's line is missing:\n%s", hba)
	}

	// A standby with fewer connections than its primary had would not start: it is raised.
	must(t, s.Stop(within(t), StopFast, 0))
	low := Settings{Me: s.me, Parameters: map[string]string{"max_connections": "20"}}
	must(t, s.Start(within(t), StartSpec{Source: primary.asSource(1), Settings: low}))
	shows(s, "max_connections", "100")
	s.awaitStreaming()

	primary.sql("SELECT 1")
	conf, err := os.ReadFile(filepath.Join(primary.opt.DataDir, "postgresql.conf"))
	must(t, err)
	if n := strings.Count(string(conf), includeHead); n != 1 || !strings.HasSuffix(string(conf), "'"+standbyConf+"'\n") {
		t.Errorf("our includes stand %d times:\n%s", n, conf)
	}
	if st := primary.look(); st.Role != cluster.RolePrimary {
		t.Fatalf("%+v", st)
	}
}
