package sim_test

import (
	"github.com/hashicorp/raft"

	"pgquorum/raftfsm"
)

// onDisk is a store whose writes wait while its host's disk hangs. What is read is in memory, as it usually is.
type onDisk struct {
	raftfsm.Store
	disk func()
}

// StoreLog implements raft.LogStore.
func (s onDisk) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s onDisk) StoreLogs(logs []*raft.Log) error {
	s.disk()
	return s.Store.StoreLogs(logs)
}

// DeleteRange implements raft.LogStore.
func (s onDisk) DeleteRange(low, high uint64) error {
	s.disk()
	return s.Store.DeleteRange(low, high)
}

// Set implements raft.StableStore.
func (s onDisk) Set(key, val []byte) error {
	s.disk()
	return s.Store.Set(key, val)
}

// SetUint64 implements raft.StableStore.
func (s onDisk) SetUint64(key []byte, val uint64) error {
	s.disk()
	return s.Store.SetUint64(key, val)
}
