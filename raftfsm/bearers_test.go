package raftfsm

import (
	"fmt"
	"testing"

	"pgquorum/cluster"
)

// at gives a node a state in which n2 bears its name with uid-old.
func at(n *Node, index uint64) {
	known(n, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-old"})
	v := *n.fsm.View()
	v.Index = index
	n.fsm.view.Store(&v)
}

// A node that was away while another was replaced takes the other's word for it, if the word rests on a later state of the same
// cluster than its own; also in the answer with which the other refuses to be called by its former uid.
func TestLaterStateSaysWhoBearsAName(t *testing.T) {
	t.Parallel()
	hi := hello{Proto: helloProto, Scope: "test", ClusterID: "c1", Node: "n2", UID: "uid-new", Kind: kindPeer, Since: 31}
	for _, c := range []struct {
		name string
		edit func(*hello)
		want cluster.UID // afterwards known; empty: uid-old, and the hello was refused
	}{
		{"a later state", func(*hello) {}, "uid-new"},
		{"the same state", func(h *hello) { h.Since = 30 }, ""},
		{"no state", func(h *hello) { h.Since = 0 }, ""},
		{"of another cluster", func(h *hello) { h.ClusterID = "c2" }, ""},
		{"of no cluster", func(h *hello) { h.ClusterID = "" }, ""},
		{"in a question", func(h *hello) { h.Kind = kindAsk }, "uid-new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := single(t)
			go acceptAll(n.PeerListener())
			at(n, 30)
			h := hi
			c.edit(&h)
			_, a := greetWith(t, n, h)
			want := c.want
			if want == "" {
				want = "uid-old"
			}
			if have := n.mux.known("n2"); have != want || a.OK != (c.want != "") {
				t.Errorf("n2 is %s, answer %+v, want %s", have, a, want)
			}
			at(n, 30) // the same state again, as after a start
			if err := n.place.learn(n.fsm.View()); err != nil || n.mux.known("n2") != want {
				t.Errorf("n2 is %s after its own state came again, %v", n.mux.known("n2"), err)
			}
			known(n, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-newer"})
			v := *n.fsm.View()
			v.Index = 50
			n.fsm.view.Store(&v)
			if err := n.place.learn(&v); err != nil || n.mux.known("n2") != "uid-newer" {
				t.Errorf("n2 is %s after a newer state, %v", n.mux.known("n2"), err)
			}
		})
	}
	for since, welcome := range map[uint64]bool{29: false, 30: false, 31: true} {
		t.Run(fmt.Sprintf("after a start, a state %d", since), func(t *testing.T) {
			t.Parallel()
			n := single(t)
			go acceptAll(n.PeerListener())
			at(n, 30)
			if err := n.place.learn(n.fsm.View()); err != nil {
				t.Fatal(err)
			}
			n.fsm.view.Store(&cluster.View{})
			h := hi
			h.Since = since
			if _, a := greetWith(t, n, h); a.OK != welcome {
				t.Errorf("answer %+v", a)
			}
		})
	}
	t.Run("in the answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, testHeartbeat, nil)
		w.listen("n1")
		w.listen("n2")
		n1, n2 := w.open("n1"), w.open("n2")
		go acceptAll(n2.PeerListener())
		at(n1, 30)
		known(n2, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-n2"})
		v := *n2.fsm.View()
		v.Index = 31
		if err := n2.place.learn(&v); err != nil {
			t.Fatal(err)
		}
		addr := w.lns["n2"].Addr().String()
		if _, err := n1.mux.dial(t.Context(), "n2", addr, kindPeer); err == nil {
			t.Error("who calls uid-old got uid-n2")
		}
		if _, err := n1.mux.dial(t.Context(), "n2", addr, kindPeer); err != nil {
			t.Errorf("the second call: %v", err)
		}
	})
}
