// Package testport gives tests loopback ports that stay theirs while nobody listens on them.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports given are above those of the demo, and below those that Linux gives to outgoing connections
// (net.ipv4.ip_local_port_range), so that none of them takes one while its server is down.
const first, last = 20000, 31999

// Free is a port of 127.0.0.1 that nobody listens on. No other test, of this process or another, is given it until t ends:
// an abstract socket stands for it.
func Free(t testing.TB) int {
	t.Helper()
	for {
		port := first + rand.IntN(last-first+1)
		taken, err := net.Listen("unix", fmt.Sprintf("@pgquorum-test-port-%d", port))
		if err != nil {
			continue // another test's
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = taken.Close() // a stranger's
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = taken.Close() })
		return port
	}
}
