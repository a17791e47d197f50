package raftfsm

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// LeaseEnd gives E: how long this node may believe that nobody else can have completed a take-over (L1, L6). It counts
// answers of the present Raft term R only, and only while this node leads and its persisted Raft term is R; over each
// voter set of Configs, and the smallest E stands. ok is false while a quorum has not answered in R. L2 (a Barrier of R,
// and the key at T) is the caller's to check: see BarrierTerm.
func (n *Node) LeaseEnd(ttl time.Duration) (raftTerm uint64, end cluster.Instant, ok bool) {
	// The moment comes first: whatever is found true below was not yet ended then.
	now := n.opt.Clock()
	raftTerm = n.stable.Term()
	if n.closed() || !n.leads(raftTerm) {
		return 0, 0, false
	}
	sent, ok := n.answers.of(raftTerm)
	if !ok {
		return 0, 0, false
	}
	for _, voters := range n.Configs() {
		e, ok := cluster.LeaseEnd(ttl, now, n.opt.Self, voters, sent)
		if !ok {
			return 0, 0, false
		}
		if end.IsZero() || e.Before(end) {
			end = e
		}
	}
	return raftTerm, end, !end.IsZero()
}

// leads says whether this node leads in Raft term r. Raft becomes a follower before it takes a higher term, so a
// leader's term is the one in which it was elected; reading the term again after the state makes the pair one moment's.
func (n *Node) leads(r uint64) bool {
	return n.raft.State() == raft.Leader && n.raft.CurrentTerm() == r && n.stable.Term() == r
}

// answers is the book of heartbeat answers (L1): for the newest Raft term in which this node sent any, the send time of
// the newest answered heartbeat of each peer.
type answers struct {
	mu    sync.Mutex
	floor uint64 // counting for every term below has ended for good
	term  uint64
	sent  map[cluster.NodeID]cluster.Instant
}

func newAnswers() *answers { return &answers{sent: map[cluster.NodeID]cluster.Instant{}} }

// count enters an answer by peer to a heartbeat of term r that was sent at that moment; it says whether it counted.
func (a *answers) count(r uint64, peer cluster.NodeID, sent cluster.Instant) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r < a.floor || r < a.term {
		return false
	}
	if r > a.term {
		a.term, a.sent = r, map[cluster.NodeID]cluster.Instant{}
	}
	if a.sent[peer].Before(sent) {
		a.sent[peer] = sent
	}
	return true
}

// forget drops what a peer has answered.
func (a *answers) forget(peer cluster.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sent, peer)
}

// endBelow ends counting for every Raft term below r. The StableStore calls it before it persists r (L1).
func (a *answers) endBelow(r uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.floor = max(a.floor, r)
}

// of gives the send times counted in term r; ok is false once counting for r has ended.
func (a *answers) of(r uint64) (sent map[cluster.NodeID]cluster.Instant, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r < a.floor || r < a.term {
		return nil, false
	}
	if r > a.term {
		return nil, true
	}
	return maps.Clone(a.sent), true
}

// Configs gives the voters of Raft's latest configuration, of a proposed one from before it is proposed, and of the
// last committed one while that is another (L6). Each set is in order; equal sets are given once. Empty before this
// node knows any configuration.
func (n *Node) Configs() [][]cluster.NodeID {
	var sets [][]cluster.NodeID
	add := func(voters []cluster.NodeID) {
		same := func(s []cluster.NodeID) bool { return slices.Equal(s, voters) }
		if len(voters) > 0 && !slices.ContainsFunc(sets, same) {
			sets = append(sets, voters)
		}
	}
	for _, c := range n.configs.counted() {
		add(voterIDs(c))
	}
	committed := slices.Clone(n.fsm.View().Committed)
	slices.Sort(committed)
	add(committed)
	return sets
}

// voterIDs gives the voters of a configuration in order.
func voterIDs(c raft.Configuration) []cluster.NodeID { return serverIDs(c, raft.Voter) }

// serverIDs gives the servers of one suffrage in order.
func serverIDs(c raft.Configuration, suffrage raft.ServerSuffrage) []cluster.NodeID {
	var ids []cluster.NodeID
	for _, s := range c.Servers {
		if s.Suffrage == suffrage {
			ids = append(ids, cluster.NodeID(s.ID))
		}
	}
	slices.Sort(ids)
	return ids
}
