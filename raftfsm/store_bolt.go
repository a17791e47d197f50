//go:build !wasip1

package raftfsm

import (
	"errors"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const boltLockTimeout = 5 * time.Second // another agent holds the file: say so rather than wait for ever

// boltStore is the Store of every real node.
type boltStore struct{ *raftboltdb.BoltStore }

// OpenBolt opens or makes the file, which is what a node keeps its log in unless Options say otherwise.
func OpenBolt(path string) (Store, error) {
	s, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: boltLockTimeout}})
	if err != nil {
		return nil, err
	}
	if err := setRoomAside(path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return boltStore{s}, nil
}

// GetUint64 reads a value.
func (s boltStore) GetUint64(key []byte) (uint64, error) {
	val, err := s.BoltStore.GetUint64(key)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return val, err
}
