package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pgquorum/cluster"
)

// listen serves s on loopback until the test ends, and gives its address.
func listen(t testing.TB, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// TestServeStops: Serve ends with its context, and says nothing of it.
func TestServeStops(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newTestServer(primarySource(), nil).Serve(ctx, ln); err != nil {
		t.Errorf("serve: %v", err)
	}
	if err := newTestServer(primarySource(), nil).Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve on a closed listener: %v", err)
	}
}

// TestRawRequests: what HAProxy sends (HTTP/1.0, OPTIONS), and what a broken client sends.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	addr := listen(t, newTestServer(primarySource(), nil))
	for _, tc := range []struct{ name, send, want string }{
		{"HAProxy's check", "OPTIONS /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"HAProxy's check of a standby", "OPTIONS /replica?lag=16MB HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable"},
		{"two slashes", "GET //leader HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		{"escaped", "GET /%70rimary HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		{"large header", "GET /primary HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"no HTTP", "hello\r\n\r\n", "HTTP/1.1 400 Bad Request"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tc.send); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if strings.TrimSpace(line) != tc.want {
			t.Errorf("%s: got %q (%v), want %q", tc.name, line, err, tc.want)
		}
		conn.Close()
	}
}

// TestPanicIsAnswered: a defect in a handler is a 500 and a log line, not the end of the agent.
func TestPanicIsAnswered(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	f := primarySource()
	s := newTestServer(f, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f.edit(func(f *fakeSource) { f.snap.View = nil })
	if w := call(t, s, http.MethodGet, "/primary", nil); w.Code != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", w.Code)
	}
	if !strings.Contains(log.String(), "api handler panicked") {
		t.Errorf("log: %s", log.String())
	}
}

// TestLimitListener: connections above a bound are closed, and a place comes back when one ends.
func TestLimitListener(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	ln := newLimitListener(inner, 3, 2)
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	dial()
	<-accepted
	third := dial()
	if err := third.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("third connection from one address: want it closed, got %v", err)
	}
	first.Close()
	first.Close() // gives one place back, not two
	dial()
	<-accepted
	if !ln.enter("192.0.2.1") || ln.enter("192.0.2.2") {
		t.Error("want room for one more address, and then none")
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestClientAsksTheNextNode: questions and actions go past a node that is not there.
func TestClientAsksTheNextNode(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.result = cluster.ActionResult{Code: 200, Text: `Successfully switched over to "n2"`, Leader: "n2"}
	addr := listen(t, newTestServer(f, func(o *Options) { o.Username, o.Password = "admin", "secret" }))
	c := NewClient([]string{closedPort(t), "http://" + addr + "/patroni"}, ClientOptions{Username: "admin", Password: "secret"})
	defer c.Close()
	ctx := t.Context()
	if v, err := c.Cluster(ctx); err != nil || len(v.Members) != 3 || *v.Members[1].Lag != 0 || *v.Members[1].LSN != Position(someLSN) {
		t.Errorf("cluster: %+v, %v", v, err)
	}
	if st, err := c.Patroni(ctx); err != nil || st.Role != "primary" || st.PGQuorum.Term != 7 {
		t.Errorf("patroni: %+v, %v", st, err)
	}
	if h, err := c.History(ctx); err != nil || len(h) != 2 || h[1].NewLeader != "n1" || h[1].LSN != 0x3000000 {
		t.Errorf("history: %+v, %v", h, err)
	}
	if e, err := c.Events(ctx, 2); err != nil || len(e) != 1 || e[0].Type != "switchover" {
		t.Errorf("events: %+v, %v", e, err)
	}
	if d, err := c.Config(ctx); err != nil || d.SynchronousMode != "quorum" {
		t.Errorf("config: %+v, %v", d, err)
	}
	for path, want := range map[string]int{"/primary": 200, "/replica?lag=1MB": 503} {
		if code, err := c.Health(ctx, path); err != nil || code != want {
			t.Errorf("health %s: %d, %v", path, code, err)
		}
	}
	if res, err := c.Switchover(ctx, cluster.SwitchoverRequest{Leader: "n1"}); err != nil || res.Leader != "n2" || res.Code != 200 {
		t.Errorf("switchover: %+v, %v", res, err)
	}
	if _, err := c.Switchover(ctx, cluster.SwitchoverRequest{Leader: "n1", DryRun: true}); err != nil || len(f.checked) != 1 {
		t.Errorf("dry run: %v, %d checked", err, len(f.checked))
	}
}

// TestClientErrors tells apart: nobody answers, refused, sent without an answer.
func TestClientErrors(t *testing.T) {
	t.Parallel()
	f := primarySource()
	f.result = cluster.ActionResult{Code: 412, Text: "leader is n3"}
	node := listen(t, newTestServer(f, nil))
	f2 := primarySource()
	f2.result = cluster.ActionResult{Code: 504, Text: "no answer from n1"}
	unsure := listen(t, newTestServer(f2, nil))
	var (
		mu   sync.Mutex
		hits int
	)
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		hits++
		mu.Unlock()
		panic(http.ErrAbortHandler) // takes the request, and is gone
	}))
	defer mute.Close()
	gone := closedPort(t)
	for _, tc := range []struct {
		name string
		urls []string
		want error
		code int
	}{
		{"nobody", []string{gone, closedPort(t)}, ErrNoNode, 0},
		{"no URL", nil, ErrNoNode, 0},
		{"refused", []string{gone, node}, nil, 412},
		{"sent, no answer: never sent to a second node", []string{gone, mute.URL, node}, ErrOutcomeUnknown, 0},
		{"the node does not know", []string{unsure, node}, ErrOutcomeUnknown, 0},
	} {
		asked := len(f.asked)
		c := NewClient(tc.urls, ClientOptions{})
		_, err := c.Switchover(t.Context(), cluster.SwitchoverRequest{Leader: "n1"})
		c.Close()
		var refused *Refused
		switch {
		case tc.want != nil && !errors.Is(err, tc.want):
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		case tc.code != 0 && (!errors.As(err, &refused) || refused.Code != tc.code):
			t.Errorf("%s: got %v, want code %d", tc.name, err, tc.code)
		case tc.code == 0 && len(f.asked) != asked:
			t.Errorf("%s: the action went to a second node", tc.name)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if hits != 1 {
		t.Errorf("the mute node was asked %d times, want 1", hits)
	}
}

// TestTLS: Serve speaks TLS with the given configuration.
func TestTLS(t *testing.T) {
	t.Parallel()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	addr := listen(t, newTestServer(primarySource(), func(o *Options) {
		o.TLS = &tls.Config{Certificates: pair.TLS.Certificates, MinVersion: tls.VersionTLS12}
	}))
	roots := pair.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	c := NewClient([]string{addr}, ClientOptions{TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}})
	defer c.Close()
	if code, err := c.Health(t.Context(), "/primary"); err != nil || code != 200 {
		t.Errorf("over TLS: %d, %v", code, err)
	}
}

// closedPort gives an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
