package cluster

import "fmt"

// Command is one change of the FSM. Raft orders commands; the FSM applies or refuses each the same on every node,
// with no clock and no randomness of its own (times and random ids travel in the command). A command may be applied
// twice: each compares the term or version that it was made for.
type Command interface{ Kind() string }

// Claim makes Node the one that may run initdb, while the cluster has no system identifier. From names the claim it
// replaces (empty for none): compare-and-set.
type Claim struct {
	Node      NodeID  `json:"node"`
	From      NodeID  `json:"from"`
	ClusterID string  `json:"cluster_id"` // used by the first claim only
	Config    Dynamic `json:"config"`     // the first dynamic config; used by the first claim only
}

// SetSystemID records PostgreSQL's system identifier, once: a second, different one is refused.
type SetSystemID struct {
	Node     NodeID `json:"node"`
	SystemID string `json:"system_id"`
}

// Register enters or updates a node. Another UID for a known name is refused. A new Incarnation is refused while the
// former one is a standby of a recorded rule or the holder's own (V5): the joint change takes it out first.
type Register struct {
	Node Node `json:"node"`
}

// Readmit lets a node that lost its Raft store bear its name again, under a new uid: compare-and-set on the former one. Refused
// while the former server is a voter, whose votes are forgotten, and while the node holds the key (L6). Its incarnation stays:
// the rules may count on it (V5).
type Readmit struct {
	Node     NodeID `json:"node"`
	From     UID    `json:"from"` // empty: the name is not registered
	UID      UID    `json:"uid"`
	RaftAddr string `json:"raft_addr"`
}

// Recover is an operator's word that all nodes but Node are lost for good (B5): the rules let them go, and Node's data is what
// remains of the cluster. It is never proposed to Raft: pgquorum recover applies it to the one store that goes on.
type Recover struct {
	Node      NodeID `json:"node"`
	Member    Member `json:"member"`          // its data
	ClusterID string `json:"cluster_id"`      // the new one: nobody of the former cluster is spoken with
	Forks     []Fork `json:"forks,omitempty"` // of its data's history, that the state does not know: in order, oldest first
	Time      string `json:"time"`
}

// AcquireLeader makes Node the holder in Term ExpectTerm+1 (K7): compare-and-set on the term and on the version of the
// rules. It adds the new primary's rule, allots a timeline number and records the lease's numbers. InPlace keeps the
// timeline (C3, K3); only the same node may ask for that.
type AcquireLeader struct {
	Node         NodeID      `json:"node"`
	ExpectTerm   Term        `json:"expect_term"`
	RulesVersion uint64      `json:"rules_version"`
	Member       Member      `json:"member"`
	InPlace      bool        `json:"in_place"`
	Parent       Timeline    `json:"parent"`   // the timeline of the candidate's position; 0 for a new cluster
	SeenMax      Timeline    `json:"seen_max"` // the highest number that a history file on any node's disk has used
	Lease        LeaseParams `json:"lease"`
	Standbys     []Member    `json:"standbys"`
	K            int         `json:"k"`
	Mode         SyncMode    `json:"mode"`
	Reason       string      `json:"reason"`
	Time         string      `json:"time"`
}

// ReleaseLeader gives the key back; the proposer's guard has answered fenced(Term) (U4, B1).
type ReleaseLeader struct {
	Node   NodeID `json:"node"`
	Term   Term   `json:"term"`
	Reason string `json:"reason"`
	Time   string `json:"time"`
}

// AddRule records a further rule of the holder's term beside the present ones (S2 step 1).
type AddRule struct {
	Node         NodeID   `json:"node"`
	Term         Term     `json:"term"`
	RulesVersion uint64   `json:"rules_version"`
	Standbys     []Member `json:"standbys"`
	K            int      `json:"k"`
	Mode         SyncMode `json:"mode"`
}

// DropRules removes every rule but the last (S2 step 4, S4).
type DropRules struct {
	Node         NodeID `json:"node"`
	Term         Term   `json:"term"`
	RulesVersion uint64 `json:"rules_version"`
}

// RecordFork adds the LSN of an allotted timeline's fork (F1). The first LSN stands; a different one is refused.
type RecordFork struct {
	Timeline Timeline `json:"timeline"`
	Parent   Timeline `json:"parent"`
	LSN      LSN      `json:"lsn"`
}

// RecordLSN is the holder's moving position, for the mode off (C1 d).
type RecordLSN struct {
	Node     NodeID   `json:"node"`
	Term     Term     `json:"term"`
	Position Position `json:"position"`
}

// CountHandback counts a hand-back of leadership to the holder in Term (K3).
type CountHandback struct {
	Term Term `json:"term"`
}

// Refuse records that a node cannot take over in Term (K6).
type Refuse struct {
	Node   NodeID `json:"node"`
	Term   Term   `json:"term"`
	Reason string `json:"reason"`
}

// SetConfig replaces the dynamic config; compare-and-set on the index at which it was read is the API's business.
type SetConfig struct {
	Config Dynamic `json:"config"`
}

// SetLease changes the recorded lease numbers of the holder's term (L4).
type SetLease struct {
	Node  NodeID      `json:"node"`
	Term  Term        `json:"term"`
	Lease LeaseParams `json:"lease"`
}

// AddEvent appends to the bounded log.
type AddEvent struct {
	Event Event `json:"event"`
}

// The kinds, frozen: they stand in Raft logs and snapshots.

// Kind names the command in the Raft log.
func (Claim) Kind() string { return "claim" }

// Kind names the command in the Raft log.
func (SetSystemID) Kind() string { return "set_system_id" }

// Kind names the command in the Raft log.
func (Register) Kind() string { return "register" }

// Kind names the command in the Raft log.
func (Readmit) Kind() string { return "readmit" }

// Kind names the command in events and refusals; it stands in no Raft log.
func (Recover) Kind() string { return "recover" }

// Kind names the command in the Raft log.
func (AcquireLeader) Kind() string { return "acquire_leader" }

// Kind names the command in the Raft log.
func (ReleaseLeader) Kind() string { return "release_leader" }

// Kind names the command in the Raft log.
func (AddRule) Kind() string { return "add_rule" }

// Kind names the command in the Raft log.
func (DropRules) Kind() string { return "drop_rules" }

// Kind names the command in the Raft log.
func (RecordFork) Kind() string { return "record_fork" }

// Kind names the command in the Raft log.
func (RecordLSN) Kind() string { return "record_lsn" }

// Kind names the command in the Raft log.
func (CountHandback) Kind() string { return "count_handback" }

// Kind names the command in the Raft log.
func (Refuse) Kind() string { return "refuse" }

// Kind names the command in the Raft log.
func (SetConfig) Kind() string { return "set_config" }

// Kind names the command in the Raft log.
func (SetLease) Kind() string { return "set_lease" }

// Kind names the command in the Raft log.
func (AddEvent) Kind() string { return "add_event" }

// Refused is the FSM's answer to a command that does not fit its state: a value, the same on every node, and the
// caller's word that nothing changed.
type Refused struct {
	Command string `json:"command"`
	Reason  string `json:"reason"`
}

// Error says what was refused and why.
func (r *Refused) Error() string { return fmt.Sprintf("%s refused: %s", r.Command, r.Reason) }
