package raftfsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// snapshotFormat is the number of the snapshot's form, raised with every change of cluster.View.
const snapshotFormat = 1

// snapshot is the state at one index. A view never changes, so holding it is the copy that Raft asks for, and Persist
// may run beside Apply.
type snapshot struct{ view *cluster.View }

// snapshotFile is the snapshot as written.
type snapshotFile struct {
	Format int           `json:"format"`
	View   *cluster.View `json:"view"`
}

// Snapshot takes the state as it is now.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return &snapshot{view: f.View()}, nil }

// Persist writes the snapshot. Two nodes that applied the same log write the same bytes.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	data, err := json.Marshal(snapshotFile{Format: snapshotFormat, View: s.view})
	if err == nil {
		_, err = sink.Write(data)
	}
	if err != nil {
		if cancelErr := sink.Cancel(); cancelErr != nil {
			return fmt.Errorf("snapshot %s: write: %w (and cancel: %w)", sink.ID(), err, cancelErr)
		}
		return fmt.Errorf("snapshot %s: write: %w", sink.ID(), err)
	}
	return sink.Close()
}

// Release has nothing to free.
func (s *snapshot) Release() {}

// Restore replaces the state by a snapshot's. A snapshot of another format or of another cluster is refused, and the
// state stays as it was.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("snapshot: read: %w", err)
	}
	view, err := decodeSnapshot(data)
	if err != nil {
		return err
	}
	if old := f.View(); view.Scope != old.Scope || old.ClusterID != "" && view.ClusterID != old.ClusterID {
		return fmt.Errorf("snapshot: want the state of cluster %q (id %q), have %q (id %q)", old.Scope, old.ClusterID, view.Scope, view.ClusterID)
	}
	f.view.Store(view)
	if r := f.recall.Load(); r != nil {
		r.restored()
	}
	f.wake()
	return nil
}

// decodeSnapshot reads what Persist wrote. The format is looked at first: the rest means nothing without it.
func decodeSnapshot(data []byte) (*cluster.View, error) {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("snapshot of %d bytes: %w", len(data), err)
	}
	if head.Format != snapshotFormat {
		return nil, fmt.Errorf("snapshot format %d, want %d: written by another version of pgquorum", head.Format, snapshotFormat)
	}
	var file snapshotFile
	if err := decodeStrict(data, &file); err != nil {
		return nil, fmt.Errorf("snapshot of format %d: %w", head.Format, err)
	}
	if file.View == nil {
		return nil, errors.New("snapshot: want a state, have none")
	}
	return file.View, nil
}
