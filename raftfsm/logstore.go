package raftfsm

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// logStore is Raft's LogStore; it tells configs of every configuration entry before it is stored, so that a new
// configuration counts (L6) before anybody else can know it. It tells names of every node that is given to another uid: a
// configuration with that node counts once it is stored, and so its former bearer must not any more.
type logStore struct {
	raft.LogStore
	configs *configs
	names   *readmits
	recall  *recall
}

// StoreLog stores one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			s.configs.note(l.Index, raft.DecodeConfiguration(l.Data))
		}
		s.names.note(l)
	}
	err := s.LogStore.StoreLogs(logs)
	if err != nil && len(logs) > 0 {
		s.configs.drop(logs[0].Index, logs[len(logs)-1].Index)
		s.names.drop(logs[0].Index, logs[len(logs)-1].Index)
	}
	return err
}

// DeleteRange deletes entries. Those at the end of the log were never committed, and their configurations go with
// them; those at its beginning are in a snapshot, and stay known.
func (s *logStore) DeleteRange(low, high uint64) error {
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if err := s.LogStore.DeleteRange(low, high); err != nil {
		return err
	}
	if high >= last {
		s.configs.drop(low, high)
		s.names.drop(low, high)
		s.recall.cut(low)
	}
	return nil
}

// snapshotStore is Raft's SnapshotStore; a snapshot from the leader brings a configuration that no log entry does.
type snapshotStore struct {
	raft.SnapshotStore
	configs *configs
}

// Create begins a snapshot.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, configIndex, trans)
	if err == nil {
		s.configs.drop(configIndex+1, index) // superseded: the snapshot covers them and does not have them
		s.configs.note(configIndex, c)
	}
	return sink, err
}

// keptConfigs bounds the configurations remembered. Raft has one uncommitted configuration at most, so two would do.
const keptConfigs = 8

// configs are the newest Raft configurations in the log by index, and one that is about to be proposed.
type configs struct {
	mu       sync.Mutex
	known    []indexedConfig // in order of index
	proposed *raft.Configuration
}

type indexedConfig struct {
	index  uint64
	config raft.Configuration
}

// loadConfigs reads the configurations of the newest snapshot and of the log behind it, and the nodes that the log gives to
// another uid, and what the state must come to again. What the snapshot covers is not looked at: when a leader has sent the
// snapshot, Raft leaves the older log where it is, with entries that may never have been committed, and the next entries begin behind a gap.
func loadConfigs(logs raft.LogStore, snaps raft.SnapshotStore) (*configs, *readmits, *recall, error) {
	c, given, before := &configs{}, &readmits{}, &recall{}
	metas, err := snaps.List()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("raft snapshots: %w", err)
	}
	var covered uint64
	if len(metas) > 0 {
		covered = metas[0].Index
		c.note(metas[0].ConfigurationIndex, metas[0].Configuration)
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("raft log: first index: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("raft log: last index: %w", err)
	}
	for i := max(first, covered+1); first > 0 && i <= last; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil {
			return nil, nil, nil, fmt.Errorf("raft log: entry %d of %d to %d: %w", i, first, last, err)
		}
		if l.Type == raft.LogConfiguration {
			c.note(l.Index, raft.DecodeConfiguration(l.Data))
		}
		given.note(&l)
		before.note(&l)
	}
	return c, given, before, nil
}

// note enters the configuration of a log index.
func (c *configs) note(index uint64, config raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = slices.DeleteFunc(c.known, func(k indexedConfig) bool { return k.index == index })
	c.known = append(c.known, indexedConfig{index, config})
	slices.SortFunc(c.known, func(a, b indexedConfig) int { return int(int64(a.index - b.index)) })
	if extra := len(c.known) - keptConfigs; extra > 0 {
		c.known = slices.Delete(c.known, 0, extra)
	}
}

// drop forgets the configurations of deleted log entries.
func (c *configs) drop(low, high uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = slices.DeleteFunc(c.known, func(k indexedConfig) bool { return k.index >= low && k.index <= high })
}

// latest gives the newest configuration and its index; both zero when there is none.
func (c *configs) latest() (index uint64, config raft.Configuration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) == 0 {
		return 0, raft.Configuration{}
	}
	k := c.known[len(c.known)-1]
	return k.index, k.config
}

// counted gives the configurations that a lease counts over (L6): the latest, and the proposed one.
func (c *configs) counted() []raft.Configuration {
	_, latest := c.latest()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proposed != nil {
		return []raft.Configuration{latest, *c.proposed}
	}
	return []raft.Configuration{latest}
}

// propose makes a configuration count before it is proposed, until the returned function is called.
func (c *configs) propose(config raft.Configuration) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := &config
	c.proposed = mine
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.proposed == mine { // a later change may have put its own here
			c.proposed = nil
		}
	}
}
