package raftfsm

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// spyStore is a StableStore in memory whose writes of the term can be watched.
type spyStore struct {
	*raft.InmemStore
	onTerm func(uint64)
}

func (s *spyStore) SetUint64(key []byte, v uint64) error {
	if string(key) == string(keyTerm) {
		s.onTerm(v)
	}
	return s.InmemStore.SetUint64(key, v)
}

// spiedStable has the terms 1 to first persisted.
func spiedStable(t *testing.T, first uint64, onTerm func(uint64)) (*stableStore, *answers) {
	t.Helper()
	spy := &spyStore{InmemStore: raft.NewInmemStore(), onTerm: func(uint64) {}}
	if err := spy.SetUint64(keyTerm, first); err != nil {
		t.Fatal(err)
	}
	spy.onTerm = onTerm
	a := newAnswers()
	s, err := newStableStore(spy, a)
	if err != nil {
		t.Fatal(err)
	}
	return s, a
}

// L1: when a higher term reaches the disk, nothing of the lower one counts any more.
func TestL1CountingEndsBeforeHigherTermIsPersisted(t *testing.T) {
	t.Parallel()
	var s *stableStore
	var a *answers
	wrote := false
	s, a = spiedStable(t, 3, func(v uint64) {
		wrote = true
		if a.count(3, "n2", 10) {
			t.Error("an answer of 3 counted while 4 was being written")
		}
		if _, ok := a.of(3); ok {
			t.Error("answers of 3 could be read while 4 was being written")
		}
		if s.Term() != 3 {
			t.Errorf("persisted term is given as %d before 4 is written", s.Term())
		}
	})
	if !a.count(3, "n2", 5) {
		t.Error("an answer of the persisted term did not count")
	}
	if err := s.SetUint64(keyTerm, 4); err != nil || !wrote || s.Term() != 4 {
		t.Errorf("after the write: err %v, written %v, term %d", err, wrote, s.Term())
	}
}

// K1, K5: the persisted term never goes down, whatever Raft asks for.
func TestK1PersistedTermNeverFalls(t *testing.T) {
	t.Parallel()
	s, _ := spiedStable(t, 5, func(v uint64) {
		if v < 5 {
			t.Errorf("term %d written over 5", v)
		}
	})
	if err := s.SetUint64(keyTerm, 4); err != nil || s.Term() != 5 {
		t.Errorf("after a lower term: err %v, term %d", err, s.Term())
	}
	if s.handle(4, func() { t.Error("a heartbeat below the persisted term reached Raft") }) {
		t.Error("a heartbeat below the persisted term was taken")
	}
}

// K1: Raft's main loop does not raise the term while a heartbeat of the present one is in Raft's handler, which may

// write that term itself.
func TestK1HeartbeatAndTermChangeTakeTurns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []uint64
	s, _ := spiedStable(t, 3, func(v uint64) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, v)
	})
	raised := make(chan error, 1)
	took := s.handle(3, func() {
		go func() { raised <- s.SetUint64(keyTerm, 4) }()
		select {
		case err := <-raised:
			raised <- err
			t.Error("the term was raised while a heartbeat was in handling")
		case <-time.After(50 * time.Millisecond):
		}
		if err := s.SetUint64(keyTerm, 3); err != nil { // what raft's appendEntries does as a candidate
			t.Error(err)
		}
	})
	if err := <-raised; err != nil || !took {
		t.Fatalf("raise: %v, handled: %v", err, took)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order, []uint64{3, 4}) || s.Term() != 4 {
		t.Errorf("terms written: %v, persisted %d", order, s.Term())
	}
}
