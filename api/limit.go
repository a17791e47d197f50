package api

import (
	"net"
	"sync"
)

// limitListener bounds how many connections are open, in all and from one address, so that a flood from one host
// leaves room for the load balancers' checks. A connection above a bound is closed at once: to wait in the kernel's
// queue would cost the checkers behind it their timeout.
type limitListener struct {
	net.Listener
	total, perIP int

	mu   sync.Mutex
	open map[string]int // by address
	sum  int
}

func newLimitListener(ln net.Listener, total, perIP int) *limitListener {
	return &limitListener{Listener: ln, total: total, perIP: perIP, open: make(map[string]int)}
}

// Accept gives the next connection that fits.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(conn.RemoteAddr())
		if l.enter(host) {
			return &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(host) })}, nil
		}
		_ = conn.Close() // the peer learns it from the reset; there is nobody else to tell
	}
}

func (l *limitListener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sum >= l.total || l.open[host] >= l.perIP {
		return false
	}
	l.sum++
	l.open[host]++
	return true
}

func (l *limitListener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum--
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection and gives its place back, once.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String() // a Unix socket has no port
	}
	return host
}
