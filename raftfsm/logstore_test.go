package raftfsm

import (
	"errors"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

func config(names ...cluster.NodeID) raft.Configuration {
	var c raft.Configuration
	for _, n := range names {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(n), Address: raft.ServerAddress(n)})
	}
	return c
}

func configEntry(index uint64, names ...cluster.NodeID) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(config(names...))}
}

// failingLog is a LogStore in memory whose stores can fail, and be looked into.
type failingLog struct {
	*raft.InmemStore
	during func() error
}

func (f *failingLog) StoreLogs(l []*raft.Log) error {
	if err := f.during(); err != nil {
		return err
	}
	return f.InmemStore.StoreLogs(l)
}

// L6: a lease counts over the latest configuration, from before it is stored, and over the committed one until that is
// the same; what is deleted from the end of the log goes, what is compacted stays.
func TestL6Configs(t *testing.T) {
	t.Parallel()
	ids := func(names ...cluster.NodeID) []cluster.NodeID { return names }
	three, four, two := ids("n1", "n2", "n3"), ids("n1", "n2", "n3", "n4"), ids("n1", "n2")
	n := &Node{fsm: newFSM("test", nil), configs: &configs{}}
	inner := &failingLog{InmemStore: raft.NewInmemStore(), during: func() error { return nil }}
	logs := &logStore{LogStore: inner, configs: n.configs, names: &readmits{}, recall: &recall{}}
	want := func(step string, sets ...[]cluster.NodeID) {
		t.Helper()
		if got := n.Configs(); !reflect.DeepEqual(got, sets) {
			t.Errorf("%s: want %v, have %v", step, sets, got)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want("nothing known")
	must(logs.StoreLog(configEntry(1, three...)))
	want("bootstrap", three)
	n.fsm.StoreConfiguration(1, config(three...))
	want("committed", three)
	must(logs.StoreLog(&raft.Log{Index: 2, Term: 1}))
	end := n.configs.propose(config(two...))
	want("proposed", three, two)
	end()
	want("not proposed after all", three)
	inner.during = func() error { want("while it is stored", four, three); return nil }
	must(logs.StoreLog(configEntry(3, four...)))
	want("uncommitted", four, three)
	inner.during = func() error { return nil }
	must(logs.DeleteRange(3, 3))
	want("cut off", three)
	must(logs.StoreLogs([]*raft.Log{{Index: 3, Term: 2}, configEntry(4, four...), {Index: 5, Term: 2}}))
	n.fsm.StoreConfiguration(4, config(four...))
	want("committed at last", four)
	must(logs.DeleteRange(1, 4))
	want("compacted", four)
	inner.during = func() error { return errors.New("disk") }
	if err := logs.StoreLog(configEntry(6, two...)); err == nil {
		t.Error("want the store's error")
	}
	want("not stored", four)
}

// snapshotUpTo10 is a store with one snapshot: up to entry 10, with the configuration of entry 5.
func snapshotUpTo10(t *testing.T) (raft.SnapshotStore, raft.Transport) {
	t.Helper()
	snaps := raft.NewInmemSnapshotStore()
	_, trans := raft.NewInmemTransport("")
	sink, err := snaps.Create(1, 10, 1, config("n1"), 5, trans)
	if err == nil {
		err = sink.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return snaps, trans
}

// L6: the configuration is known again after a restart, from the snapshot and the log, and from a leader's snapshot.
func TestL6ConfigsAreLoaded(t *testing.T) {
	t.Parallel()
	snaps, trans := snapshotUpTo10(t)
	logs := raft.NewInmemStore()
	load := func() *configs {
		c, _, _, err := loadConfigs(logs, snaps)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if index, c := load().latest(); index != 5 || len(c.Servers) != 1 {
		t.Errorf("from the snapshot: index %d, %v", index, c)
	}
	if err := logs.StoreLogs([]*raft.Log{{Index: 11}, configEntry(12, "n1", "n2")}); err != nil {
		t.Fatal(err)
	}
	c := load()
	if index, got := c.latest(); index != 12 || len(got.Servers) != 2 {
		t.Errorf("from the log: index %d, %v", index, got)
	}
	if _, err := (&snapshotStore{snaps, c}).Create(1, 40, 2, config("n1", "n2", "n3"), 7, trans); err != nil {
		t.Fatal(err)
	}
	if index, got := c.latest(); index != 7 || len(got.Servers) != 3 {
		t.Errorf("a snapshot up to 40 with the configuration of 7 supersedes that of 12: index %d, %v", index, got)
	}
}
