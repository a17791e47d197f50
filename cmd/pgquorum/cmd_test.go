package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// node is a server with the answers of docs: GET /cluster, GET /history, POST /switchover.
type node struct {
	URL string

	mu      sync.Mutex
	answers map[string]answer // by path
	got     []string          // bodies of the actions, in order
	users   []string          // user:password of each action
}

type answer struct {
	code int
	body string
}

const clusterAnswer = `{"members": [
  {"name": "n1", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni", "host": "10.0.0.1", "port": 5432, "timeline": 3, "pgquorum": {"seen_ms": 0}},
  {"name": "n2", "role": "quorum_standby", "state": "streaming", "api_url": "http://10.0.0.2:8008/patroni", "host": "10.0.0.2", "port": 5432, "timeline": 3, "lag": 2097152, "tags": {"zone": "a", "nosync": true}, "pending_restart": true, "pgquorum": {"seen_ms": 12}},
  {"name": "n3", "role": "replica", "state": "unknown", "api_url": "http://10.0.0.3:8008/patroni", "host": "10.0.0.3", "port": 5432, "lag": "unknown", "pgquorum": {"seen_ms": 12345, "error": "connection refused"}}],
 "scope": "main", "pause": true}`

const historyAnswer = `[[1, 50331808, "failover", "2026-03-01T10:00:00.5Z", "n2"], [2, 67109024, "switchover", "2026-03-02T10:00:00Z", "n1"]]`

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{answers: map[string]answer{
		"/cluster":            {200, clusterAnswer},
		"/history":            {200, historyAnswer},
		"/switchover":         {200, "Successfully switched over to \"n2\""},
		"/switchover dry run": {200, "would checkpoint n1, stop it fast, promote n2 and let n1 follow"},
	}}
	srv := httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(srv.Close)
	n.URL = srv.URL
	return n
}

func (n *node) set(path string, code int, body string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[path] = answer{code, body}
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	path := r.URL.Path
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		var call struct {
			DryRun bool `json:"dry_run"`
		}
		if err := json.Unmarshal(body, &call); err != nil {
			panic(http.ErrAbortHandler)
		}
		if call.DryRun || r.URL.Query().Get("dry_run") == "1" {
			path += " dry run"
		}
		user, password, _ := r.BasicAuth()
		n.got, n.users = append(n.got, string(body)), append(n.users, user+":"+password)
	}
	a, known := n.answers[path]
	if !known {
		a = answer{503, "{}"}
	}
	if a.code == 0 {
		panic(http.ErrAbortHandler) // the connection breaks without an answer
	}
	w.WriteHeader(a.code)
	io.WriteString(w, a.body)
}

func (n *node) actions() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.got...)
}

// result is what a command line gave.
type result struct {
	code     int
	out, err string
}

func runWith(t *testing.T, env environment, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	env.Args, env.Out, env.Err = args, &out, &errs
	if env.In == nil {
		env.In = strings.NewReader("")
	}
	code := Run(t.Context(), env)
	return result{code, out.String(), errs.String()}
}

func run(t *testing.T, args ...string) result { return runWith(t, environment{}, args...) }

// deadURL is an address at which nobody listens: its port was ours a moment ago, and it is let go.
func deadURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// Under the table: the alarms of each node's disks.
func TestListDiskAlarms(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.set("/cluster", 200, `{"scope":"main","members":[{"name":"n1","role":"leader","state":"running","pgquorum":{"seen_ms":0,"disk_alarm":"full: disk of wal: 3 MB free"}},
		{"name":"n2","role":"replica","state":"running","pgquorum":{"seen_ms":9}}]}`)
	got := run(t, "list", "--url", n.URL)
	if want := "\n n1: disk alarm: full: disk of wal: 3 MB free\n"; !strings.HasSuffix(got.out, want) {
		t.Errorf("%q, want it to end with %q", got.out, want)
	}
}

func TestListFormats(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cases := map[string]string{
		"pretty": `+ Cluster: main ---------+----------------+-----------+----+-----------+-----------------+-----------------------+
| Member | Host          | Role           | State     | TL | Lag in MB | Pending restart | Tags                  |
+--------+---------------+----------------+-----------+----+-----------+-----------------+-----------------------+
| n1     | 10.0.0.1:5432 | Leader         | running   |  3 |           |                 |                       |
| n2     | 10.0.0.2:5432 | Quorum Standby | streaming |  3 |         2 | *               | nosync: true, zone: a |
| n3     | 10.0.0.3:5432 | Replica        | unknown   |    |   unknown |                 |                       |
+--------+---------------+----------------+-----------+----+-----------+-----------------+-----------------------+
 Maintenance mode: on
 n3: last heard 12s ago: connection refused
`,
		"tsv": "Cluster\tMember\tHost\tRole\tState\tTL\tLag in MB\tPending restart\tTags\n" +
			"main\tn1\t10.0.0.1:5432\tLeader\trunning\t3\t\t\t\n" +
			"main\tn2\t10.0.0.2:5432\tQuorum Standby\tstreaming\t3\t2\t*\tnosync: true, zone: a\n" +
			"main\tn3\t10.0.0.3:5432\tReplica\tunknown\t\tunknown\t\t\n",
		"json": `[
  {
    "Cluster": "main",
    "Member": "n1",
    "Host": "10.0.0.1:5432",
    "Role": "Leader",
    "State": "running",
    "TL": 3
  },
  {
    "Cluster": "main",
    "Member": "n2",
    "Host": "10.0.0.2:5432",
    "Role": "Quorum Standby",
    "State": "streaming",
    "TL": 3,
    "Lag in MB": 2,
    "Pending restart": "*",
    "Tags": {
      "nosync": true,
      "zone": "a"
    }
  },
  {
    "Cluster": "main",
    "Member": "n3",
    "Host": "10.0.0.3:5432",
    "Role": "Replica",
    "State": "unknown",
    "Lag in MB": "unknown"
  }
]
`,
		"yaml": `- Cluster: main
  Member: n1
  Host: 10.0.0.1:5432
  Role: Leader
  State: running
  TL: 3
- Cluster: main
  Member: n2
  Host: 10.0.0.2:5432
  Role: Quorum Standby
  State: streaming
  TL: 3
  Lag in MB: 2
  Pending restart: "*"
  Tags:
    nosync: true
    zone: a
- Cluster: main
  Member: n3
  Host: 10.0.0.3:5432
  Role: Replica
  State: unknown
  Lag in MB: unknown
`,
	}
	for format, want := range cases {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			got := run(t, "list", "--url", n.URL, "-f", format)
			if got.code != exitDone || got.err != "" {
				t.Errorf("exit %d, %s", got.code, got.err)
			}
			wantText(t, "list", got.out, want)
		})
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	got := run(t, "history", "--url", n.URL)
	wantText(t, "history", got.out, `+----+-----------+------------+------------------------+------------+
| TL | LSN       | Reason     | Timestamp              | New Leader |
+----+-----------+------------+------------------------+------------+
|  1 | 0/30000A0 | failover   | 2026-03-01T10:00:00.5Z | n2         |
|  2 | 0/40000A0 | switchover | 2026-03-02T10:00:00Z   | n1         |
+----+-----------+------------+------------------------+------------+
`)
	got = run(t, "history", "--url", n.URL, "-f", "json")
	var rows []map[string]any
	if err := json.Unmarshal([]byte(got.out), &rows); err != nil || len(rows) != 2 || rows[1]["New Leader"] != "n1" {
		t.Errorf("%v: %s", err, got.out)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	n, refuses := newNode(t), newNode(t)
	refuses.set("/cluster", 500, "it broke")
	dead := deadURL(t)
	cases := []struct {
		name string
		args []string
		code int
		err  string // part of standard error
	}{
		{"done", []string{"list", "--url", n.URL}, exitDone, ""},
		{"the second URL answers", []string{"list", "--url", dead, "--url", n.URL}, exitDone, ""},
		{"an address alone", []string{"list", "--url", strings.TrimPrefix(n.URL, "http://") + "/patroni"}, exitDone, ""},
		{"help", []string{"--help"}, exitDone, ""},
		{"no command", nil, exitDone, ""},
		{"version", []string{"version"}, exitDone, ""},
		{"refused", []string{"list", "--url", refuses.URL}, exitFailed, "it broke (HTTP 500)"},
		{"no node", []string{"list", "--url", dead}, exitNobody, "no node answers"},
		{"no node for an action", []string{"switchover", "--force", "--leader", "n1", "--url", dead}, exitNobody, "no node answers"},
		{"unknown command", []string{"lst"}, exitUsage, `unknown command "lst"`},
		{"unknown flag", []string{"list", "--urll", "x"}, exitUsage, "unknown flag: --urll"},
		{"flag without value", []string{"list", "--url"}, exitUsage, "flag needs an argument: --url"},
		{"an argument too many", []string{"list", "main"}, exitUsage, `unknown command "main" for "pgquorum list"`},
		{"unknown format", []string{"list", "--url", n.URL, "-f", "xml"}, exitUsage, `--format "xml": want pretty, tsv, json, yaml`},
		{"watch backwards", []string{"list", "--url", n.URL, "-w", "-1s"}, exitUsage, "--watch -1s: want more than 0"},
		{"no URL", []string{"list", "--url", "ftp://n1"}, exitUsage, `URL "ftp://n1": want one such as http://10.0.0.1:8008`},
		{"password in the URL", []string{"list", "--url", "http://admin:secret@10.0.0.1:8008"}, exitUsage, `URL "***@10.0.0.1:8008" holds a user`},
		{"nobody to ask", []string{"switchover", "--url", n.URL}, exitUsage, "give --force or --dry-run"},
		{"guard by hand", []string{"guard"}, exitUsage, "--dir, --data-dir and --bin-dir are required"},
		{"file that is not there", []string{"list", "-c", "/no/file.yml"}, exitFailed, "/no/file.yml: cannot be read"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := run(t, c.args...)
			if got.code != c.code || !strings.Contains(got.err, c.err) {
				t.Errorf("exit %d, %q; want exit %d with %q", got.code, got.err, c.code, c.err)
			}
			if strings.Contains(got.out+got.err, "secret") {
				t.Errorf("the password is repeated: %s%s", got.out, got.err)
			}
		})
	}
}

func TestWhereTheURLComesFrom(t *testing.T) {
	t.Parallel()
	n, other := newNode(t), newNode(t)
	other.set("/cluster", 200, `{"members": [], "scope": "other"}`)
	file := nodeFile(t, strings.TrimPrefix(n.URL, "http://"), "")
	cases := []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"the variable", []string{"PGQUORUM_URL=" + n.URL}, nil, "Cluster: main"},
		{"several in the variable", []string{"PGQUORUM_URL=" + deadURL(t) + "," + n.URL}, nil, "Cluster: main"},
		{"the file", nil, []string{"-c", file}, "Cluster: main"},
		{"the flag wins over both", []string{"PGQUORUM_URL=" + n.URL}, []string{"-c", file, "--url", other.URL}, "Cluster: other"},
		{"the variable wins over the file", []string{"PGQUORUM_URL=" + other.URL}, []string{"-c", file}, "Cluster: other"},
		{"the file's own variables", []string{"PGQUORUM_RESTAPI_CONNECT_ADDRESS=" + strings.TrimPrefix(other.URL, "http://")}, []string{"-c", file}, "Cluster: other"},
		{"no proxy is asked", []string{"HTTP_PROXY=" + other.URL, "http_proxy=" + other.URL}, []string{"--url", n.URL}, "Cluster: main"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := runWith(t, environment{Env: c.env}, append([]string{"list"}, c.args...)...)
			if got.code != exitDone || !strings.Contains(got.out, c.want) {
				t.Errorf("exit %d, %s%s; want %q", got.code, got.out, got.err, c.want)
			}
		})
	}
}

// nodeFile writes a node's file whose API is at address.
func nodeFile(t *testing.T, address, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yml")
	text := "scope: main\nname: n1\nrestapi:\n  listen: " + address + "\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// watcher ends the watching once it was written to often enough.
type watcher struct {
	text bytes.Buffer
	stop func()
	left int
}

func (w *watcher) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("Cluster: main")) {
		if w.left--; w.left == 0 {
			w.stop()
		}
	}
	return w.text.Write(p)
}

func TestWatchGoesOnUntilInterrupted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &watcher{stop: stop, left: 3}
	var errs bytes.Buffer
	code := Run(ctx, environment{Args: []string{"list", "-w", "1ms", "--url", n.URL}, In: strings.NewReader(""), Out: out, Err: &errs, OutTerminal: true})
	if code != exitDone || out.left > 0 {
		t.Errorf("exit %d with %d tables to go: %s", code, out.left, errs.String())
	}
	if !strings.HasPrefix(out.text.String(), "\x1b[H\x1b[2J") {
		t.Error("the terminal was not cleared")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := run(t, "version"); !strings.HasPrefix(got.out, "pgquorum 0.1.0") || !strings.Contains(got.out, "go1.") {
		t.Errorf("version: %q", got.out)
	}
}
