package raftfsm

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// keyTerm is where raft v1.8.0 keeps its term (raft.go, keyCurrentTerm).
var keyTerm = []byte("CurrentTerm")

// stableStore is Raft's StableStore with three promises more:
//
//   - L1: before a higher term is persisted, counting for every lower one has ended.
//   - Term is the persisted term, and it never goes down.
//   - Raft's heartbeat handler and a change of the term by Raft's main loop take turns (see handle).
type stableStore struct {
	raft.StableStore
	answers *answers
	term    atomic.Uint64

	turn     semaphore     // held by a heartbeat in Raft's handler, and by a change of the term
	handling atomic.Uint64 // the term of the heartbeat in Raft's handler; 0: none
	write    semaphore     // one writer of the term
}

// semaphore lets one in at a time. Whoever holds it may wait for a disk that hangs, which no mutex lets the simulation's time
// pass by (docs/adr/0026).
type semaphore chan struct{}

func newSemaphore() semaphore { return make(semaphore, 1) }

func (s semaphore) lock()   { s <- struct{}{} }
func (s semaphore) unlock() { <-s }

// newStableStore reads the persisted term.
func newStableStore(store raft.StableStore, a *answers) (*stableStore, error) {
	term, err := store.GetUint64(keyTerm)
	if err != nil {
		return nil, fmt.Errorf("raft store: persisted term: %w", err)
	}
	s := &stableStore{StableStore: store, answers: a, turn: newSemaphore(), write: newSemaphore()}
	s.term.Store(term)
	a.endBelow(term)
	return s, nil
}

// Term is the Raft term that is surely on disk.
func (s *stableStore) Term() uint64 { return s.term.Load() }

// SetUint64 writes a value; the term goes through setTerm.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	if !bytes.Equal(key, keyTerm) {
		return s.StableStore.SetUint64(key, val)
	}
	if s.handling.Load() != val { // else it is the heartbeat itself, which has the turn
		s.turn.lock()
		defer s.turn.unlock()
	}
	return s.setTerm(val)
}

// setTerm persists a higher term, after counting for all lower ones has ended (L1). A lower one is not written: what
// was persisted is what attests and votes of this node rest on (K1, K5).
func (s *stableStore) setTerm(val uint64) error {
	s.write.lock()
	defer s.write.unlock()
	if val < s.term.Load() {
		return nil
	}
	s.answers.endBelow(val)
	if err := s.StableStore.SetUint64(keyTerm, val); err != nil {
		return err
	}
	s.term.Store(val)
	return nil
}

// handle runs Raft's handler for a heartbeat of the given term, unless a higher term is persisted already; then it
// returns false and the heartbeat must be refused.
//
// It keeps Raft's main loop from changing the term meanwhile. raft v1.8.0 runs the heartbeat handler beside the main
// loop, and appendEntries of a candidate compares the term, becomes a follower and then sets the heartbeat's term: a
// candidate that raises its term in between would fall back to the lower one, on disk too, after it voted in the higher.
func (s *stableStore) handle(term uint64, handler func()) bool {
	s.turn.lock()
	defer s.turn.unlock()
	if term < s.Term() {
		return false
	}
	s.handling.Store(term)
	defer s.handling.Store(0)
	handler()
	return true
}
