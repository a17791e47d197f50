//go:build integration && bench

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// healthLoad asks the same question again and again on several connections from one thread (epoll), so that it costs
// little beside what it measures. It must run in the network namespace of its clients.
type healthLoad struct {
	addr      string
	port      int
	keepAlive bool
	request   []byte

	took   []time.Duration // of each check that was answered with 200, with keepAlive off from the connect on
	failed int
	lasted time.Duration

	epoll int
	to    *unix.SockaddrInet4
	conns map[int32]*healthConn
}

// healthConn is one connection with at most one question under way.
type healthConn struct {
	fd     int
	asked  time.Time
	sent   bool
	answer []byte
}

// run asks for a while.
func (l *healthLoad) run(d time.Duration) (err error) {
	ip, err := netip.ParseAddr(l.addr)
	if err != nil {
		return err
	}
	l.to, l.conns = &unix.SockaddrInet4{Port: l.port, Addr: ip.As4()}, map[int32]*healthConn{}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(l.epoll)
	defer func() {
		for _, c := range l.conns {
			err = errors.Join(err, unix.Close(c.fd))
		}
	}()
	began := time.Now()
	for range healthConnections {
		if err := l.connect(); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, healthConnections)
	for time.Since(began) < d {
		n, err := unix.EpollWait(l.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := l.turn(l.conns[e.Fd]); err != nil {
				return err
			}
		}
	}
	l.lasted = time.Since(began)
	return nil
}

// connect begins a connection and, once it stands, its first question.
func (l *healthLoad) connect() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c := &healthConn{fd: fd, asked: time.Now()}
	l.conns[int32(fd)] = c
	// Closing resets: as with HAProxy's checks, no port waits for a minute after each.
	err = errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, l.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %s: %w", l.addr, err)
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

// turn does what a connection is ready for.
func (l *healthLoad) turn(c *healthConn) error {
	if !c.sent {
		if err := l.send(c); err != nil {
			return l.lost(c)
		}
		return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)})
	}
	var buf [4096]byte
	n, err := unix.Read(c.fd, buf[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil || n == 0 {
		return l.lost(c)
	}
	c.answer = append(c.answer, buf[:n]...)
	code, whole, err := parseAnswer(c.answer)
	switch {
	case err != nil:
		return err
	case !whole:
		return nil
	case code == 200:
		l.took = append(l.took, time.Since(c.asked))
	default:
		l.failed++
	}
	if !l.keepAlive {
		return l.again(c)
	}
	c.asked = time.Now()
	if err := l.send(c); err != nil {
		return l.lost(c)
	}
	return nil
}

func (l *healthLoad) send(c *healthConn) error {
	c.answer, c.sent = c.answer[:0], true
	n, err := unix.Write(c.fd, l.request)
	if err == nil && n < len(l.request) {
		err = fmt.Errorf("request: %d bytes of %d sent", n, len(l.request))
	}
	return err
}

// lost counts a question without an answer and takes another connection.
func (l *healthLoad) lost(c *healthConn) error {
	l.failed++
	return l.again(c)
}

func (l *healthLoad) again(c *healthConn) error {
	delete(l.conns, int32(c.fd))
	return errors.Join(unix.Close(c.fd), l.connect())
}

// parseAnswer gives the code of an answer of HTTP/1.1 and whether all of it has arrived.
func parseAnswer(text []byte) (code int, whole bool, err error) {
	head, body, ok := bytes.Cut(text, []byte("\r\n\r\n"))
	if !ok {
		return 0, false, nil
	}
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 {
		return 0, false, fmt.Errorf("answer: want a status line, have %q", line)
	}
	if code, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, fmt.Errorf("answer: %q: %w", line, err)
	}
	for header := range bytes.SplitSeq(rest, []byte("\r\n")) {
		name, value, _ := bytes.Cut(header, []byte(":"))
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		return code, len(body) >= length, err
	}
	return 0, false, fmt.Errorf("answer: no Content-Length in %q", head)
}
