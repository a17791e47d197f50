package sim

import (
	"sync"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// Host is one machine: its clock, its disk, its guard, its PostgreSQL and its agent.
type Host struct {
	Name  cluster.NodeID
	world *World
	rate  float64 // how fast its clock runs; 1: as the world's

	events chan agent.GuardEvent // the guard's, for whoever is its agent

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change of what mu guards
	off      bool
	full     bool // the disk has no room
	booted   time.Time
	frozen   map[service]bool
	halted   bool // the guard has frozen PostgreSQL (U6)
	disk     disk
	beside   *disk   // what is not mounted, or under the mount; nil: nothing ever
	guard    *guard  // the present life
	server   *server // nil: no postmaster
	watchdog watchdog
	busy     bool // a copy or a rewind works on the directory
	agent    *process
	told     bool        // to stop, so that nobody starts the agent again by itself
	uid      cluster.UID // as old as its Raft store
	forgot   bool        // the next start finds no Raft store
}

// disk is what outlives a crash.
type disk struct {
	exists      bool // a data directory with a cluster in it
	rewinding   bool // "rewind in progress" (V5)
	incarnation cluster.Incarnation
	wal         wal
	removed     cluster.LSN // WAL up to here is not served any more
	clean       bool        // shut down cleanly
	sync        agent.SyncList
	source      *agent.Source // in the standby's file
	promise     cluster.Term
	noPrimary   cluster.Term // the guard's mark
}

// systemID is the only cluster's.
const systemID = "7000000000000000001"

// change edits what mu guards, and wakes all who wait for it.
func (h *Host) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.wakeLocked()
}

func (h *Host) wakeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// now is the host's CLOCK_BOOTTIME. It goes on while processes are frozen.
func (h *Host) now() cluster.Instant {
	h.mu.Lock()
	booted := h.booted
	h.mu.Unlock()
	return h.instant(booted)
}

func (h *Host) instant(booted time.Time) cluster.Instant {
	return cluster.Instant(time.Minute) + cluster.Instant(float64(time.Since(booted))*h.rate)
}

// untilInstant is how long the world waits until the host's clock shows i.
func (h *Host) untilInstant(i cluster.Instant) time.Duration {
	return time.Duration(float64(i.Sub(h.now()))/h.rate) + time.Nanosecond
}

func (h *Host) isOff() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off
}

// drawWithin is a time up to d.
func (h *Host) drawWithin(d time.Duration) time.Duration {
	h.world.mu.Lock()
	defer h.world.mu.Unlock()
	return time.Duration(h.world.rand.Int64N(int64(d)))
}

// draw is a time between the two, mostly near the lower; one in twenty takes up to ten times the upper.
func (h *Host) draw(low, high time.Duration) time.Duration {
	h.world.mu.Lock()
	defer h.world.mu.Unlock()
	r := h.world.rand
	d := low + time.Duration(r.ExpFloat64()*float64(high-low)/3)
	if r.IntN(20) == 0 {
		d += time.Duration(r.Int64N(int64(10 * high)))
	}
	return min(d, 10*high)
}

// thawed waits while a process of the host is frozen. It gives false when the process is dead by then.
func (h *Host) thawed(s service, alive func() bool) bool {
	for {
		h.mu.Lock()
		frozen, changed := h.stillLocked(s), h.changed
		h.mu.Unlock()
		if !alive() {
			return false
		}
		if !frozen {
			return true
		}
		<-changed
	}
}
