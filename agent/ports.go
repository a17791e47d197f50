package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"pgquorum/cluster"
)

// Consensus is Raft and the replicated state machine, as this package needs them.
type Consensus interface {
	View() *cluster.View
	Status() cluster.RaftStatus
	Configs() [][]cluster.NodeID
	Barrier(ctx context.Context) (raftTerm uint64, err error)
	BarrierTerm() uint64
	Apply(ctx context.Context, cmd cluster.Command) (any, error)
	Transfer(ctx context.Context, to cluster.NodeID) error
	Kick(ctx context.Context) error
	LeaseEnd(ttl time.Duration) (raftTerm uint64, end cluster.Instant, ok bool)
	Attest(ctx context.Context, holder cluster.NodeID) (cluster.Attest, error)
	// Heard says whether a node has answered Raft's calls of the present Raft term: it runs and can be reached.
	Heard(n cluster.NodeID) bool
	Campaign(ctx context.Context) error
	DialPeer(ctx context.Context, to cluster.NodeID) (net.Conn, error)
	PeerListener() net.Listener
	Refusals() map[cluster.NodeID]string
	// CloseTransport ends Raft's part of the channel for good, without a write; the peer channel stays (B2).
	CloseTransport() error
	Membership
}

// Membership is what a change of Raft's configuration asks of the agent (L6).
type Membership interface {
	// SetSettledTerm says in which Raft term the key is settled; 0: in none.
	SetSettledTerm(raftTerm uint64)
	// SetBeforeChange sets what is called before each change is proposed, when LeaseEnd counts over the new voters
	// already. Its error keeps the change from being proposed.
	SetBeforeChange(f func(context.Context) error)
	// Applicants are the nodes that ask to be taken in; the three below change the membership, as the settled leader.
	Applicants() []cluster.Applicant
	AddNonvoter(ctx context.Context, id cluster.NodeID, addr string) error
	AddVoter(ctx context.Context, id cluster.NodeID, addr string) error
	RemoveServer(ctx context.Context, id cluster.NodeID) error
}

// Guard is the postmaster's parent.
type Guard interface {
	Status(ctx context.Context) (cluster.GuardStatus, error)
	Lease(ctx context.Context, l cluster.Lease, p cluster.LeaseParams) error
	Fence(ctx context.Context, t cluster.Term) error
	// Thaw lets the Postgres that is frozen since the lease of from ran out go on, under the live lease of t, the next term (U6).
	Thaw(ctx context.Context, from, t cluster.Term) error
	Events() <-chan GuardEvent
	// Revive ends every process that a dead guard left behind (U5) and starts a new guard.
	Revive(ctx context.Context) error
}

// GuardEvent is what the guard says unasked.
type GuardEvent struct {
	Kind   GuardEventKind
	Detail string
	At     cluster.Instant
}

// GuardEventKind tells guard events apart.
type GuardEventKind string

// The guard's events.
const (
	GuardDied   GuardEventKind = "died"   // the postmaster ended, without an order; its backends are being ended
	GuardExited GuardEventKind = "exited" // and all of it is gone
	GuardFenced GuardEventKind = "fenced" // the lease ran out
	GuardFrozen GuardEventKind = "frozen" // the lease ran out, and the primary can go on under the next one (U6)
	GuardGone   GuardEventKind = "gone"   // the guard itself is dead
)

// Source is a node to stream or copy from. CatchUp: named by the taker's catch-up order of the promised term (V1). Urgent:
// commits wait for it.
type Source struct {
	Node    cluster.NodeID
	Term    cluster.Term
	Addr    string // host:port
	CatchUp bool
	Urgent  bool

	Timeline cluster.Timeline // that it serves as the primary; 0: not known, and then nothing is confirmed to it
}

// SyncList is what synchronous_standby_names should say.
type SyncList struct {
	Mode     cluster.SyncMode
	K        int
	Members  []cluster.Member
	Timeline cluster.Timeline // of the primary that waits for them
}

// Settings are what the agent decides of Postgres's configuration.
type Settings struct {
	Dynamic cluster.Dynamic
	Sync    SyncList
	Me      cluster.Member
}

// StartSpec says how to start Postgres. A standby without a source runs read-only.
type StartSpec struct {
	Primary  bool
	Term     cluster.Term
	Timeline cluster.Timeline // that a primary must go on with
	Source   *Source
	Settings Settings
}

// Postgres is the local PostgreSQL.
type Postgres interface {
	Inspector
	Runner
	Follower
	Primary
	Repairer
}

// Inspector looks at Postgres and its directory.
type Inspector interface {
	Status(ctx context.Context) (cluster.PostgresStatus, error)
	Position(ctx context.Context) (cluster.Position, error)
	SeenMax() (cluster.Timeline, error)
	ShutdownCheckpoint(ctx context.Context) (end cluster.LSN, clean bool, err error)
	LocalForks(ctx context.Context) ([]cluster.Fork, error)
}

// Runner makes, starts and stops Postgres.
type Runner interface {
	InitDB(ctx context.Context, m cluster.Member) (systemID string, err error)
	Claim(ctx context.Context, m cluster.Member) error
	Start(ctx context.Context, s StartSpec) error
	Stop(ctx context.Context, deadline time.Duration) error // fast until the deadline, then immediate
	Promote(ctx context.Context, t cluster.Term, allotted cluster.Timeline) error
	Configure(ctx context.Context, s Settings) error
}

// Follower is a standby's side of replication.
type Follower interface {
	Follow(ctx context.Context, s *Source, me cluster.Member) error
	EaseSource(ctx context.Context) error // once it streams: what an urgent source set is taken back
	Cut(ctx context.Context) error
	Promise(ctx context.Context, t cluster.Term, m cluster.Member) error
	Promised() cluster.Term
	EnsureSlots(ctx context.Context, nodes []cluster.NodeID) error
	AdvanceSlots(ctx context.Context, to map[cluster.NodeID]cluster.LSN) error
	// RemovedWAL gives the source's refusal when it has removed the WAL that a standby needs after from; empty: it has it.
	RemovedWAL(ctx context.Context, s Source, from cluster.Position) (refusal string, err error)
}

// Primary is a primary's side of replication.
type Primary interface {
	CreateUsers(ctx context.Context) error
	Checkpoint(ctx context.Context) error
	SetSyncNames(ctx context.Context, l SyncList) error
	ProveSyncNames(ctx context.Context, l SyncList) (cluster.LSN, error)
	Confirmed(ctx context.Context, t cluster.Timeline, lsn cluster.LSN, ms []cluster.Member) (confirmed []cluster.Member, duplicates []string, err error)
}

// Repairer brings a directory back to the cluster's history.
type Repairer interface {
	ExpectSystemID(id string)               // what a copy's source must have
	KeepsLife(i cluster.Incarnation) bool   // whether the promises of a life stand here (V5)
	CrashRecover(ctx context.Context) error // U3: of a directory that was not shut down cleanly
	BaseBackup(ctx context.Context, s Source, m cluster.Member, progress func(done, total int64)) error
	Rewind(ctx context.Context, s Source, fork cluster.Position, m cluster.Member, progress func(string)) error
}

// Disk is what this node must be able to write (B2).
type Disk interface {
	// Places gives what is to be probed, each device once: the one of raft.data_dir first, then those of PGDATA, pg_wal and
	// the tablespaces. It may take as long as the disks do.
	Places() ([]DiskPlace, error)
	// Probe writes through to the disk of a place, and gives the bytes that are free there. It may take as long as the
	// disk does. ErrNoPlace says nothing of the disk.
	Probe(p DiskPlace) (free uint64, err error)
}

// ErrNoPlace is a probe's error when its directory is not there, such as while a clone takes its place.
var ErrNoPlace = errors.New("the directory is not there")

// DiskPlace is a directory that stands for its device.
type DiskPlace struct {
	Dir  string
	Uses []cluster.DiskUse
}
