package integration

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Write is one insert as its client saw it. Times count from the beginning of the history.
type Write struct {
	ID       int64         `json:"id"`
	Via      string        `json:"via"` // direct, haproxy, or inside:n1
	Start    time.Duration `json:"start"`
	End      time.Duration `json:"end"`
	Acked    bool          `json:"acked"` // else the outcome is unknown
	Node     string        `json:"node,omitempty"`
	Timeline uint32        `json:"timeline,omitempty"`
	Err      string        `json:"err,omitempty"`
}

// The two ways of ordinary clients.
const (
	direct  = "direct"
	haproxy = "haproxy"
)

// History collects what clients saw, in the order of their answers.
type History struct {
	began time.Time

	mu     sync.Mutex
	writes []Write
	swaps  []Swap
}

// NewHistory begins a history now.
func NewHistory() *History { return &History{began: time.Now()} }

// Now is the time on the history's clock.
func (h *History) Now() time.Duration { return time.Since(h.began) }

func (h *History) add(w Write) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes = append(h.writes, w)
}

func (h *History) addSwap(s Swap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.swaps = append(h.swaps, s)
}

// Writes is a copy of all writes so far.
func (h *History) Writes() []Write {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.writes)
}

// Acked says whether a client of a way has had a write acknowledged that was begun at or after a moment.
func (h *History) Acked(via string, since time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range slices.Backward(h.writes) {
		if w.End < since {
			return false // answers come in their order, and none comes before its question
		}
		if w.Acked && w.Via == via && w.Start >= since {
			return true
		}
	}
	return false
}

// Swaps is a copy of all swaps so far.
func (h *History) Swaps() []Swap {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.swaps)
}

// Lost gives the acknowledged writes that a node's table does not hold (P2).
func Lost(writes []Write, held map[int64]bool) (lost []Write) {
	for _, w := range writes {
		if w.Acked && !held[w.ID] {
			lost = append(lost, w)
		}
	}
	return lost
}

// Phantoms gives the ids in a table that no client ever sent.
func Phantoms(writes []Write, held map[int64]bool) (phantoms []int64) {
	sent := make(map[int64]bool, len(writes))
	for _, w := range writes {
		sent[w.ID] = true
	}
	for id := range held {
		if !sent[id] {
			phantoms = append(phantoms, id)
		}
	}
	slices.Sort(phantoms)
	return phantoms
}

// TwoPrimaries gives what shows that two nodes acknowledged side by side (P1), one line each:
//
//   - two nodes acknowledged on one timeline; numbers are allotted once, to one node (F1);
//   - a write was begun on an older timeline after a write on a newer one had been acknowledged: the older primary
//     still took commits when the newer one did. Writes that merely overlap prove nothing: a commit may be anywhere
//     between a client's call and its answer.
func TwoPrimaries(writes []Write) (proofs []string) {
	owner := map[uint32]string{}
	firstAck := map[uint32]Write{}
	for _, w := range writes {
		if !w.Acked {
			continue
		}
		if other, ok := owner[w.Timeline]; ok && other != w.Node {
			proofs = append(proofs, fmt.Sprintf("timeline %d: acknowledged by %s and by %s (write %d)", w.Timeline, other, w.Node, w.ID))
		} else {
			owner[w.Timeline] = w.Node
		}
		if first, ok := firstAck[w.Timeline]; !ok || w.End < first.End {
			firstAck[w.Timeline] = w
		}
	}
	for _, w := range writes {
		if !w.Acked {
			continue
		}
		for timeline, first := range firstAck {
			if timeline > w.Timeline && first.End < w.Start {
				proofs = append(proofs, fmt.Sprintf("write %d begun at %s on %s, timeline %d, after %s had acknowledged write %d on timeline %d at %s",
					w.ID, w.Start, w.Node, w.Timeline, first.Node, first.ID, timeline, first.End))
			}
		}
	}
	return proofs
}

// AckedBy gives the writes that a node acknowledged and that were begun at or after a moment.
func AckedBy(writes []Write, node string, since time.Duration) (acked []Write) {
	for _, w := range writes {
		if w.Acked && w.Node == node && w.Start >= since {
			acked = append(acked, w)
		}
	}
	return acked
}

// Outage is the longest time without an acknowledgement to any client of a way, after a fault and until the end.
// The last acknowledgement before the fault counts, as does the end: writes that never come back are an outage.
func Outage(writes []Write, via string, fault, end time.Duration) (longest time.Duration) {
	var acks []time.Duration
	for _, w := range writes {
		if w.Acked && w.Via == via && w.End <= end {
			acks = append(acks, w.End)
		}
	}
	slices.Sort(acks)
	last := time.Duration(0)
	for _, ack := range append(acks, end) {
		if ack > fault {
			longest = max(longest, ack-last)
		}
		last = ack
	}
	return longest
}
