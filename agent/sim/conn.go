package sim

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"pgquorum/cluster"
)

// conn is one end of a connection. What is written travels in a goroutine of its own, in order.
type conn struct {
	net           *Network
	local, remote cluster.NodeID
	service       service
	peer          *conn
	in            *stream

	once sync.Once
	gone chan struct{} // closed when this end is

	mu       sync.Mutex
	sending  []chunk
	carrying bool
	why      error // this end is gone
}

// chunk is what one Write sent, or the end.
type chunk struct {
	data []byte
	at   time.Time
	end  bool
}

// Write never blocks: a host's buffers are large against what is sent here.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return 0, c.why
	}
	c.send(chunk{data: append([]byte(nil), b...), at: time.Now()})
	return len(b), nil
}

// send puts a chunk on its way. Called with c.mu.
func (c *conn) send(k chunk) {
	c.sending = append(c.sending, k)
	if !c.carrying {
		c.carrying = true
		go c.carry()
	}
}

// carry brings what was written to the other end. It ends with what there is, and when nothing will ever arrive.
func (c *conn) carry() {
	for {
		c.mu.Lock()
		if len(c.sending) == 0 {
			c.carrying = false
			c.mu.Unlock()
			return
		}
		k := c.sending[0]
		c.sending = c.sending[1:]
		c.mu.Unlock()
		if !c.travel(k) {
			return
		}
	}
}

// travel waits until a chunk is through; false when it never will be. A way that is cut holds it back: TCP sends again.
func (c *conn) travel(k chunk) bool {
	late := c.net.again(c.local, c.remote)
	for {
		cut, delay, changed := c.net.way(c.local, c.remote, c.service)
		if c.lost() {
			return false
		}
		wait := time.Until(k.at.Add(delay + late))
		if !cut && wait <= 0 {
			break
		}
		if cut {
			wait = retransmit
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
		if cut && time.Since(k.at) > tcpGivesUp {
			c.abort(os.ErrDeadlineExceeded)
			return false
		}
	}
	if c.peer.isGone() {
		c.abort(errReset)
		return false
	}
	c.peer.in.put(k)
	return true
}

const (
	retransmit = time.Second
	tcpGivesUp = 30 * time.Second
)

// lost says whether what was sent will never arrive: this end's host is off, or the other's is.
func (c *conn) lost() bool { return c.crashed() || c.peer.crashed() }

func (c *conn) crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.why, errCrashed)
}

func (c *conn) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// abort ends this end without a word to the other.
func (c *conn) abort(why error) {
	c.mu.Lock()
	if c.why == nil {
		c.why = why
	}
	c.mu.Unlock()
	c.once.Do(func() {
		close(c.gone)
		if c.service == serviceAgent { // its connections are kept alive (raftfsm); PostgreSQL's own means are in its model
			time.AfterFunc(keepAliveEnds, func() { c.peer.abort(os.ErrDeadlineExceeded) })
		}
	})
	c.in.fail(why)
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
}

// Close says goodbye.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.why == nil {
		c.send(chunk{at: time.Now(), end: true})
	}
	c.mu.Unlock()
	c.abort(net.ErrClosed)
	return nil
}

func (c *conn) Read(b []byte) (int, error)        { return c.in.read(b) }
func (c *conn) LocalAddr() net.Addr               { return address(c.local) }
func (c *conn) RemoteAddr() net.Addr              { return address(c.remote) }
func (c *conn) SetDeadline(t time.Time) error     { c.in.deadline(t); return nil }
func (c *conn) SetReadDeadline(t time.Time) error { c.in.deadline(t); return nil }
func (c *conn) SetWriteDeadline(time.Time) error  { return nil } // no write ever waits

// stream is what has arrived and was not read yet.
type stream struct {
	mu    sync.Mutex
	data  []byte
	err   error
	until time.Time
	wake  chan struct{} // closed and replaced when anything above changes
}

func newStream() *stream { return &stream{wake: make(chan struct{})} }

func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *stream) put(k chunk) {
	s.change(func() {
		s.data = append(s.data, k.data...)
		if k.end && s.err == nil {
			s.err = io.EOF
		}
	})
}

func (s *stream) fail(err error)       { s.change(func() { s.err = err }) }
func (s *stream) deadline(t time.Time) { s.change(func() { s.until = t }) }

// ready gives what a read can have at once: bytes, or an error. With neither, more says what to wait for, and until when.
func (s *stream) ready(b []byte) (n int, more <-chan struct{}, until time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil && !errors.Is(s.err, io.EOF):
		return 0, nil, until, s.err
	case !s.until.IsZero() && !time.Now().Before(s.until):
		return 0, nil, until, os.ErrDeadlineExceeded
	case len(s.data) > 0:
		n = copy(b, s.data)
		s.data = s.data[n:]
		return n, nil, until, nil
	}
	return 0, s.wake, s.until, s.err
}

func (s *stream) read(b []byte) (int, error) {
	for {
		n, wake, until, err := s.ready(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if until.IsZero() {
			<-wake
			continue
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}
