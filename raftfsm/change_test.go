package raftfsm

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgquorum/cluster"
)

// L6: when the holder is asked to lower its lease, Configs has the proposed voters already, and its refusal keeps the change
// from being proposed.
func TestL6BeforeAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	addr := w.listen("n4")
	w.open("n4")
	w.onLeader("its uid", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, cluster.Register{Node: cluster.Node{Name: "n4", UID: "uid-n4"}})
		return err
	})
	four := []cluster.NodeID{"n1", "n2", "n3", "n4"}
	refusal := errors.New("not now")
	w.onLeader("a voter that the holder refuses", func(ctx context.Context, n *Node) error {
		n.SetBeforeChange(func(context.Context) error {
			if slices.ContainsFunc(n.Configs(), func(s []cluster.NodeID) bool { return slices.Equal(s, four) }) {
				return refusal
			}
			return nil // the change before, to a non-voter, changes no voters
		})
		defer n.SetBeforeChange(nil)
		err := n.AddVoter(ctx, "n4", addr)
		if errors.Is(err, refusal) {
			return nil
		}
		if err == nil {
			t.Fatal("n4 has a vote, and the holder was never asked with its vote counted")
		}
		return err
	})
	if sets := w.leader().Configs(); slices.ContainsFunc(sets, func(s []cluster.NodeID) bool { return slices.Contains(s, "n4") }) {
		t.Errorf("after the refusal the voters are %v", sets)
	}
}
