package raftfsm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// mux shares one TCP listener between Raft and the peer channel: each connection begins with a hello that says which
// it is and who calls (docs/protocol.md section 11). It also dials, and keeps every connection, so that Close ends them all.
type mux struct {
	self      cluster.NodeID
	uid       cluster.UID
	scope     string
	ln        net.Listener
	serverTLS *tls.Config
	clientTLS *tls.Config
	dialTCP   func(ctx context.Context, addr string) (net.Conn, error)
	view      func() *cluster.View
	place     *place
	names     *readmits
	log       *slog.Logger

	raftSide, peerSide *side
	done               chan struct{}
	slots              chan struct{} // bounds the hellos under way
	work               sync.WaitGroup

	began time.Time

	mu       sync.Mutex
	shut     bool
	refused  string // the last refusal of ours that was logged
	conns    map[*conn]struct{}
	refusals map[cluster.NodeID]string // by the node asked for: why our last hello was refused
}

// conn is a connection whose hello is done.
type conn struct {
	net.Conn
	mux     *mux
	node    cluster.NodeID
	uid     cluster.UID
	kind    string
	inbound bool
	cut     atomic.Bool  // its node bears its name no more
	heard   atomic.Int64 // dialled ones: when something was last read, as mux.age tells it; 0: never; for names only
}

// freshAnswer is how long an answer on a connection that we made holds the name of who gave it. A leader hears from
// every follower many times in it.
const freshAnswer = 2 * time.Second

// Read reads, and remembers that the other end lives.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() {
		return 0, net.ErrClosed
	}
	if n > 0 && !c.inbound {
		c.heard.Store(int64(c.mux.age()))
	}
	return n, err
}

// holdsName says whether the connection proves that its name is in use: one that a peer made does as long as it lives,
// since its end is noticed by whoever reads it; one that we made does while answers come.
func (c *conn) holdsName() bool {
	heard := c.heard.Load()
	return c.inbound || heard != 0 && c.mux.age()-time.Duration(heard) < freshAnswer
}

// age is how long the mux is there, by a clock that nobody sets: a jump of the wall clock must neither free a name nor hold one.
func (m *mux) age() time.Duration { return time.Since(m.began) }

// Close closes the connection; its claim on the node's name ends.
func (c *conn) Close() error { return c.mux.forget(c).Close() }

// PeerOf says who is at the other end of a connection of PeerListener or DialPeer, as the hello gave it; both empty
// for any other connection.
func PeerOf(c net.Conn) (cluster.NodeID, cluster.UID) {
	if pc, ok := c.(*conn); ok {
		return pc.node, pc.uid
	}
	return "", ""
}

// maxGreetings is how many connections may be between being accepted and being handed on.
const maxGreetings = 128

// newMux listens and begins to accept.
func newMux(ctx context.Context, opt Options, view func() *cluster.View, at *place, given *readmits) (*mux, error) {
	ln := opt.Listener
	if ln == nil {
		var err error
		if ln, err = listener(ctx, opt.Listen); err != nil {
			return nil, fmt.Errorf("raft.listen %s: %w", opt.Listen, err)
		}
	}
	m := &mux{
		self: opt.Self, uid: opt.UID, scope: opt.Scope, ln: ln, serverTLS: opt.ServerTLS, clientTLS: opt.ClientTLS,
		dialTCP: dialer(opt), view: view, place: at, names: given, log: opt.Log, done: make(chan struct{}),
		slots: make(chan struct{}, maxGreetings), conns: map[*conn]struct{}{}, refusals: map[cluster.NodeID]string{}, began: time.Now(),
	}
	m.raftSide, m.peerSide = newSide(m), newSide(m)
	m.work.Go(m.accept)
	return m, nil
}

// accept takes connections until the listener is closed.
func (m *mux) accept() {
	for {
		raw, err := m.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			m.log.Warn("raft listener cannot accept", "error", err)
			select {
			case <-m.done:
				return
			case <-time.After(100 * time.Millisecond): // such as too many open files
			}
			continue
		}
		select {
		case m.slots <- struct{}{}:
			m.work.Go(func() {
				m.greet(raw)
				<-m.slots
			})
		case <-m.done:
			raw.Close()
			return
		}
	}
}

// greet reads and answers a hello and hands the connection to the side it asks for.
func (m *mux) greet(raw net.Conn) {
	c := &conn{Conn: raw, mux: m, inbound: true}
	if !m.keep(c) {
		return
	}
	if err := m.receiveHello(c); err != nil {
		m.logRefused(raw, err)
		c.Close()
		return
	}
	switch c.kind {
	case kindAsk:
		c.Close()
	case kindRaft:
		m.raftSide.hand(c)
	default:
		m.peerSide.hand(c)
	}
}

// logRefused says once why a hello was refused, not at each try; what is no hello at all is not worth a warning.
func (m *mux) logRefused(raw net.Conn, err error) {
	var refused *HelloError
	level := slog.LevelDebug
	m.mu.Lock()
	if errors.As(err, &refused) && m.refused != err.Error() {
		m.refused, level = err.Error(), slog.LevelWarn
	}
	m.mu.Unlock()
	m.log.Log(context.Background(), level, "connection refused", "remote", raw.RemoteAddr().String(), "error", err)
}

// receiveHello does the hello on an accepted connection.
func (m *mux) receiveHello(c *conn) error {
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if m.serverTLS != nil {
		m.setInner(c, tls.Server(c.Conn, m.serverTLS))
	}
	var h hello
	if err := readMessage(c.Conn, &h); err != nil {
		return err
	}
	answer := helloAnswer{Node: m.self, UID: m.uid, Since: m.since(), ClusterID: m.clusterID(), Error: m.objection(h)}
	if answer.Error == "" {
		m.believe(h.ClusterID, h.Node, Bearer{h.UID, h.Since})
	}
	if answer.Error == "" && h.Kind == kindRaft && m.raftSide.isClosed() {
		answer.Error = fmt.Sprintf("raft is closed on %s", m.self)
	}
	switch {
	case answer.Error != "":
	case h.Kind == kindAsk:
		m.mu.Lock()
		c.kind = kindAsk
		m.mu.Unlock()
		m.asked(h)
		answer.Standing, answer.Founders = m.place.standing()
	default:
		answer.Error = m.claim(c, h)
	}
	if answer.Error == "" && h.Kind == kindRaft {
		answer.Error = m.place.admits(h)
	}
	answer.OK = answer.Error == ""
	if err := writeMessage(c.Conn, answer); err != nil {
		return err
	}
	if !answer.OK {
		return fmt.Errorf("node %s: %w", h.Node, &HelloError{Reason: answer.Error})
	}
	return c.SetDeadline(time.Time{})
}

// claim checks the name against the registry and the living connections, and lets c hold it, in one step.
func (m *mux) claim(c *conn, h hello) (objection string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if objection = m.nameObjection(h.Node, h.UID); objection == "" {
		c.node, c.uid, c.kind = h.Node, h.UID, h.Kind
	}
	return objection
}

// setInner puts TLS around the connection.
func (m *mux) setInner(c *conn, inner net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.Conn = inner
}

// keep enters a connection; false, and closed, when the mux is.
func (m *mux) keep(c *conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		c.Conn.Close()
		return false
	}
	m.conns[c] = struct{}{}
	return true
}

// forget drops a connection and gives what is inside it, to be closed.
func (m *mux) forget(c *conn) net.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
	return c.Conn
}

// closeKind closes the living connections of one kind, of both when kind is empty.
func (m *mux) closeKind(kind string) {
	m.mu.Lock()
	var ending []*conn
	for c := range m.conns {
		if kind == "" || c.kind == kind {
			ending = append(ending, c)
		}
	}
	m.mu.Unlock()
	for _, c := range ending {
		c.Close()
	}
}

// Close ends the listener and every connection, and waits for the hellos under way.
func (m *mux) Close() error {
	m.mu.Lock()
	was := m.shut
	m.shut = true
	m.mu.Unlock()
	if was {
		return nil
	}
	close(m.done)
	err := m.ln.Close()
	m.raftSide.close()
	m.peerSide.close()
	m.closeKind("")
	m.work.Wait()
	return err
}

// side is one kind's end of the mux: a net.Listener.
type side struct {
	mux  *mux
	in   chan *conn
	done chan struct{}
	once sync.Once
}

func newSide(m *mux) *side { return &side{mux: m, in: make(chan *conn), done: make(chan struct{})} }

// handTimeout is how long a connection waits to be accepted.
const handTimeout = 2 * time.Second

// hand gives a connection to whoever accepts; nobody within 2 s, and it is closed.
func (s *side) hand(c *conn) {
	late := time.NewTimer(handTimeout)
	defer late.Stop()
	select {
	case s.in <- c:
	case <-s.done:
		c.Close()
	case <-late.C:
		s.mux.log.Warn("connection dropped: nobody accepts it", "kind", c.kind, "from", c.node)
		c.Close()
	}
}

// Accept gives the next connection.
func (s *side) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close ends this side only; the listener stays for the other.
func (s *side) Close() error {
	s.close()
	return nil
}

func (s *side) close() { s.once.Do(func() { close(s.done) }) }

func (s *side) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Addr is the listener's address.
func (s *side) Addr() net.Addr { return s.mux.ln.Addr() }

// streams is the Raft side as raft.StreamLayer.
type streams struct{ *side }

var _ raft.StreamLayer = streams{}
