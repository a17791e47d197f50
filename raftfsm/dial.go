package raftfsm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// Dial connects to a node for Raft; target is made by dialTarget.
func (s streams) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, addr := splitTarget(target)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.mux.dial(ctx, node, addr, kindRaft)
}

// DialPeer connects to a node's peer channel and does the hello. The address is that of Raft's latest configuration,
// else that of the initial members. The node that answers is the one asked for, else the error is a *HelloError.
// Without a deadline in ctx, 2 s is it.
func (n *Node) DialPeer(ctx context.Context, to cluster.NodeID) (net.Conn, error) {
	if n.closed() {
		return nil, ErrClosed
	}
	addr := n.addressOf(to)
	if addr == "" {
		return nil, fmt.Errorf("node %s: no raft address is known for it", to)
	}
	return n.mux.dial(ctx, to, addr, kindPeer)
}

// PeerListener gives the connections that peers made with DialPeer; PeerOf says whose each is. It is closed by Close.
func (n *Node) PeerListener() net.Listener { return n.mux.peerSide }

// Refusals gives, for each node that refused our last hello, its reason. A second agent with a living node's name
// learns it here.
func (n *Node) Refusals() map[cluster.NodeID]string {
	n.mux.mu.Lock()
	defer n.mux.mu.Unlock()
	return maps.Clone(n.mux.refusals)
}

// dial connects to node at addr and does the hello, all before ctx's deadline.
func (m *mux) dial(ctx context.Context, node cluster.NodeID, addr, kind string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	raw, err := m.dialTCP(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("node %s at %s: %w", node, addr, err)
	}
	c := &conn{Conn: raw, mux: m, node: node, kind: kind}
	if !m.keep(c) {
		return nil, ErrClosed
	}
	_, err = m.greeted(ctx, c, addr, hello{Kind: kind, ToUID: m.known(node)})
	m.noteRefusal(node, addr, err)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("node %s at %s: %w", node, addr, err)
	}
	return c, nil
}

// ask does a hello of kindAsk; apply is where this node wants to be taken in, empty: it only asks.
func (m *mux) ask(ctx context.Context, node cluster.NodeID, addr, apply string) (helloAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := m.dialTCP(ctx, addr)
	if err != nil {
		return helloAnswer{}, fmt.Errorf("node %s at %s: %w", node, addr, err)
	}
	c := &conn{Conn: raw, mux: m, node: node, kind: kindAsk}
	if !m.keep(c) {
		return helloAnswer{}, ErrClosed
	}
	defer c.Close()
	a, err := m.greeted(ctx, c, addr, hello{Kind: kindAsk, Apply: apply})
	if err != nil {
		return helloAnswer{}, fmt.Errorf("node %s at %s: %w", node, addr, err)
	}
	return a, nil
}

// askTimeout bounds one question to one node.
const askTimeout = time.Second

// greeted does the hello before ctx ends.
func (m *mux) greeted(ctx context.Context, c *conn, addr string, h hello) (helloAnswer, error) {
	raw := c.Conn
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	a, err := m.sendHello(c, addr, h)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return a, err
}

// sendHello does the hello on a connection that we made, and checks who answered. h has what only this hello has.
func (m *mux) sendHello(c *conn, addr string, h hello) (a helloAnswer, err error) {
	if m.clientTLS != nil {
		cfg := m.clientTLS
		if host, _, err := net.SplitHostPort(addr); err == nil && cfg.ServerName == "" {
			cfg = cfg.Clone()
			cfg.ServerName = host
		}
		m.setInner(c, tls.Client(c.Conn, cfg))
	}
	known := m.clusterID()
	h.Proto, h.Scope, h.ClusterID, h.Node, h.UID, h.Since = helloProto, m.scope, known, m.self, m.uid, m.since()
	if err := writeMessage(c.Conn, h); err != nil {
		return a, err
	}
	if err := readMessage(c.Conn, &a); err != nil {
		return a, err
	}
	if a.Node == c.node { // also if it refuses us, since we call it by a former uid
		m.believe(a.ClusterID, a.Node, Bearer{a.UID, a.Since})
	}
	switch {
	case a.Node != c.node && a.Node != "":
		return a, &HelloError{Reason: fmt.Sprintf("asked for node %s, node %s answered", c.node, a.Node)}
	case !a.OK:
		return a, &HelloError{Reason: a.Error}
	case a.Node == "":
		return a, &HelloError{Reason: "the answer names no node"}
	case a.UID == "":
		return a, &HelloError{Reason: "the answer names no uid"}
	case known != "" && a.ClusterID != "" && known != a.ClusterID:
		return a, &HelloError{Reason: fmt.Sprintf("cluster id %s answered, this node's is %s", a.ClusterID, known)}
	case h.Kind == kindAsk:
		return a, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if objection := m.nameObjection(a.Node, a.UID); objection != "" {
		return a, &HelloError{Reason: objection}
	}
	c.uid = a.UID
	return a, nil
}

// noteRefusal keeps the reason of a refused hello until the node answers otherwise.
func (m *mux) noteRefusal(node cluster.NodeID, addr string, err error) {
	var refused *HelloError
	errors.As(err, &refused)
	m.mu.Lock()
	news := refused != nil && m.refusals[node] != refused.Reason
	switch {
	case err == nil:
		delete(m.refusals, node)
	case news:
		m.refusals[node] = refused.Reason
	}
	m.mu.Unlock()
	if news {
		m.log.Warn("node refuses us", "node", node, "address", addr, "reason", refused.Reason)
	}
}
