package cluster

import (
	"slices"
	"time"
)

// LeaderKey is the FSM's record of which node may be primary.
type LeaderKey struct {
	Holder   NodeID      `json:"holder,omitempty"` // empty before the first acquisition
	Member   Member      `json:"member"`           // the holder's data when it acquired
	Term     Term        `json:"term"`
	Timeline Timeline    `json:"timeline"` // the timeline that the holder serves, or will after its promotion
	Lease    LeaseParams `json:"lease"`    // L4: only a committed command changes them
	Released bool        `json:"released"` // the holder is fenced for Term and gave the key back (B1)
}

// Refusal is a candidate's word that it cannot take over in Term, so that two leaders do not send it to and fro (K6).
type Refusal struct {
	Term   Term   `json:"term"`
	Reason string `json:"reason"`
}

// Extension is an extended lease (L8). Pause's open lease is kept apart (B3). No command sets either yet.
type Extension struct {
	Holder   NodeID        `json:"holder"`
	Term     Term          `json:"term"`
	Duration time.Duration `json:"duration"`
}

// Pause hands the cluster to the operator. No command sets it yet.
type Pause struct {
	Holder NodeID `json:"holder"`
	Term   Term   `json:"term"`
}

// LastLSN is the holder's last recorded moving position, for the mode off (C1 d).
type LastLSN struct {
	Term     Term     `json:"term"`
	Position Position `json:"position"`
}

// Dynamic is the cluster's dynamic configuration, committed through Raft. Names follow Patroni's.
type Dynamic struct {
	SynchronousMode       SyncMode          `json:"synchronous_mode"`
	SynchronousNodeCount  int               `json:"synchronous_node_count"`
	SynchronousModeStrict bool              `json:"synchronous_mode_strict"`
	MaximumLagOnFailover  uint64            `json:"maximum_lag_on_failover"` // bytes
	PrimaryStartTimeout   time.Duration     `json:"primary_start_timeout"`
	PrimaryStopTimeout    time.Duration     `json:"primary_stop_timeout"`
	HeartbeatTimeout      time.Duration     `json:"heartbeat_timeout"`
	Lease                 LeaseParams       `json:"lease"`
	Parameters            map[string]string `json:"parameters,omitempty"` // postgresql.parameters
	PgHBA                 []string          `json:"pg_hba,omitempty"`
}

// Event is one entry of the cluster's bounded log, the same on every node.
type Event struct {
	ID     uint64 `json:"id"`
	Time   string `json:"time"` // RFC 3339 with fractions, as the proposer gave it
	Type   string `json:"type"`
	Node   NodeID `json:"node"`
	Term   Term   `json:"term"`
	Detail string `json:"detail"`
}

// View is the FSM's state at one applied index. It is immutable: whoever holds one may read it without a lock.
type View struct {
	Index        uint64             `json:"index"`
	ClusterID    string             `json:"cluster_id,omitempty"` // made at the first claim
	Scope        string             `json:"scope"`
	SystemID     string             `json:"system_id,omitempty"` // PostgreSQL's system identifier; empty before initdb
	Claim        NodeID             `json:"claim,omitempty"`     // the node that may run initdb
	Key          LeaderKey          `json:"key"`
	Nodes        map[NodeID]Node    `json:"nodes"`
	Forks        Forks              `json:"forks"`
	Floor        Timeline           `json:"timeline_floor,omitempty"` // no number up to it is free: a lost cluster may have used it
	Rules        []SyncRule         `json:"rules"`                    // in order of their IDs
	RulesVersion uint64             `json:"rules_version"`
	Handbacks    int                `json:"handbacks"` // in Key.Term (K3)
	Refusals     map[NodeID]Refusal `json:"refusals"`  // for Key.Term+1 (K6)
	LastLSN      LastLSN            `json:"last_lsn"`
	Extension    *Extension         `json:"extension,omitempty"`
	Pause        *Pause             `json:"pause,omitempty"`
	Config       Dynamic            `json:"config"`
	Events       []Event            `json:"events"`
	Committed    []NodeID           `json:"committed"` // voters of the last committed Raft configuration
}

// Names gives the registered nodes in order.
func (v *View) Names() []NodeID {
	names := make([]NodeID, 0, len(v.Nodes))
	for n := range v.Nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Current gives the rule that was recorded last; ok is false when there is none.
func (v *View) Current() (r SyncRule, ok bool) {
	if len(v.Rules) == 0 {
		return SyncRule{}, false
	}
	return v.Rules[len(v.Rules)-1], true
}
