package raftfsm

import (
	"context"
	"sync"

	"pgquorum/cluster"
)

// progress is how far each follower's log matches this leader's, as its answers say; Raft does not expose it.
type progress struct {
	mu      sync.Mutex
	term    uint64
	match   map[cluster.NodeID]uint64
	changed chan struct{} // closed at each change
}

func newProgress() *progress {
	return &progress{match: map[cluster.NodeID]uint64{}, changed: make(chan struct{})}
}

// note enters that the peer's log matches up to index, in Raft term r.
func (p *progress) note(peer cluster.NodeID, r, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r < p.term {
		return
	}
	if r > p.term {
		p.term, p.match = r, map[cluster.NodeID]uint64{}
	}
	if index > p.match[peer] {
		p.match[peer] = index
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// forget drops what is known of a peer's log.
func (p *progress) forget(peer cluster.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
