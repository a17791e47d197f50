package raftfsm

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// known puts a cluster id and registered nodes into a node's view.
func known(n *Node, clusterID string, nodes map[cluster.NodeID]cluster.UID) {
	next := *n.fsm.View()
	next.ClusterID, next.Nodes = clusterID, map[cluster.NodeID]cluster.Node{}
	for name, uid := range nodes {
		next.Nodes[name] = cluster.Node{Name: name, UID: uid}
	}
	n.fsm.view.Store(&next)
}

// single is one node alone, without members, so that nothing calls it but the test.
func single(t *testing.T) *Node {
	t.Helper()
	w := newWorld(t, testHeartbeat, nil)
	w.listen("n1")
	return w.open("n1")
}

// greetWith does a hello by hand; the connection stays open until the test ends.
func greetWith(t *testing.T, n *Node, h hello) (net.Conn, helloAnswer) {
	t.Helper()
	c, err := net.Dial("tcp", n.opt.Advertise)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var a helloAnswer
	if err := writeMessage(c, h); err != nil {
		t.Fatal(err)
	}
	if err := readMessage(c, &a); err != nil {
		t.Fatal(err)
	}
	return c, a
}

func TestHelloRefusals(t *testing.T) {
	t.Parallel()
	n := single(t)
	known(n, "c1", map[cluster.NodeID]cluster.UID{"n3": "uid-n3"})
	go acceptAll(n.PeerListener())
	base := hello{Proto: helloProto, Scope: "test", ClusterID: "c1", Node: "n2", UID: "uid-n2", Kind: kindPeer}
	for _, c := range []struct {
		name string
		edit func(*hello)
		want string // empty: welcome
	}{
		{"healthy", func(h *hello) {}, ""},
		{"raft", func(h *hello) { h.Kind, h.ToUID = kindRaft, "uid-n1" }, ""},
		{"the right one", func(h *hello) { h.ToUID = "uid-n1" }, ""},
		{"whom this node was before", func(h *hello) { h.ToUID = "uid-old" }, "node n1 has uid uid-n1, not uid-old"},
		{"no cluster id yet", func(h *hello) { h.ClusterID = "" }, ""},
		{"registered", func(h *hello) { h.Node, h.UID = "n3", "uid-n3" }, ""},
		{"unknown protocol", func(h *hello) { h.Proto = 99 }, "protocol version 99"},
		{"wrong scope", func(h *hello) { h.Scope = "other" }, `scope "other"`},
		{"wrong cluster", func(h *hello) { h.ClusterID = "c2" }, "cluster id c2"},
		{"no name", func(h *hello) { h.Node = "" }, "names no node"},
		{"no uid", func(h *hello) { h.UID = "" }, "no uid"},
		{"unknown kind", func(h *hello) { h.Kind = "x" }, `kind "x"`},
		{"our own name", func(h *hello) { h.Node = "n1" }, "node name n1 is taken by this node"},
		{"registered with another uid", func(h *hello) { h.Node = "n3" }, "registered with uid uid-n3"},
		{"name of a living connection", func(h *hello) { h.UID = "uid-x" }, "node name n2 is taken by the node at"},
	} {
		h := base
		c.edit(&h)
		_, a := greetWith(t, n, h)
		if a.OK != (c.want == "") || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s: want %q, have %+v", c.name, c.want, a)
		}
		if a.Node != "n1" || a.UID != "uid-n1" || a.ClusterID != "c1" {
			t.Errorf("%s: the answer does not say who answers: %+v", c.name, a)
		}
	}
}

// acceptAll keeps what it accepts open, and reads it so that the end of each is noticed.
func acceptAll(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
		}()
	}
}

// A name is free again once the connection that held it has ended.
func TestHelloNameIsFreeAfterItsConnectionEnds(t *testing.T) {
	t.Parallel()
	n := single(t)
	go acceptAll(n.PeerListener())
	h := hello{Proto: helloProto, Scope: "test", Node: "n2", UID: "old", Kind: kindPeer}
	c, a := greetWith(t, n, h)
	if !a.OK {
		t.Fatal(a.Error)
	}
	h.UID = "new"
	if _, a := greetWith(t, n, h); a.OK {
		t.Error("a second uid was let in beside the first")
	}
	c.Close()
	eventually(t, "the name to be free", func() bool {
		_, a := greetWith(t, n, h)
		return a.OK
	})
}

// What is not a hello is dropped within its deadline, and does no harm.
func TestHelloGarbage(t *testing.T) {
	t.Parallel()
	n := single(t)
	for _, msg := range [][]byte{{}, {0, 0}, {0xff, 0xff}, {0, 2, '{', '{'}, {0, 9, 'x'}} {
		c, err := net.Dial("tcp", n.opt.Advertise)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		var ne net.Error
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("% x: want the connection closed, have %v", msg, err)
		}
	}
}

// A second agent with a living node's name is refused, learns why, and the cluster goes on.
func TestSecondAgentWithANameLearnsWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	w.leader()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opt := w.options("n2")
	opt.Listener, opt.DataDir, opt.UID = ln, t.TempDir(), "uid-of-another"
	second, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close(t.Context())
	eventually(t, "a refusal that names the name", func() bool {
		leader := w.leader().opt.Self
		_, err := second.DialPeer(t.Context(), leader)
		var refused *HelloError
		return errors.As(err, &refused) && strings.Contains(second.Refusals()[leader], "node name n2 is taken")
	})
	if s := second.Status(); s.State == cluster.RaftLeader {
		t.Error("the second agent leads")
	}
	w.onLeader("the cluster goes on", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, event(1))
		return err
	})
}

func TestDialPeerChecksWhoAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	n1, n2 := w.nodes["n1"], w.nodes["n2"]
	conn, err := n1.DialPeer(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	got, err := n2.PeerListener().Accept()
	if err != nil {
		t.Fatal(err)
	}
	if node, uid := PeerOf(got); node != "n1" || uid != "uid-n1" {
		t.Errorf("accepted connection is of %s, %s", node, uid)
	}
	if node, uid := PeerOf(conn); node != "n2" || uid != "uid-n2" {
		t.Errorf("dialled connection is to %s, %s", node, uid)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 1); readOne(got, b) != nil || b[0] != 'x' {
		t.Errorf("read %q", b)
	}
	var refused *HelloError
	if _, err := n1.mux.dial(t.Context(), "n3", w.members["n2"], kindPeer); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "asked for node n3, node n2 answered") {
		t.Errorf("another node answered: %v", err)
	}
	if _, err := n1.DialPeer(t.Context(), "n9"); err == nil {
		t.Error("want an error for an unknown node")
	}
	known(n1, "c1", nil)
	known(n2, "c2", nil)
	if _, err := n1.DialPeer(t.Context(), "n2"); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "cluster id") {
		t.Errorf("another cluster: %v", err)
	}
}

func readOne(c net.Conn, b []byte) error {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.Read(b)
	return err
}

// B2: a node whose Raft transport is closed proves no lease and loses office, while its peer channel goes on.
func TestB2CloseTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	n := w.leader()
	if err := n.CloseTransport(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another leader", func() bool {
		return slices.ContainsFunc(w.all(), func(o *Node) bool { return o != n && o.Status().State == cluster.RaftLeader })
	})
	eventually(t, "no lease", func() bool {
		_, end, ok := n.LeaseEnd(cluster.DefaultLease(testHeartbeat).TTL)
		return !ok || end.Before(n.opt.Clock())
	})
	for _, o := range w.all() {
		if o != n {
			c, err := o.DialPeer(t.Context(), n.opt.Self)
			if err != nil {
				t.Errorf("peer channel: %v", err)
				continue
			}
			c.Close()
		}
	}
}
