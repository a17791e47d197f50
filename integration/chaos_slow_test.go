//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// A slow wire delays each packet by what was said, in each direction, also on connections that stand, and large segments
// arrive whole. Stopped, it is as fast as before.
func TestSlow(t *testing.T) {
	t.Parallel()
	name := lab.next()
	t.Cleanup(func() { must(t, sweep(name+"-")) })
	n, err := NewNetwork(name)
	must(t, err)
	a, err := n.Attach("a", 1)
	must(t, err)
	defer a.Close()
	b, err := n.Attach("b", 2)
	must(t, err)
	defer b.Close()
	answer(t, b)
	conn, err := a.Dial(within(t, 5*time.Second), "tcp4", b.Addr+":9")
	must(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	trip := func(size int) time.Duration {
		t.Helper()
		began := time.Now()
		must(t, conn.SetDeadline(began.Add(10*time.Second)))
		_, err := fmt.Fprintf(conn, "%*d\n", size, 7)
		must(t, err)
		line, err := reader.ReadString('\n')
		must(t, err)
		if len(line) != size+1 {
			t.Fatalf("want %d bytes back, have %d", size+1, len(line))
		}
		return time.Since(began)
	}
	trip(10)
	stop, err := n.Slow("a", Slowness{In: 30 * time.Millisecond, Out: 50 * time.Millisecond})
	must(t, err)
	for _, size := range []int{10, 200_000} {
		if took := trip(size); took < 80*time.Millisecond {
			t.Errorf("%d bytes there and back in %s, want at least the 80 ms of both ways", size, took)
		}
	}
	must(t, n.Lay("cut", Drop{"a", "b", 100}))
	if passes(t, a, b) {
		t.Error("a layer drops nothing on a slow wire")
	}
	must(t, n.Lift("cut"))
	must(t, stop())
	trip(10)
	if took := trip(10); took > 60*time.Millisecond {
		t.Errorf("there and back in %s on a wire that is no longer slow", took)
	}
}

// answer sends every line back that comes to port 9.
func answer(t *testing.T, ns *Namespace) {
	t.Helper()
	echo(t, ns)
	must(t, ns.Do(func() error {
		listener, err := net.Listen("tcp4", ns.Addr+":9")
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(conn, conn) // it ends with the test's connection
					conn.Close()
				}()
			}
		}()
		return nil
	}))
}
