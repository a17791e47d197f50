package raftfsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// Identity is who this node is in Raft. A uid is as old as the store beside it: a node that has lost its votes and its log
// is another one, which the members take in anew (docs/adr/0029).
type Identity struct {
	UID        cluster.UID                    `json:"uid"`
	Member     bool                           `json:"member"`               // this uid may have voted, or stored entries
	Founders   map[cluster.NodeID]cluster.UID `json:"founders,omitempty"`   // with whom the first members bootstrapped
	Cluster    string                         `json:"cluster,omitempty"`    // the cluster's id, once it is known
	Known      map[cluster.NodeID]Bearer      `json:"known,omitempty"`      // who bears which name, as far as this node knows
	Recovering bool                           `json:"recovering,omitempty"` // pgquorum recover has begun on the store, and has not ended
	Former     string                         `json:"former,omitempty"`     // why this node's start under this uid is no first start; empty: it may be
}

// identityFile is beside the store, not in it: a store that is moved away leaves behind that there was one.
const identityFile = "node.json"

// storeDir is where Raft's log and snapshots are, under raft.data_dir.
const storeDir = "raft"

// logFile is Raft's log and its votes, under storeDir.
const logFile = "raft.db"

// becomeMember records that the uid takes part from now on: its store must not be empty again.
func (id *Identity) becomeMember(dir string) error {
	if id.Member {
		return nil
	}
	next := *id
	next.Member = true
	if err := next.write(dir); err != nil {
		return err
	}
	*id = next
	return nil
}

// readIdentity gives what stands in dir; known is false where there is nothing.
func readIdentity(dir string) (id Identity, known bool, err error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &id)
	}
	if err == nil && id.UID == "" {
		err = errors.New("it names no uid")
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("%s: the node's identity cannot be read: put it back, or move it and %s away, and the node joins anew: %w",
			path, filepath.Join(dir, storeDir), err)
	}
	return id, true, nil
}

// write puts the identity into dir, whole and on disk, or not at all.
func (id Identity) write(dir string) error {
	path := filepath.Join(dir, identityFile)
	data, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("%s: encode: %w", path, err)
	}
	f, err := os.CreateTemp(dir, ".node-*")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already once it is renamed
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: write: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("%s: fsync: %w", dir, err)
	}
	return nil
}
