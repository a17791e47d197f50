package sim

import (
	"sync"
	"time"

	"pgquorum/cluster"
)

// history is what clients did and were told, and what the primaries had.
type history struct {
	mu      sync.Mutex
	tries   int
	acked   []acknowledgement
	unsafe  bool // commits wait for no standby (mode off): P2 promises nothing
	newest  cluster.Timeline
	primary map[cluster.Timeline]promotion
	acker   map[cluster.Timeline]cluster.NodeID // who acknowledged on a timeline first
	wal     wal                                 // of the newest primary, when it was promoted

	terms    terms
	promised map[cluster.NodeID]cluster.Term // the newest term that a node has answered a promise of
}

// promotion is who began a timeline, and when.
type promotion struct {
	node cluster.NodeID
	at   time.Time
}

// acknowledgement is a commit that a client was told of.
type acknowledgement struct {
	node cluster.NodeID
	record
}

func newHistory() *history {
	return &history{primary: map[cluster.Timeline]promotion{}, acker: map[cluster.Timeline]cluster.NodeID{}, terms: newTerms(), promised: map[cluster.NodeID]cluster.Term{}}
}

func (h *history) tried(int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
}

// acknowledged checks P1 and P2 at the moment of an acknowledgement, of which the first confirmation was sent at a moment
// before: that was before anybody was promoted to a newer timeline, two nodes never acknowledge on the same, and what is
// acknowledged after the next primary's promotion is in that primary's WAL. The acknowledgement's own moment proves nothing: a
// confirmation that is under way when its standby promises may reach the old primary, and its client, after the promotion; and
// those without a promise, fewer than k, may complete then what one with a promise confirmed before it.
func (w *World) acknowledged(node cluster.NodeID, r record, confirmed time.Time) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for tli, next := range h.primary {
		if tli > r.Timeline && confirmed.After(next.at) {
			w.violated("P1: %s acknowledged row %d on timeline %d, first confirmed %s after %s was promoted to timeline %d", node, r.Commit, r.Timeline, confirmed.Sub(next.at), next.node, tli)
		}
	}
	if other, taken := h.acker[r.Timeline]; !taken {
		h.acker[r.Timeline] = node
	} else if other != node {
		w.violated("P1: %s and %s both acknowledged on timeline %d", node, other, r.Timeline)
	}
	if r.Timeline < h.newest && !h.wal.has(r) && !h.unsafe {
		w.violated("P2: %s acknowledged row %d on timeline %d, which the primary of timeline %d does not have", node, r.Commit, r.Timeline, h.newest)
	}
	h.acked = append(h.acked, acknowledgement{node, r})
}

// promoted checks P2 at the moment of a promotion: the new primary has every row that was acknowledged before, its timeline is
// nobody else's (F1), and it has promised the term of that timeline itself (C2, K7).
func (w *World) promoted(node cluster.NodeID, tli cluster.Timeline, has *wal, at time.Time) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Did("%s is promoted to timeline %d at %s", node, tli, has.end().LSN)
	if other, taken := h.primary[tli]; taken {
		w.violated("F1: %s and %s were both promoted to timeline %d", other.node, node, tli)
	}
	if t := h.terms.allotted(tli); h.promised[node] < t {
		w.violated("K7: %s is promoted to timeline %d of term %d, and has promised term %d at most", node, tli, t, h.promised[node])
	}
	h.primary[tli] = promotion{node, at}
	if tli < h.newest { // a host that slept through its lease wakes up in its promotion: it must acknowledge nothing, which is checked there
		return
	}
	h.newest, h.wal = tli, has.clone()
	w.lostIn(node, has)
}

// lostIn looks for acknowledged rows that a primary does not have. Called with the history's mu.
func (w *World) lostIn(node cluster.NodeID, has *wal) {
	if w.history.unsafe {
		return
	}
	for _, a := range w.history.acked {
		if !has.has(a.record) {
			w.violated("P2: row %d, acknowledged by %s on timeline %d at %s, is lost: %s does not have it", a.Commit, a.node, a.Timeline, a.End, node)
			return
		}
	}
}

// Counts are how many rows were tried and acknowledged.
func (w *World) Counts() (tried, acked int) {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	return w.history.tries, len(w.history.acked)
}
