package integration

import (
	"slices"
	"time"
)

// window is a time in which a node's reads rest on no promise.
type window struct {
	node       string
	start, end time.Duration
}

// staleGrace is how long a guard that was paused may take to fence, on a busy machine.
const staleGrace = time.Second

// unsettled gives the times in which a node was shown as the primary before its sync rule was settled, as S4 allows when a
// second is over: rows may be read that vanish with it.
func unsettled(events []timedEvent, began time.Time) (windows []window) {
	for i, e := range events {
		if e.Type != "shown_unsettled" {
			continue
		}
		at := e.Time.Sub(began)
		w := window{e.Node, at - staleGrace, forever}
		for _, later := range events[i+1:] {
			if later.Type == "leader_acquired" || later.Type == "sync_rules_dropped" && later.Term == e.Term {
				w.end = later.Time.Sub(began) + staleGrace
				break
			}
		}
		windows = append(windows, w)
	}
	return windows
}

// provenReads leaves out the reads that rest on no promise: those that a paused guard's Postgres answered, since P1
// promises reads only where the guard is scheduled, and those before a shown primary's rule was settled (S4).
func provenReads[T operation](ops []T, stale []window) (proven []T, excluded int) {
	for _, op := range ops {
		c := op.call()
		if op.reads() && slices.ContainsFunc(stale, func(w window) bool { return w.node == c.Node && c.Start < w.end && c.End > w.start }) {
			excluded++
			continue
		}
		proven = append(proven, op)
	}
	return proven, excluded
}
