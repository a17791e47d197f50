package sim_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
	"pgquorum/raftfsm"
)

// oneThread says that the schedules are played by package replay: this very test, compiled for WebAssembly, where one
// thread runs all goroutines and nothing comes in that the seed does not draw.
const oneThread = runtime.GOOS == "wasip1"

// logOf is where the agents' logs go: on one thread out at once, so that a run that never ends has told what it did.
func logOf(kept io.Writer) io.Writer {
	if oneThread {
		return os.Stderr
	}
	return kept
}

// disks are a model of Raft's stores for where bbolt does not run, one a node. They lose nothing that they have taken,
// as bbolt does not after its fsync.
type disks struct {
	mu sync.Mutex
	of map[cluster.NodeID]*raft.InmemStore
}

// store opens a node's store, bbolt in its file where that runs. What is written to it waits for the disk.
func (d *disks) store(of cluster.NodeID, disk func()) func(string) (raftfsm.Store, error) {
	return func(path string) (raftfsm.Store, error) {
		if oneThread {
			return onDisk{d.open(of), disk}, nil
		}
		s, err := raftfsm.OpenBolt(path)
		if err != nil {
			return nil, err
		}
		return onDisk{s, disk}, nil
	}
}

func (d *disks) open(of cluster.NodeID) *memory {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[cluster.NodeID]*raft.InmemStore{}
	}
	if d.of[of] == nil {
		d.of[of] = raft.NewInmemStore()
	}
	return &memory{InmemStore: d.of[of]}
}

// forget loses a node's store and all that is beside it, and leaves the identity that raftfsm.Prepare gives where PGDATA tells
// that this is no first start.
func (d *disks) forget(node cluster.NodeID, dir string, uid cluster.UID) error {
	d.mu.Lock()
	delete(d.of, node)
	d.mu.Unlock()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	text, err := json.Marshal(raftfsm.Identity{UID: uid, Former: "its Raft store is lost"})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "node.json"), text, 0o600)
}

// memory is a store as one life of an agent has it open: what that life still writes after its end is refused, as by a
// closed file.
type memory struct {
	*raft.InmemStore
	closed atomic.Bool
}

var errClosed = errors.New("store is closed")

func (m *memory) open() error {
	if m.closed.Load() {
		return errClosed
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (m *memory) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (m *memory) StoreLogs(logs []*raft.Log) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.InmemStore.StoreLogs(logs)
}

// DeleteRange implements raft.LogStore.
func (m *memory) DeleteRange(low, high uint64) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.InmemStore.DeleteRange(low, high)
}

// Set implements raft.StableStore.
func (m *memory) Set(key, val []byte) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.InmemStore.Set(key, val)
}

// SetUint64 implements raft.StableStore.
func (m *memory) SetUint64(key []byte, val uint64) error {
	if err := m.open(); err != nil {
		return err
	}
	return m.InmemStore.SetUint64(key, val)
}

// Close implements raftfsm.Store.
func (m *memory) Close() error {
	m.closed.Store(true)
	return nil
}

// What one life of an agent stored the next one finds, and a life that is over stores nothing more.
func TestDisksOutliveAnAgent(t *testing.T) {
	var d disks
	term := []byte("CurrentTerm")
	one := d.open("n1")
	if err := errors.Join(one.SetUint64(term, 3), one.StoreLog(&raft.Log{Index: 1, Term: 3}), one.Close()); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a term": one.SetUint64(term, 4), "a vote": one.Set([]byte("LastVoteCand"), []byte("n2")),
		"an entry": one.StoreLog(&raft.Log{Index: 2, Term: 4}), "a cut": one.DeleteRange(1, 1),
	} {
		if !errors.Is(err, errClosed) {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
	two := d.open("n1")
	var entry raft.Log
	if err := two.GetLog(1, &entry); err != nil || entry.Term != 3 {
		t.Errorf("entry 1 of term %d: %v", entry.Term, err)
	}
	got, err := two.GetUint64(term)
	last, err2 := two.LastIndex()
	other, err3 := d.open("n2").LastIndex()
	if err := errors.Join(err, err2, err3); err != nil || got != 3 || last != 1 || other != 0 {
		t.Errorf("term %d, last entry %d, another node's %d: %v", got, last, other, err)
	}
}
