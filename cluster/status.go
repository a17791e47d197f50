package cluster

import "time"

// RaftState is a node's Raft role. Leader and follower are never Postgres roles.
type RaftState string

// The Raft states.
const (
	RaftLeader    RaftState = "leader"
	RaftFollower  RaftState = "follower"
	RaftCandidate RaftState = "candidate"
	RaftShutdown  RaftState = "shutdown"
)

// RaftStatus is what a node sees of Raft.
type RaftStatus struct {
	State       RaftState     `json:"state"`
	Term        uint64        `json:"term"`             // the persisted Raft term
	Leader      NodeID        `json:"leader,omitempty"` // empty: none known
	Commit      uint64        `json:"commit"`
	Applied     uint64        `json:"applied"`
	LastContact time.Duration `json:"last_contact"` // since the leader was last heard; 0 on the leader
	Voters      []NodeID      `json:"voters"`       // of the latest configuration
	Nonvoters   []NodeID      `json:"nonvoters,omitempty"`
	Waiting     string        `json:"waiting,omitempty"` // what this node waits for to become a member; empty: it is one
	Recalled    bool          `json:"recalled"`          // the state is as new again as this node had it before its agent was started

	TransferStuck time.Duration `json:"transfer_stuck,omitempty"` // leader: for how long it has refused every proposal for a transfer of leadership that nobody makes
}

// DataState says what stands in postgresql.data_dir.
type DataState string

// The data states. Only DataOurs and DataUnclaimed may be started; only DataAbsent may be filled.
const (
	DataAbsent     DataState = "absent"     // no directory, or an empty one
	DataOurs       DataState = "ours"       // a cluster with pgquorum.id of this node
	DataUnclaimed  DataState = "unclaimed"  // a cluster without a valid pgquorum.id
	DataForeign    DataState = "foreign"    // a cluster with another system identifier: refused, untouched
	DataNotCluster DataState = "no_cluster" // non-empty, but no PG_VERSION: refused, untouched
	DataRewinding  DataState = "rewinding"  // a rewind began and did not end: no incarnation (V5)
	DataUnreadable DataState = "unreadable" // it could not be looked at
)

// PostgresState says what the local Postgres does.
type PostgresState string

// The Postgres states, with Patroni's words where it has one.
const (
	PostgresStopped  PostgresState = "stopped"
	PostgresStarting PostgresState = "starting"
	PostgresRunning  PostgresState = "running"
	PostgresStopping PostgresState = "stopping"
	PostgresHung     PostgresState = "hung"   // the postmaster lives, the status query missed its deadline
	PostgresFrozen   PostgresState = "frozen" // the guard has stopped its processes (U6); what else is said of it was seen before
)

// Role is a Postgres role.
type Role string

// The roles.
const (
	RoleNone    Role = ""
	RolePrimary Role = "primary"
	RoleStandby Role = "standby"
)

// WalSender is one row of pg_stat_replication.
type WalSender struct {
	PID      int           `json:"pid"`
	AppName  string        `json:"application_name"`
	Addr     string        `json:"client_addr"`
	State    string        `json:"state"`
	Sync     string        `json:"sync_state"`
	Sent     LSN           `json:"sent_lsn"`
	Flushed  LSN           `json:"flush_lsn"`
	Replayed LSN           `json:"replay_lsn"`
	ReplyAge time.Duration `json:"reply_age"` // since its last reply; judged by S8
}

// PostgresStatus is the local Postgres at one look. Missing parts are zero.
type PostgresStatus struct {
	Data           DataState     `json:"data"`
	DataDetail     string        `json:"data_detail,omitempty"` // why Data is what it is, in one line
	SystemID       string        `json:"system_id,omitempty"`
	Incarnation    Incarnation   `json:"incarnation,omitempty"` // set only for DataOurs
	State          PostgresState `json:"state"`
	Role           Role          `json:"role"`
	Version        int           `json:"version"`              // server_version_num
	StartTime      string        `json:"start_time,omitempty"` // postmaster start
	Timeline       Timeline      `json:"timeline"`             // running: of the WAL it writes or replays; stopped: the control file's
	Clean          bool          `json:"clean"`                // stopped: it was shut down cleanly
	Redo           LSN           `json:"redo,omitempty"`       // stopped or starting: from where recovery replays, by the control file; 0: not known
	Current        LSN           `json:"current"`              // primary: end of flushed WAL
	Received       LSN           `json:"received"`             // standby: receiver's flush LSN, 0 if none in this run
	Replayed       LSN           `json:"replayed"`             // standby
	ReplayPaused   bool          `json:"replay_paused,omitempty"`
	ReplayTime     string        `json:"replay_time,omitempty"`     // commit time of the last replayed transaction
	ReplayDelay    time.Duration `json:"replay_delay,omitempty"`    // since ReplayTime, by this machine's clock
	Streaming      bool          `json:"streaming"`                 // standby: a WAL receiver is in state streaming
	Source         NodeID        `json:"source,omitempty"`          // standby: whom primary_conninfo names
	SourceTerm     Term          `json:"source_term,omitempty"`     // standby: the term under which that was written
	SourceTimeline Timeline      `json:"source_timeline,omitempty"` // standby: the timeline that it was told to follow; 0: none, as for a catch-up
	Replication    []WalSender   `json:"replication,omitempty"`
	SyncNames      string        `json:"sync_names"` // synchronous_standby_names as a new connection last saw it
	PendingRestart bool          `json:"pending_restart,omitempty"`
}

// GuardStatus is what the guard says of itself.
type GuardStatus struct {
	Alive       bool          `json:"alive"`
	PID         int           `json:"pid"`
	Term        Term          `json:"term"`                  // of the lease it holds; 0: none
	Remaining   time.Duration `json:"remaining"`             // until E; 0 or less: none
	NoPrimary   Term          `json:"no_primary"`            // the durable mark: no primary at any term <= this
	Postmaster  int           `json:"postmaster"`            // its pid; 0: none runs
	Containment string        `json:"containment"`           // cgroup | descendants
	Locked      bool          `json:"locked"`                // memory locked
	Frozen      Term          `json:"frozen,omitempty"`      // of the lease that ran out over a Postgres that is frozen since (U6); 0: none is
	FrozenLeft  time.Duration `json:"frozen_left,omitempty"` // until the guard ends what is frozen by itself

	Watchdog WatchdogStatus `json:"watchdog,omitzero"`
}

// NodeStatus is a node's answer to a peer's status call: what it sees now, in durations, never in its own clock.
type NodeStatus struct {
	Node       NodeID         `json:"node"`
	UID        UID            `json:"uid"`
	Version    string         `json:"version"`
	Raft       RaftStatus     `json:"raft"`
	Index      uint64         `json:"index"`    // FSM index applied
	KeyTerm    Term           `json:"key_term"` // of the FSM as applied there
	Lease      time.Duration  `json:"lease"`    // until the fence point of the lease that it holds for LeaseTerm; 0: none
	LeaseTerm  Term           `json:"lease_term"`
	Promised   Term           `json:"promised"` // the term of its durable promise
	Postgres   PostgresStatus `json:"postgres"`
	Position   Position       `json:"position"` // last known; a promise's position is the one that counts
	SeenMax    Timeline       `json:"seen_max"` // highest number among its history files
	Guard      GuardStatus    `json:"guard"`
	CanPromote string         `json:"can_promote"`          // empty: yes; else why not
	DiskFault  string         `json:"disk_fault,omitempty"` // why it cannot write (B2); empty: it can
	Disks      []DiskStatus   `json:"disks,omitempty"`      // each as its last probe has found it
	// PromoteAfter is how long it is no candidate still, because its promotion failed; 0: it is one.
	PromoteAfter time.Duration `json:"promote_after,omitempty"`
	Stopping     bool          `json:"stopping,omitempty"`  // its agent is on its way out
	WantsOut     Incarnation   `json:"wants_out,omitempty"` // its data is about to lose WAL, or is gone: take that life out of the rules (V5, S8)
	Phase        string        `json:"phase"`               // what it is doing, in words
}
