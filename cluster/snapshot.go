package cluster

import "time"

// PeerView is what a node last heard of a peer.
type PeerView struct {
	Status NodeStatus
	At     Instant // when the answer came, on this node's clock; zero: never
	Err    string  // why the last call got no answer; empty when it did
}

// Snapshot is what a node knows of itself and of the cluster at one moment, for readers that must not wait: the
// API's health checks and metrics. It is immutable.
type Snapshot struct {
	Self      NodeID
	View      *View
	Local     NodeStatus
	LocalAt   Instant
	Peers     map[NodeID]PeerView
	Acquired  bool    // this process acquired or continues the key's term under a lease (L2)
	GateOpen  bool    // the primary's rule is settled (S4), or its second has passed; in strict mode k_full is reached (S1)
	LoopTurn  Instant // when the loop last went round
	Shutdown  bool    // the agent hands over and stops
	Phase     string
	PhaseTime map[string]time.Duration // the parts of the last take-over by this node: noticed, chosen, acquired, promoted, ...
	KFull     int                      // k that the cluster aims at (S1)
}

// HoldsKey says whether the key names this node and the lease for it is alive, before its fence point.
func (s *Snapshot) HoldsKey(lease Lease, now Instant) bool {
	k := s.View.Key
	return k.Holder == s.Self && !k.Released && lease.Term == k.Term && lease.Live(k.Lease, now)
}

// ServesPrimary says whether GET /primary is 200: Postgres is read-write here, the key names this node at this term,
// and the lease is alive (docs/design.md, section 3).
func (s *Snapshot) ServesPrimary(lease Lease, now Instant) bool {
	p := s.Local.Postgres
	return s.GateOpen && !s.Shutdown && p.State == PostgresRunning && p.Role == RolePrimary &&
		p.Timeline == s.View.Key.Timeline && s.HoldsKey(lease, now)
}
