package pgctl

import (
	"log/slog"
	"sync"

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
	UseRewind   bool
	Clock       cluster.Clock
	Log         *slog.Logger
}

// Postgres is the local PostgreSQL. Its methods may be called from several goroutines; those that change it
// (Start, Stop, Promote, Follow, Cut, Rewind, BaseBackup...) run one after another.
type Postgres struct {
	opt   Options
	guard *Guard

	change sync.Mutex // one change at a time

	mu    sync.Mutex  // guards what follows
	found cluster.LSN // end of valid WAL found on disk when this Postgres was started (V3); 0 if unknown
}

// New gives the local Postgres, run through guard.
func New(opt Options, guard *Guard) *Postgres { return &Postgres{opt: opt, guard: guard} }
