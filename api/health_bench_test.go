package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// BenchmarkHealth asks for /primary over loopback TCP, from one client at a time, and reports the 99th percentile of
// the time from request to answer. The client works in the same process and on the same cores.
func BenchmarkHealth(b *testing.B) {
	for _, method := range []string{http.MethodOptions, http.MethodGet} {
		b.Run(method+"/keepalive", func(b *testing.B) {
			addr := listen(b, newTestServer(primarySource(), nil))
			conn, answers := dialBench(b, addr)
			defer conn.Close()
			measure(b, func() { askBench(b, conn, answers, method) })
		})
		b.Run(method+"/newconn", func(b *testing.B) {
			addr := listen(b, newTestServer(primarySource(), nil))
			measure(b, func() {
				conn, answers := dialBench(b, addr)
				askBench(b, conn, answers, method)
				conn.Close()
			})
		})
	}
	b.Run("replica-query/keepalive", func(b *testing.B) {
		addr := listen(b, newTestServer(standbySource(), nil))
		conn, answers := dialBench(b, addr)
		defer conn.Close()
		measure(b, func() { askPath(b, conn, answers, http.MethodOptions, "/replica?lag=16MB") })
	})
}

// BenchmarkHealthHandler is the handler alone, without a network.
func BenchmarkHealthHandler(b *testing.B) {
	s := newTestServer(primarySource(), nil)
	r, err := http.NewRequest(http.MethodOptions, "http://node/primary", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Handler().ServeHTTP(discard{}, r)
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func measure(b *testing.B, once func()) {
	once()
	b.ReportAllocs()
	took := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		start := time.Now()
		once()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "checks/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func dialBench(b *testing.B, addr string) (net.Conn, *bufio.Reader) {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func askBench(b *testing.B, conn net.Conn, answers *bufio.Reader, method string) {
	b.Helper()
	askPath(b, conn, answers, method, "/primary")
}

func askPath(b *testing.B, conn net.Conn, answers *bufio.Reader, method, path string) {
	b.Helper()
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: n1\r\n\r\n", method, path); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s %s: %d", method, path, resp.StatusCode)
	}
}
