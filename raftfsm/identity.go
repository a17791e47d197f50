package raftfsm

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"pgquorum/cluster"
)

// Identity is who this node is in Raft. A uid is as old as the store beside it: a node that has lost its votes and its log
// is another one, which the members take in anew (docs/adr/0029).
type Identity struct {
	UID      cluster.UID                    `json:"uid"`
	Member   bool                           `json:"member"`             // this uid may have voted, or stored entries
	Founders map[cluster.NodeID]cluster.UID `json:"founders,omitempty"` // with whom the first members bootstrapped
	Former   string                         `json:"former,omitempty"`   // why this node's start under this uid is no first start; empty: it may be
}

// identityFile is beside the store, not in it: a store that is moved away leaves behind that there was one.
const identityFile = "node.json"

// storeDir is where Raft's log and snapshots are, under raft.data_dir.
const storeDir = "raft"

// Prepare gives a node's identity before Open, in raft.data_dir. former says why this is no first start, as far as the
// caller knows (data that bears an identity); empty: it knows nothing of the kind. A damaged store is set aside under
// another name, and the node is a new one then. An error names the file and what to do.
func Prepare(dir, former string, log *slog.Logger) (Identity, error) {
	id, known, err := readIdentity(dir)
	if err != nil {
		return Identity{}, err
	}
	store := filepath.Join(dir, storeDir)
	used, err := inspect(store)
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		kept, err := setAside(store)
		if err != nil {
			return Identity{}, fmt.Errorf("%w; and it could not be set aside: %w", damage, err)
		}
		log.Error("raft store is damaged: set aside, and this node joins anew", "kept", kept, "error", damage)
		used, former = false, fmt.Sprintf("its raft store was damaged and is kept as %s: %v", kept, damage)
	case err != nil:
		return Identity{}, err
	case used && !known:
		return Identity{}, fmt.Errorf("%s: want the identity under which %s was written, have none: "+
			"put the file back, or move the store away, and the node joins anew", filepath.Join(dir, identityFile), store)
	case used:
		return id, id.becomeMember(dir)
	}
	if known && id.Member && former == "" {
		former = fmt.Sprintf("it was a member with uid %s, and its raft store is gone", id.UID)
	}
	if known && !id.Member && (former == "" || id.Former != "") { // it has taken part in nothing under this uid
		return id, nil
	}
	if !known || id.Member {
		id = Identity{UID: newUID()}
	}
	id.Former = former
	return id, id.write(dir)
}

func newUID() cluster.UID {
	raw := make([]byte, 16)
	rand.Read(raw) // never fails: it ends the program instead (crypto/rand)
	return cluster.UID(hex.EncodeToString(raw))
}

// setAside renames a store to a name that was never used before, and deletes nothing.
func setAside(store string) (kept string, err error) {
	kept = fmt.Sprintf("%s.damaged-%s", store, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.Rename(store, kept); err != nil {
		return "", err
	}
	return kept, syncDir(filepath.Dir(store))
}

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
