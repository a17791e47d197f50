package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pgquorum/cluster"
)

// nodeUID reads raft.data_dir/uid, and makes it, random, at the first start (docs/protocol.md section 11).
func nodeUID(dir string) (cluster.UID, error) {
	path := filepath.Join(dir, "uid")
	data, err := os.ReadFile(path)
	if err == nil {
		uid := strings.TrimSpace(string(data))
		if len(uid) != 32 {
			return "", fmt.Errorf("%s: want 32 hexadecimal digits, have %q", path, uid)
		}
		return cluster.UID(uid), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 16)
	rand.Read(raw) // never fails: it ends the program instead (crypto/rand)
	uid := hex.EncodeToString(raw)
	return cluster.UID(uid), writeNew(path, uid+"\n")
}

// writeNew makes a file that is whole or not there at all.
func writeNew(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
