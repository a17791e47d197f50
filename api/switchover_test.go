package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgquorum/cluster"
)

// post sends an action from loopback unless change says otherwise.
func post(t *testing.T, s *Server, method, target, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:40000"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// TestSwitchoverAnswers: each code, whether the agent was asked, and what the text says.
func TestSwitchoverAnswers(t *testing.T) {
	t.Parallel()
	const good = `{"leader":"n1","candidate":"n2"}`
	done := cluster.ActionResult{Code: 200, Text: `Successfully switched over to "n2"`, Leader: "n2"}
	for _, tc := range []struct {
		name, target, body string
		result             cluster.ActionResult
		edit               func(*fakeSource)
		code               int
		text               string
		asked, checked     int
	}{
		{name: "done", body: good, result: done, code: 200, text: `"n2"`, asked: 1},
		{name: "no candidate", body: `{"leader":"n1"}`, result: done, code: 200, asked: 1},
		{name: "Patroni's old word", body: `{"leader":"n1","member":"n2"}`, result: done, code: 200, asked: 1},
		{name: "dry run", target: "?dry_run=1", body: good, result: cluster.ActionResult{Code: 200, Text: "n2 would take over"}, code: 200, text: "would", checked: 1},
		{name: "dry run in the body", body: `{"leader":"n1","dry_run":true}`, result: done, code: 200, checked: 1},
		{name: "dry run, unreadable", target: "?dry_run=maybe", body: good, code: 400, text: "dry_run=maybe"},
		{name: "leader mismatch", body: good, result: cluster.ActionResult{Code: 412, Text: "leader is n3"}, code: 412, text: "leader is n3", asked: 1},
		{name: "failed", body: good, result: cluster.ActionResult{Code: 503, Text: "Switchover failed"}, code: 503, text: "failed", asked: 1},
		{name: "unknown", body: good, result: cluster.ActionResult{Code: 504, Text: "no answer from n1"}, code: 504, asked: 1},
		{name: "an answer that is none", body: good, result: cluster.ActionResult{Text: "x"}, code: 500, asked: 1},
		{name: "no leader", body: `{"candidate":"n2"}`, code: 400, text: "the present one is n1"},
		{name: "same node", body: `{"leader":"n1","candidate":"n1"}`, code: 400, text: "the same"},
		{name: "paused, no candidate", body: `{"leader":"n1"}`, edit: func(f *fakeSource) { f.snap.View.Pause = &cluster.Pause{} }, code: 400, text: "resume"},
		{name: "paused, candidate", body: good, result: done, edit: func(f *fakeSource) { f.snap.View.Pause = &cluster.Pause{} }, code: 200, asked: 1},
		{name: "no body", body: "", code: 400, text: "JSON object"},
		{name: "not JSON", body: "leader=n1", code: 400},
		{name: "not an object", body: `["n1"]`, code: 400},
		{name: "wrong type", body: `{"leader":1}`, code: 400},
		{name: "too large", body: `{"leader":"` + strings.Repeat("x", maxBody) + `"}`, code: 413, text: "1048576"},
		{name: "scheduled", body: `{"leader":"n1","scheduled_at":"2026-02-01T12:00:00+01:00"}`, code: 501, text: "n1 remains the leader"},
		{name: "scheduled in the past", body: `{"leader":"n1","scheduled_at":"2025-02-01T12:00:00Z"}`, code: 422, text: "past"},
		{name: "scheduled, no time zone", body: `{"leader":"n1","scheduled_at":"2026-02-01T12:00:00"}`, code: 400, text: "Timezone"},
		{name: "scheduled, unreadable", body: `{"leader":"n1","scheduled_at":"tomorrow"}`, code: 422, text: "tomorrow"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := primarySource()
			f.result = tc.result
			if tc.edit != nil {
				f.edit(tc.edit)
			}
			w := post(t, newTestServer(f, nil), http.MethodPost, "/switchover"+tc.target, tc.body, nil)
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tc.code, tc.text)
			}
			if len(f.asked) != tc.asked || len(f.checked) != tc.checked {
				t.Errorf("switchovers %v, dry runs %v; want %d and %d", f.asked, f.checked, tc.asked, tc.checked)
			}
			if ct := w.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", ct)
			}
			if w.Header().Get(leaderHeader) != string(tc.result.Leader) {
				t.Errorf("leader header %q", w.Header().Get(leaderHeader))
			}
		})
	}
}

// TestSwitchoverOutlivesItsClient: who hangs up does not leave the cluster half-way.
func TestSwitchoverOutlivesItsClient(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.result = cluster.ActionResult{Code: 200}
	gone, hangUp := context.WithCancel(t.Context())
	f.during = func(ctx context.Context) {
		hangUp()
		if ctx.Err() != nil {
			t.Error("the switchover was cancelled with its client")
		}
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the switchover has no deadline")
		}
	}
	post(t, newTestServer(f, nil), http.MethodPost, "/switchover", `{"leader":"n1"}`, func(r *http.Request) { *r = *r.WithContext(gone) })
	if len(f.asked) != 1 || gone.Err() == nil {
		t.Error("the switchover did not run")
	}
}

func TestOtherActions(t *testing.T) {
	t.Parallel()
	s := newTestServer(primarySource(), nil)
	for target, code := range map[string]int{
		"DELETE /switchover": 404, "POST /restart": 501, "POST /": 501, "PATCH /config": 501, "PUT /config": 501, "POST /failover": 501, "DELETE /nodes/n1": 501,
	} {
		method, path, _ := strings.Cut(target, " ")
		if w := post(t, s, method, path, "{}", nil); w.Code != code {
			t.Errorf("%s: got %d, want %d", target, w.Code, code)
		}
		w := post(t, s, method, path, "{}", func(r *http.Request) { r.RemoteAddr = "192.0.2.9:1" })
		if w.Code != http.StatusForbidden {
			t.Errorf("%s from elsewhere: got %d, want 403", target, w.Code)
		}
	}
	if w := callRawMethod(t, s, http.MethodPost, "//switchover"); w.Code != http.StatusBadRequest {
		t.Errorf("POST //switchover: got %d, want 400", w.Code)
	}
}

func callRawMethod(t *testing.T, s *Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	return post(t, s, method, "http://node:8008"+path, "", nil)
}

// TestAuthority: who may act. The action is a switchover; safe methods are open to all.
func TestAuthority(t *testing.T) {
	t.Parallel()
	basic := func(user, pass string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, pass) }
	}
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tc := range []struct {
		name       string
		configured bool
		change     func(*http.Request)
		code       int
	}{
		{"right", true, basic("admin", "secret"), 200},
		{"right, from elsewhere", true, func(r *http.Request) { basic("admin", "secret")(r); from("192.0.2.9:1")(r) }, 200},
		{"none", true, nil, 401},
		{"wrong password", true, basic("admin", "secre"), 401},
		{"wrong user", true, basic("root", "secret"), 401},
		{"empty", true, basic("", ""), 401},
		{"shifted", true, basic("admins", "ecret"), 401},
		{"not basic", true, header("Authorization", "Bearer c2VjcmV0"), 401},
		{"not base64", true, header("Authorization", "Basic !"), 401},
		{"right, from another origin", true, func(r *http.Request) { basic("admin", "secret")(r); header("Sec-Fetch-Site", "cross-site")(r) }, 403},
		{"open, loopback", false, nil, 200},
		{"open, loopback 6", false, from("[::1]:40000"), 200},
		{"open, loopback mapped", false, from("[::ffff:127.0.0.1]:40000"), 200},
		{"open, elsewhere", false, from("192.0.2.9:40000"), 403},
		{"open, unix socket", false, from("@"), 403},
		{"open, passed on by a proxy", false, header("X-Forwarded-For", "192.0.2.9"), 403},
		{"open, says it is loopback", false, func(r *http.Request) { from("192.0.2.9:1")(r); header("X-Real-Ip", "127.0.0.1")(r) }, 403},
		{"open, another origin", false, header("Origin", "http://evil.example"), 403},
		{"open, rebound name", false, func(r *http.Request) {
			r.Host = "evil.example:8008"
			header("Origin", "http://evil.example:8008")(r)
			header("Sec-Fetch-Site", "same-origin")(r)
		}, 403},
		{"open, own page", false, func(r *http.Request) {
			r.Host = "127.0.0.1:8008"
			header("Origin", "http://127.0.0.1:8008")(r)
			header("Sec-Fetch-Site", "same-origin")(r)
		}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := primarySource()
			f.result = cluster.ActionResult{Code: 200, Text: "done"}
			s := newTestServer(f, func(o *Options) {
				if tc.configured {
					o.Username, o.Password = "admin", "secret"
				}
			})
			w := post(t, s, http.MethodPost, "/switchover", `{"leader":"n1"}`, tc.change)
			if w.Code != tc.code {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tc.code)
			}
			if (w.Code == 200) != (len(f.asked) == 1) {
				t.Errorf("code %d, but %d switchovers", w.Code, len(f.asked))
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (tc.code == 401) {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			for _, safe := range []string{"/primary", "/cluster", "/config", "/metrics"} {
				if w := call(t, s, http.MethodGet, safe, nil); w.Code != 200 {
					t.Errorf("GET %s without credentials: %d", safe, w.Code)
				}
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Error("the answer holds the password")
			}
		})
	}
}
