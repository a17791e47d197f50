package main

import (
	"strings"
	"testing"
)

func TestSwitchover(t *testing.T) {
	t.Parallel()
	const (
		dry  = `{"leader":"n1","candidate":"n2","dry_run":true}`
		real = `{"leader":"n1","candidate":"n2"}`
	)
	cases := []struct {
		name    string
		args    []string
		typed   string // by a person; empty: no terminal
		edit    func(*node)
		code    int
		out     []string // parts of standard output, in order
		err     string
		actions []string
	}{
		{"confirmed", []string{"--candidate", "n2"}, "y\n", nil, exitDone,
			[]string{"Cluster: main", "would checkpoint n1", "Move the primary from n1 to n2 now? Sessions on n1 will end. [y/N]: ", `Successfully switched over to "n2"`}, "", []string{dry, real}},
		{"to the best", nil, "yes\n", nil, exitDone,
			[]string{"from n1 to the best candidate now?", "Successfully"}, "", []string{`{"leader":"n1","dry_run":true}`, `{"leader":"n1"}`}},
		{"not confirmed", []string{"--candidate", "n2"}, "n\n", nil, exitFailed, []string{"[y/N]"}, "not confirmed; nothing was changed", []string{dry}},
		{"nothing typed", []string{"--candidate", "n2"}, "\n", nil, exitFailed, nil, "not confirmed", []string{dry}},
		{"forced", []string{"--candidate", "n2", "--force"}, "", nil, exitDone, []string{"Successfully"}, "", []string{real}},
		{"forced, leader named", []string{"--candidate", "n2", "--leader", "n1", "--force"}, "", func(n *node) { n.set("/cluster", 500, "") }, exitDone,
			[]string{"Successfully"}, "", []string{real}},
		{"dry run", []string{"--candidate", "n2", "--dry-run"}, "", nil, exitDone, []string{"Cluster: main", "would checkpoint n1"}, "", []string{dry}},
		{"dry run with force", []string{"--candidate", "n2", "--dry-run", "--force"}, "", nil, exitDone, []string{"would checkpoint n1"}, "", []string{dry}},
		{"dry run refused: nobody is asked", []string{"--candidate", "n2"}, "y\n", func(n *node) { n.set("/switchover dry run", 412, "n2 lags behind by 5 MB") }, exitFailed,
			nil, "n2 lags behind by 5 MB (HTTP 412)", []string{dry}},
		{"refused", []string{"--candidate", "n2", "--force"}, "", func(n *node) { n.set("/switchover", 412, "leader is n3") }, exitFailed, nil, "leader is n3 (HTTP 412)", []string{real}},
		{"failed", []string{"--candidate", "n2", "--force"}, "", func(n *node) { n.set("/switchover", 503, "it failed") }, exitFailed, nil, "it failed", []string{real}},
		{"no answer after it was sent", []string{"--candidate", "n2", "--force"}, "", func(n *node) { n.set("/switchover", 0, "") }, exitUnknown, nil, "outcome unknown", []string{real}},
		{"the node does not know either", []string{"--candidate", "n2", "--force"}, "", func(n *node) { n.set("/switchover", 504, "sent to n1, no answer") }, exitUnknown, nil, "sent to n1, no answer", []string{real}},
		{"no leader", []string{"--force"}, "", func(n *node) { n.set("/cluster", 200, `{"members": [], "scope": "main"}`) }, exitFailed, nil, "no leader at present", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			if c.edit != nil {
				c.edit(n)
			}
			env := environment{In: strings.NewReader(c.typed), InTerminal: c.typed != ""}
			got := runWith(t, env, append([]string{"switchover", "--url", n.URL}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.err, c.err) {
				t.Errorf("exit %d, %q; want exit %d with %q", got.code, got.err, c.code, c.err)
			}
			rest := got.out
			for _, part := range c.out {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("output %q lacks %q, or has it too early", got.out, part)
				}
				rest = after
			}
			if a := strings.Join(n.actions(), "\n"); a != strings.Join(c.actions, "\n") {
				t.Errorf("actions:\n%s\nwant:\n%s", a, strings.Join(c.actions, "\n"))
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	const auth = "  authentication: {username: admin, password: fromfile}\n"
	cases := []struct {
		name string
		env  []string
		file string // more of the node's file; empty: none is named
		want string // user:password as the node got it
		code int
	}{
		{"of the file", nil, auth, "admin:fromfile", exitDone},
		{"of the environment", []string{"PGQUORUM_RESTAPI_AUTHENTICATION_USERNAME=u", "PGQUORUM_RESTAPI_AUTHENTICATION_PASSWORD=p"}, "", "u:p", exitDone},
		{"none", nil, "", ":", exitDone},
		{"a file that cannot be read", nil, "  authentication: {username: admin, password_file: /no/file}\n", "", exitFailed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			args := []string{"switchover", "--url", n.URL, "--leader", "n1", "--force"}
			if c.file != "" {
				args = append(args, "-c", nodeFile(t, "127.0.0.1:8008", c.file))
			}
			got := runWith(t, environment{Env: c.env}, args...)
			if got.code != c.code {
				t.Errorf("exit %d: %s", got.code, got.err)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if users := strings.Join(n.users, " "); users != c.want {
				t.Errorf("credentials %q, want %q", users, c.want)
			}
		})
	}
}
