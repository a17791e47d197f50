package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"pgquorum/cluster"
)

// Network joins the nodes by connections that behave as TCP's do: bytes come in order and late, a cut link holds them
// back until it heals or the reader gives up, a crashed host's connections end when somebody sends into them.
type Network struct {
	mu      sync.Mutex
	ports   map[port]*endpoint
	links   map[direction]*link
	frozen  map[port]bool
	conns   map[*conn]struct{}
	changed chan struct{} // closed and replaced when a link or a frozen process changes
	rand    *rand.Rand    // which chunks are lost
}

// service is what listens on a node: each is a process of its own, which may be frozen or die alone.
type service string

// The services.
const (
	serviceAgent    service = "agent" // Raft and the peers
	servicePostgres service = "postgres"
	serviceGuard    service = "guard" // it and the disk listen to nobody; they are only frozen
	serviceDisk     service = "disk"
)

// port is one service of one node.
type port struct {
	node cluster.NodeID
	service
}

// direction is one way between two nodes.
type direction struct{ from, to cluster.NodeID }

// link is how one direction is at present.
type link struct {
	cut   bool
	delay time.Duration // of each chunk
	loss  int           // of 100 chunks, how many are lost once or more often, and sent again by TCP
}

// endpoint is one life of a service.
type endpoint struct {
	up      bool
	backlog chan net.Conn
	down    chan struct{} // closed when it dies
}

// NewNetwork makes a network of hosts with all links whole and no service up.
func NewNetwork(nodes ...cluster.NodeID) *Network {
	n := &Network{ports: map[port]*endpoint{}, links: map[direction]*link{}, frozen: map[port]bool{}, conns: map[*conn]struct{}{}, changed: make(chan struct{}),
		rand: rand.New(rand.NewPCG(1, 2))}
	for _, a := range nodes {
		for _, b := range nodes {
			n.links[direction{a, b}] = &link{delay: usualDelay}
		}
	}
	return n
}

// usualDelay is one way on a quiet local network.
const usualDelay = 100 * time.Microsecond

// Set changes one direction, which loses nothing from now on.
func (n *Network) Set(from, to cluster.NodeID, cut bool, delay time.Duration) {
	n.edit(func() { *n.links[direction{from, to}] = link{cut: cut, delay: delay} })
}

// Lose makes one direction lose that many of 100 chunks.
func (n *Network) Lose(from, to cluster.NodeID, loss int) {
	n.edit(func() { n.links[direction{from, to}].loss = loss })
}

// again is how long a chunk takes longer for having been lost: TCP sends it again after 200 ms, and twice that, and so on.
func (n *Network) again(from, to cluster.NodeID) (late time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for wait := minRetransmit; n.rand.IntN(100) < n.links[direction{from, to}].loss && wait < tcpGivesUp; wait *= 2 {
		late += wait
	}
	return late
}

// minRetransmit is Linux's lowest retransmission timeout.
const minRetransmit = 200 * time.Millisecond

// Freeze stops a process, or lets it go on: what is sent to it waits, and so does what it has sent.
func (n *Network) Freeze(node cluster.NodeID, s service, frozen bool) {
	n.edit(func() { n.frozen[port{node, s}] = frozen })
}

func (n *Network) edit(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// way gives how a service is reached from a node, and what is closed when that changes.
func (n *Network) way(from, to cluster.NodeID, s service) (cut bool, delay time.Duration, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[direction{from, to}]
	return l.cut || n.frozen[port{from, s}] || n.frozen[port{to, s}], l.delay, n.changed
}

// Kill ends a service. A process that is killed ends its connections, and the others hear of it; with its whole host
// gone, or with silent, nobody tells them.
func (n *Network) Kill(node cluster.NodeID, s service, silent bool) {
	n.mu.Lock()
	if e := n.ports[port{node, s}]; e != nil && e.up {
		e.up = false
		close(e.down)
	}
	var own []*conn
	for c := range n.conns {
		if c.local == node && c.service == s {
			own = append(own, c)
		}
	}
	n.mu.Unlock()
	for _, c := range own {
		if silent {
			c.abort(errCrashed)
		} else {
			_ = c.Close() // it always succeeds
		}
	}
}

var (
	errCrashed = errors.New("host crashed")
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
)

// keepAliveEnds is after how long the kernel ends a connection whose other end is gone without a word, or with one that has
// not come through.
const keepAliveEnds = 8 * time.Second

// Listen begins a new life of a service.
func (n *Network) Listen(node cluster.NodeID, s service) net.Listener {
	e := &endpoint{up: true, backlog: make(chan net.Conn, 64), down: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[port{node, s}] = e
	return &listener{node: node, end: e, ended: make(chan struct{})}
}

type listener struct {
	node  cluster.NodeID
	end   *endpoint
	once  sync.Once
	ended chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.end.backlog:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	case <-l.end.down:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *listener) Addr() net.Addr { return address(l.node) }

type address string

func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) + ":1" }

// Dial connects from one node to another's service, which takes a way there and back. A host without that service
// refuses; one that is off does not answer.
func (n *Network) Dial(ctx context.Context, from, to cluster.NodeID, s service) (net.Conn, error) {
	c, err := n.dial(ctx, from, to, s)
	if err != nil {
		return nil, fmt.Errorf("dial %s of %s: %w", s, to, err)
	}
	return c, nil
}

func (n *Network) dial(ctx context.Context, from, to cluster.NodeID, s service) (net.Conn, error) {
	if err := n.pass(ctx, from, to, s); err != nil {
		return nil, err
	}
	n.mu.Lock()
	e := n.ports[port{to, s}]
	up := e != nil && e.up
	n.mu.Unlock()
	if !up {
		return nil, errRefused
	}
	near, far := n.pair(from, to, s)
	select {
	case e.backlog <- far:
	default:
		return nil, errRefused
	}
	if err := n.pass(ctx, to, from, s); err != nil {
		near.abort(err)
		return nil, err
	}
	return near, nil
}

// pass waits as long as one chunk takes.
func (n *Network) pass(ctx context.Context, from, to cluster.NodeID, s service) error {
	for {
		cut, delay, changed := n.way(from, to, s)
		if !cut {
			return pause(ctx, delay)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (n *Network) pair(a, b cluster.NodeID, s service) (near, far *conn) {
	near = &conn{net: n, local: a, remote: b, service: s, in: newStream(), gone: make(chan struct{})}
	far = &conn{net: n, local: b, remote: a, service: s, in: newStream(), gone: make(chan struct{})}
	near.peer, far.peer = far, near
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}
