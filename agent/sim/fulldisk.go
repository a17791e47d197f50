package sim

import "pgquorum/cluster"

// filling lets a host's disk run full: the probe finds no room, and a PostgreSQL that writes WAL all the same has used up
// what it had and ends (it PANICs when it cannot write WAL). Marks, promises and Raft's store have room of their own.
func filling(w *World, h *Host) func() error {
	h.change(func() { h.full = true })
	w.live(h.endOnWAL)
	return func() error {
		h.change(func() { h.full = false })
		return nil
	}
}

// endOnWAL kills whatever PostgreSQL makes WAL while the disk is full.
func (h *Host) endOnWAL() {
	var before cluster.LSN
	var of *server
	for {
		h.mu.Lock()
		full, s, end, changed := h.full, h.server, h.disk.wal.end().LSN, h.changed
		h.mu.Unlock()
		switch {
		case !full:
			return
		case s == nil || s != of:
			of, before = s, end
		case end != before:
			h.KillPostgres()
			continue
		}
		<-changed
	}
}

// freeBytes is what the probe finds.
func (h *Host) freeBytes() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full {
		return 0
	}
	return 1 << 40
}
