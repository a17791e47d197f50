package main

import (
	"fmt"
	"sync"
	"time"
)

// record is what the writers were told, for each way in the order of time.
type record struct {
	mu     sync.Mutex
	ways   []string
	acks   map[string][]ack
	errors map[string]error // the newest of each way
}

// ack is one row that Postgres acknowledged.
type ack struct {
	at   time.Time
	id   int64
	port int // of the Postgres that took it
}

func newRecord(ways []string) *record {
	return &record{ways: ways, acks: map[string][]ack{}, errors: map[string]error{}}
}

func (r *record) acknowledged(way string, id int64, port int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks[way] = append(r.acks[way], ack{time.Now(), id, port})
}

func (r *record) failed(way string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[way] = err
}

// silent names a way by which no row was acknowledged after t (by the Postgres on port, if that is not 0); empty: none.
func (r *record) silent(t time.Time, port int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, way := range r.ways {
		acks := r.acks[way]
		if len(acks) == 0 || acks[len(acks)-1].at.Before(t) || port != 0 && acks[len(acks)-1].port != port {
			return fmt.Sprintf("no write %s is acknowledged (last error: %v)", way, r.errors[way])
		}
	}
	return ""
}

// outage is the longest time without an acknowledgement of a way that lies at least in part between from and to.
func (r *record) outage(way string, from, to time.Time) (longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acks := r.acks[way]
	for i := 1; i < len(acks); i++ {
		if acks[i].at.After(from) && acks[i-1].at.Before(to) {
			longest = max(longest, acks[i].at.Sub(acks[i-1].at))
		}
	}
	return longest
}

// count gives the acknowledged rows from a moment to another, all ways together.
func (r *record) count(from, to time.Time) (n int) {
	r.each(from, to, func(ack) { n++ })
	return n
}

// lost counts the acknowledged rows of that time that are not there.
func (r *record) lost(there map[int64]bool, from, to time.Time) (n int) {
	r.each(from, to, func(a ack) {
		if !there[a.id] {
			n++
		}
	})
	return n
}

func (r *record) each(from, to time.Time, f func(ack)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, acks := range r.acks {
		for _, a := range acks {
			if !a.at.Before(from) && !a.at.After(to) {
				f(a)
			}
		}
	}
}
