package pgctl

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"pgquorum/cluster"
)

// Credentials are a PostgreSQL user and its password; an empty password means that pg_hba asks for none.
type Credentials struct {
	Username string
	Password string
}

// Options say where the local Postgres is and how it is run. They come from the node's file.
type Options struct {
	Self        cluster.NodeID
	DataDir     string // PGDATA
	BinDir      string // where initdb, postgres, pg_ctl, ... are
	ListenHost  string // listen_addresses, comma separated
	Port        int
	SocketDir   string // unix_socket_directories; the agent's own connections use it
	GuardDir    string // raft.data_dir/guard: the guard's socket, marks, passfiles
	Superuser   Credentials
	Replication Credentials
	Rewind      Credentials
	Parameters  map[string]string // postgresql.parameters of the node's file
	PgHBA       []string          // postgresql.pg_hba of the node's file, before our own lines
	InitDB      []string          // bootstrap.initdb: extra options, such as --data-checksums
	// HealthDeadline bounds the status query; 0: 2 s.
	HealthDeadline time.Duration
	Clock          cluster.Clock
	Log            *slog.Logger
}

// Postgres is the local PostgreSQL. Its methods may be called from several goroutines; those that change it
// (Start, Stop, Promote, Follow, Cut, Rewind, BaseBackup...) run one after another.
type Postgres struct {
	opt   Options
	guard atomic.Pointer[Guard]

	change sync.Mutex // one change at a time

	sync  syncState  // what is known of the sync rule in force and of the standbys' replies (S3, S8)
	slots sync.Mutex // one EnsureSlots or AdvanceSlots at a time

	source sync.Mutex // held while primary_conninfo or the promise is written, so that neither overtakes the other (V1)

	kept   *keptConn
	stored storedWAL

	mu         sync.Mutex // guards what follows
	found      foundWAL   // end of valid WAL found on disk when this Postgres was started (V3)
	noTCP      bool       // how it was started
	systemID   string     // the cluster's, once it is known
	control    *ControlData
	controlKey controlKey

	controlSeen  controlKey // of the last look
	controlSince time.Time  // when it was seen first
	last         lastRunning
	promised     *promiseMark // as the file has it; nil: not read yet. Only this process writes it
}

// New gives the local Postgres, run through guard.
func New(opt Options, guard *Guard) *Postgres {
	p := &Postgres{opt: opt, kept: newKeptConn()}
	p.guard.Store(guard)
	return p
}

// UseGuard makes a new guard the one through which Postgres is started, after the former has died (U5).
func (p *Postgres) UseGuard(g *Guard) { p.guard.Store(g) }
