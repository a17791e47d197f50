package raftfsm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// at gives a node a state in which n2 bears its name with uid-old.
func at(n *Node, index uint64) {
	known(n, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-old"})
	v := *n.fsm.View()
	v.Index = index
	n.fsm.view.Store(&v)
}

// strangers are two nodes of which neither is the other's member, so that they speak when the test says so only.
func strangers(t *testing.T) (w *world, n1, n2 *Node) {
	t.Helper()
	w = newWorld(t, testHeartbeat, nil)
	w.listen("n1")
	w.listen("n2")
	n1, n2 = w.open("n1"), w.open("n2")
	go acceptAll(n2.PeerListener())
	return w, n1, n2
}

// A node that was away while another was replaced takes the other's word for it, if the word rests on a later state of the same
// cluster than its own; also in the answer with which the other refuses to be called by its former uid. The state that it
// rests on ends it.
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
		{"of a node that nobody knows", func(h *hello) { h.Node = "n9" }, "nobody"},
		{"of another scope", func(h *hello) { h.Scope = "other" }, ""},
		{"to another node", func(h *hello) { h.ToUID = "uid-other" }, ""},
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
			if want == "" || want == "nobody" {
				want = "uid-old"
			}
			if have := n.mux.known("n2"); have != want || a.OK != (c.want != "") || n.mux.known("n9") != "" {
				t.Errorf("n2 is %s, n9 %s, answer %+v, want %s", have, n.mux.known("n9"), a, want)
			}
			at(n, 31)
			if err := n.place.learn(n.fsm.View()); err != nil || n.mux.known("n2") != "uid-old" {
				t.Errorf("n2 is %s after a leader's word, %v", n.mux.known("n2"), err)
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
		w, n1, n2 := strangers(t)
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

// Identity is not a matter of the hello alone: who bears its name no more is not heard from the moment on at which the entry that
// gives it to another is stored, on connections that it made and on those that were made to it. The other may bear it once
// that is applied.
func TestFormerBearerIsCutOff(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored only: %t", stored), func(t *testing.T) {
			t.Parallel()
			w, n1, n2 := strangers(t)
			known(n1, "c1", map[cluster.NodeID]cluster.UID{"n2": n2.opt.UID})
			var ends []net.Conn
			for range 2 {
				c, err := n1.mux.dial(t.Context(), "n2", w.lns["n2"].Addr().String(), kindPeer)
				if err != nil {
					t.Fatal(err)
				}
				ends = append(ends, c)
			}
			made, a := greetWith(t, n1, hello{Proto: helloProto, Scope: "test", ClusterID: "c1", Node: "n2", UID: n2.opt.UID, Kind: kindPeer})
			if !a.OK {
				t.Fatalf("answer %+v", a)
			}
			ends = append(ends, made)
			readmit := cluster.Readmit{Node: "n2", From: n2.opt.UID, UID: "uid-b"}
			if stored {
				data, err := encodeCommand(readmit)
				if err != nil {
					t.Fatal(err)
				}
				n1.mux.names.note(&raft.Log{Index: 40, Type: raft.LogCommand, Data: data})
			} else {
				known(n1, "c1", map[cluster.NodeID]cluster.UID{"n2": "uid-b"})
				n1.applied()
			}
			for i, c := range ends {
				if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil && i == 2 {
					t.Fatal(err)
				}
				if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("connection %d: %d bytes, %v", i, n, err)
				}
			}
			if _, err := n1.mux.dial(t.Context(), "n2", w.lns["n2"].Addr().String(), kindPeer); err == nil {
				t.Error("the former bearer is spoken with again")
			}
			_, a = greetWith(t, n1, hello{Proto: helloProto, Scope: "test", ClusterID: "c1", Node: "n2", UID: "uid-b", Kind: kindPeer})
			if a.OK == stored {
				t.Errorf("the next bearer: %+v", a)
			}
			if !stored {
				return
			}
			n1.mux.names.drop(40, 50) // it was never committed
			if _, err := n1.mux.dial(t.Context(), "n2", w.lns["n2"].Addr().String(), kindPeer); err != nil {
				t.Errorf("the entry is gone, the bearer stays: %v", err)
			}
		})
	}
}
