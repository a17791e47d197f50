//go:build !wasip1

package raftfsm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"pgquorum/cluster"
)

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
