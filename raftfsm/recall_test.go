package raftfsm

import (
	"context"
	"testing"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// The state is as new as it was before once the last entry that was found in the log behind the snapshot, and moves it, is applied;
// what is cut off the log's end was never committed.
func TestRecall(t *testing.T) {
	t.Parallel()
	snaps, _ := snapshotUpTo10(t)
	inner := raft.NewInmemStore()
	entry := func(i uint64, of raft.LogType) *raft.Log { return &raft.Log{Index: i, Term: 1, Type: of} }
	if err := inner.StoreLogs([]*raft.Log{entry(9, raft.LogCommand), entry(10, raft.LogNoop), entry(11, raft.LogCommand), configEntry(12, "n1"), entry(13, raft.LogNoop), entry(14, raft.LogCommand), entry(15, raft.LogNoop)}); err != nil {
		t.Fatal(err)
	}
	c, names, r, err := loadConfigs(inner, snaps)
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, index uint64, done bool) {
		t.Helper()
		if got := r.done(index); got != done {
			t.Errorf("%s, the state at %d: %v", when, index, got)
		}
	}
	want("as found", 10, false)
	want("as found", 12, false)
	want("as found", 14, true)
	logs := &logStore{LogStore: inner, configs: c, names: names, recall: r}
	if err := logs.DeleteRange(9, 10); err != nil { // compacted
		t.Fatal(err)
	}
	want("with its beginning compacted", 12, false)
	if err := logs.DeleteRange(13, 15); err != nil { // another leader's log has others there
		t.Fatal(err)
	}
	if err := logs.StoreLogs([]*raft.Log{entry(13, raft.LogCommand)}); err != nil {
		t.Fatal(err)
	}
	want("with its end cut off", 11, false)
	want("with its end cut off", 12, true)
	r.restored()
	want("restored from a leader", 3, true)
}

// A node that was started again knows nothing of its cluster but its snapshot, and says so, until a quorum tells what is committed.
func TestRecalledByAQuorumOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	w.onLeader("an event", func(ctx context.Context, n *Node) error {
		_, err := n.Apply(ctx, cluster.AddEvent{})
		return err
	})
	for _, n := range w.all() {
		eventually(t, "the event on all", func() bool { return len(n.View().Events) > 0 && n.Status().Recalled })
	}
	for _, n := range []cluster.NodeID{"n1", "n2", "n3"} {
		w.shut(n)
	}
	w.listen("n1")
	n := w.open("n1")
	eventually(t, "an election without an answer", func() bool { return n.Status().State == cluster.RaftCandidate })
	if n.Status().Recalled || len(n.View().Events) > 0 {
		t.Errorf("alone: recalled %v, events %v", n.Status().Recalled, n.View().Events)
	}
	w.listen("n2")
	w.open("n2")
	eventually(t, "the state as before", func() bool { return n.Status().Recalled })
	if len(n.View().Events) == 0 {
		t.Error("recalled without the event")
	}
}
