package raftfsm

import (
	"context"
	"sync"

	"pgquorum/cluster"
)

// progress is which peers have answered in the newest Raft term, and how far each one's log matches this leader's, as its
// answers say; Raft exposes neither.
type progress struct {
	mu      sync.Mutex
	term    uint64
	heard   map[cluster.NodeID]bool
	match   map[cluster.NodeID]uint64
	changed chan struct{} // closed at each change
}

func newProgress() *progress {
	return &progress{heard: map[cluster.NodeID]bool{}, match: map[cluster.NodeID]uint64{}, changed: make(chan struct{})}
}

// turn begins a newer Raft term; it says whether r is the newest.
func (p *progress) turn(r uint64) bool {
	if r > p.term {
		p.term, p.heard, p.match = r, map[cluster.NodeID]bool{}, map[cluster.NodeID]uint64{}
	}
	return r == p.term
}

// hear enters that the peer has answered a call of Raft term r, whatever it answered.
func (p *progress) hear(peer cluster.NodeID, r uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn(r) {
		p.heard[peer] = true
	}
}

// hears says whether the peer has answered a call of Raft term r.
func (p *progress) hears(peer cluster.NodeID, r uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.term == r && p.heard[peer]
}

// note enters that the peer's log matches up to index, in Raft term r.
func (p *progress) note(peer cluster.NodeID, r, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn(r) && index > p.match[peer] {
		p.match[peer] = index
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// forget drops what is known of a peer.
func (p *progress) forget(peer cluster.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.heard, peer)
	delete(p.match, peer)
}

// wait returns when the peer's log matches up to index in Raft term r, or with ctx's error.
func (p *progress) wait(ctx context.Context, peer cluster.NodeID, r, index uint64) error {
	for {
		p.mu.Lock()
		reached, changed := p.term == r && p.match[peer] >= index, p.changed
		p.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Heard says whether a node has answered a call of this node's Raft in the present Raft term, a request for its vote too: it
// runs, and can be reached both ways. This node itself was not heard.
func (n *Node) Heard(peer cluster.NodeID) bool { return n.progress.hears(peer, n.stable.Term()) }
