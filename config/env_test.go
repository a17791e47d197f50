package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEnvironmentAlone(t *testing.T) {
	t.Parallel()
	c, warnings, err := Load("", []string{
		"PGQUORUM_SCOPE=main", "PGQUORUM_NAME=n1",
		"PGQUORUM_RAFT_LISTEN=127.0.0.1:7400", "PGQUORUM_RAFT_DATA_DIR=/var/lib/pgquorum",
		"PGQUORUM_RAFT_MEMBERS={n1: 127.0.0.1:7400, n2: 127.0.0.1:7401, n3: 127.0.0.1:7402}",
		"PGQUORUM_RAFT_HEARTBEAT_TIMEOUT=2s", "PGQUORUM_RAFT_INSECURE=on",
		"PGQUORUM_POSTGRESQL_DATA_DIR=/var/lib/postgresql/15/main", "PGQUORUM_POSTGRESQL_BIN_DIR=" + binDir(t),
		"PGQUORUM_POSTGRESQL_PG_HBA=[local all all peer, 'host all all 10.0.0.0/8 md5']",
		"PGQUORUM_POSTGRESQL_AUTHENTICATION_SUPERUSER_PASSWORD={a: 1}", // a single value stands as it is, YAML or not
		"PGQUORUM_POSTGRESQL_AUTHENTICATION_REPLICATION_PASSWORD=s2",
		"PGQUORUM_POSTGRESQL_AUTHENTICATION_REWIND_PASSWORD=s3",
		"PGQUORUM_BOOTSTRAP_DCS_SYNCHRONOUS_MODE=off", "PGQUORUM_BOOTSTRAP_INITDB=[data-checksums]",
		"PGQUORUM_LOG_LEVEL=", // set but empty: as if it were not set
		"PATH=/bin", "broken",
	})
	if err != nil || len(warnings) != 0 {
		t.Fatalf("error %v, warnings %v", err, warnings)
	}
	switch {
	case c.Raft.HeartbeatTimeout != 2*time.Second, !c.Raft.Insecure, c.Raft.Members["n2"] != "127.0.0.1:7401":
		t.Errorf("raft %+v", c.Raft)
	case len(c.PostgreSQL.PgHBA) != 2 || c.PostgreSQL.Authentication.Superuser.Password != "{a: 1}":
		t.Errorf("postgresql %+v", c.PostgreSQL)
	case c.Dynamic().SynchronousMode != "off" || c.Bootstrap.InitDB[0] != "--data-checksums" || c.Log.Level != "info":
		t.Errorf("bootstrap %+v, log %+v", c.Bootstrap, c.Log)
	}
}

func TestEnvironmentWinsOverTheFile(t *testing.T) {
	t.Parallel()
	c, _, errs := load(t, healthy, "PGQUORUM_RESTAPI_LISTEN=127.0.0.1:9008", `PGQUORUM_RAFT_MEMBERS={n1: 127.0.0.1:7400, n4: 127.0.0.1:7404, n5: 127.0.0.1:7405}`)
	wantLines(t, "errors", errs)
	if c.RestAPI.ConnectAddress != "127.0.0.1:9008" || len(c.Raft.Members) != 3 || c.Raft.Members["n2"] != "" {
		t.Errorf("restapi %+v, members %v: want those of the environment, whole", c.RestAPI, c.Raft.Members)
	}
}

func TestMistakesInTheEnvironment(t *testing.T) {
	t.Parallel()
	cases := []struct{ env, want string }{
		{"PGQUORUM_RAFT_VOTER=maybe", `environment PGQUORUM_RAFT_VOTER: raft.voter: want true or false, have "maybe"`},
		{"PGQUORUM_RAFT_JOIN=a", "environment PGQUORUM_RAFT_JOIN: raft.join: want a list, have a single value"},
		{"PGQUORUM_RAFT_MEMBERS=[", "environment PGQUORUM_RAFT_MEMBERS: raft.members: want a map of texts as YAML text; no valid YAML: sequence end token ']' not found"},
		{"PGQUORUM_RAFT_MEMBERS={n1: x}", `environment PGQUORUM_RAFT_MEMBERS: raft.members.n1: want host:port such as 10.0.0.1:7400, have "x"`},
		{"PGQUORUM_RAFT_HEARTBEAT_TIMEOUT=1ms", "environment PGQUORUM_RAFT_HEARTBEAT_TIMEOUT: raft.heartbeat_timeout: want 100ms to 1m0s, have 1ms"},
	}
	for _, c := range cases {
		t.Run(c.env, func(t *testing.T) {
			t.Parallel()
			_, _, errs := load(t, healthy, c.env)
			if len(errs) == 0 || errs[0] != c.want {
				t.Errorf("errors %q, want %q first", errs, c.want)
			}
		})
	}
	_, warnings, errs := load(t, healthy, "PGQUORUM_RAFT_LISTN=x", "PGQUORUM_URL=http://127.0.0.1:8008")
	wantLines(t, "errors", errs)
	wantLines(t, "warnings", warnings, "environment PGQUORUM_RAFT_LISTN: no such setting; nearest known: PGQUORUM_RAFT_LISTEN")
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "  top secret \n")
	with := func(value string) string {
		return edit(t, healthy, "username: rewind, password: s3", "username: rewind, "+value)
	}
	const key = "node.yml:16:32: postgresql.authentication.rewind.password_file: "
	cases := []struct{ name, text, want string }{
		{"both", with("password_file: " + good + ", password: s3"), key + "password stands beside it; keep one of the two"},
		{"absent", with("password_file: " + dir + "/absent"), key + "secret cannot be used: " + dir + "/absent: cannot be read: open " + dir + "/absent: no such file or directory"},
		{"empty", with("password_file: " + file("empty", "\n")), key + "secret cannot be used: " + dir + "/empty is empty"},
		{"two lines", with("password_file: " + file("lines", "hidden1\nhidden2\n")), key + "secret cannot be used: " + dir + "/lines holds more than one line, or no text"},
		{"no text", with("password_file: " + file("binary", "hidden\xff")), key + "secret cannot be used: " + dir + "/binary holds more than one line, or no text"},
		{"long", with("password_file: " + file("long", strings.Repeat("x", maxSecret+1))), key + "secret cannot be used: " + dir + "/long: longer than 4096 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, errs := load(t, c.text)
			wantLines(t, "errors", errs, c.want)
		})
	}
	c, _, errs := load(t, with("password_file: "+good))
	wantLines(t, "errors", errs)
	if got := c.PostgreSQL.Authentication.Rewind.Password; got != "top secret" {
		t.Errorf("password %q, want the file's content without the white space around it", got)
	}
	c, _, errs = load(t, with("password_file: "+dir+"/absent"), "PGQUORUM_POSTGRESQL_AUTHENTICATION_REWIND_PASSWORD=env")
	wantLines(t, "errors", errs)
	if got := c.PostgreSQL.Authentication.Rewind.Password; got != "env" {
		t.Errorf("password %q, want that of the environment", got)
	}
	c, _, errs = load(t, healthy, "PGQUORUM_POSTGRESQL_AUTHENTICATION_REWIND_PASSWORD_FILE="+good)
	wantLines(t, "errors", errs)
	if got := c.PostgreSQL.Authentication.Rewind.Password; got != "top secret" {
		t.Errorf("password %q, want that of the environment's file", got)
	}
}

func TestLoadClient(t *testing.T) {
	t.Parallel()
	// Neither PostgreSQL's programs nor its secrets are there, and the API's own secret cannot be read: the address still can.
	path := write(t, edit(t, healthy, "bin_dir: BIN", "bin_dir: /nowhere", "restapi:\n", "restapi:\n  authentication: {username: admin, password_file: /no/secret}\n"))
	c, err := LoadClient(path, nil)
	if err != nil || c.URL != "http://127.0.0.1:8008" || c.Username != "admin" || c.PasswordErr == nil {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = LoadClient("", nil); err != nil || c.URL != "" {
		t.Errorf("without a file: %+v, %v, want no URL", c, err)
	}
	c, err = LoadClient("", []string{"PGQUORUM_RESTAPI_AUTHENTICATION_USERNAME=u", "PGQUORUM_RESTAPI_AUTHENTICATION_PASSWORD=p"})
	if err != nil || c.Username != "u" || c.Password != "p" {
		t.Errorf("from the environment: %+v, %v", c, err)
	}
}
