package raftfsm

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// A follower that was away for long gets a snapshot. Raft leaves its older log in place, and the next entries come behind a
// gap: the store is sound, and the node starts again with it as it is.
func TestSnapshotOverAnOlderLogIsSound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testHeartbeat, nil, "n1", "n2", "n3")
	away := cluster.NodeID("n1")
	if w.leader().opt.Self == away {
		away = "n2"
	}
	w.cut(away)
	for i := range 30 {
		w.onLeader("entry", func(ctx context.Context, l *Node) error { _, err := l.Apply(ctx, event(i)); return err })
	}
	for name, n := range w.nodes {
		if name == away {
			continue
		}
		conf := n.raft.ReloadableConfig()
		conf.TrailingLogs = 0
		if err := errors.Join(n.raft.ReloadConfig(conf), n.raft.Snapshot().Error()); err != nil {
			t.Fatal(err)
		}
	}
	w.heal()
	w.onLeader("an entry behind the snapshot", func(ctx context.Context, l *Node) error { _, err := l.Apply(ctx, event(100)); return err })
	last := w.leader().View().Index
	eventually(t, "the one that was away has it all", func() bool { return w.nodes[away].View().Index >= last })
	first, err := w.nodes[away].store.FirstIndex()
	gap := false
	for i := first; i <= last; i++ { // how many entries stand behind it depends on how often a leader was elected
		gap = gap || w.nodes[away].store.GetLog(i, &raft.Log{}) != nil
	}
	if err != nil || !gap {
		t.Fatalf("its log begins at %d of %d without a gap: nothing is shown, %v", first, last, err)
	}
	w.shut(away)
	if used, err := inspect(filepath.Join(w.dirs[away], storeDir)); err != nil || !used {
		t.Errorf("used %t, %v", used, err)
	}
	w.listen(away)
	w.open(away)
	w.onLeader("one more", func(ctx context.Context, l *Node) error { _, err := l.Apply(ctx, event(101)); return err })
	last = w.leader().View().Index
	eventually(t, "it follows again", func() bool { return w.nodes[away].View().Index >= last })
}

// The threshold says both when a snapshot is taken and how many entries stay behind it.
func TestSnapshotThreshold(t *testing.T) {
	t.Parallel()
	const threshold = 16
	w := newWorld(t, testHeartbeat, func(o *Options) { o.SnapshotThreshold = threshold }, "n1")
	n := w.leader()
	for i := range 3 * threshold {
		w.onLeader("entry", func(ctx context.Context, l *Node) error { _, err := l.Apply(ctx, event(i)); return err })
	}
	conf := n.raftConfig()
	if conf.SnapshotThreshold != threshold || conf.TrailingLogs != threshold {
		t.Errorf("snapshots after %d entries and %d kept, want %d of both", conf.SnapshotThreshold, conf.TrailingLogs, threshold)
	}
	if err := n.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	first, err := n.store.FirstIndex()
	if last := n.raft.LastIndex(); err != nil || first < 2 || last-first < threshold-1 {
		t.Errorf("the log has entries %d to %d, want the beginning gone and %d left; %v", first, last, threshold, err)
	}
}

// A configuration under the newest snapshot was superseded by it, or never committed: it counts for no lease (L6).
func TestL6ConfigUnderASnapshotDoesNotCount(t *testing.T) {
	t.Parallel()
	snaps, _ := snapshotUpTo10(t)
	logs := raft.NewInmemStore()
	if err := logs.StoreLogs([]*raft.Log{configEntry(8, "n1", "n2", "n3")}); err != nil {
		t.Fatal(err)
	}
	c, _, _, err := loadConfigs(logs, snaps)
	if err != nil {
		t.Fatal(err)
	}
	if index, got := c.latest(); index != 5 || len(got.Servers) != 1 {
		t.Errorf("index %d, %v", index, got)
	}
}
