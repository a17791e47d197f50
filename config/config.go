package config

import (
	"time"

	"pgquorum/cluster"
)

// Config is the node's file. A field's tags are its description: yaml is the key, def the default as text (for the
// reference; the value comes from setDefaults where it is not a plain constant), desc the sentence of the reference.
type Config struct {
	Scope      string     `yaml:"scope" desc:"The cluster's name; the same on every node. Required."`
	Name       string     `yaml:"name" desc:"This node: its Raft server id, member name and (folded) slot name. Letters, digits, - _ and . only. Required."`
	Raft       Raft       `yaml:"raft" desc:"Consensus, and the channel between nodes."`
	RestAPI    RestAPI    `yaml:"restapi" desc:"The REST API: health checks for load balancers, status, actions."`
	PostgreSQL PostgreSQL `yaml:"postgresql" desc:"The local PostgreSQL."`
	Disk       Disk       `yaml:"disk" desc:"The probes of this node's disks, and how much must be free on them. A minimum of 0 is none."`
	Watchdog   Watchdog   `yaml:"watchdog" desc:"The watchdog device, which resets this machine when the guard stands still. The last resort: see docs/operating.md."`
	Tags       Tags       `yaml:"tags" desc:"What the cluster should know of this node. Any other key is a tag of your own: shown in the status, and matched by tag_KEY=VALUE in health checks."`
	Log        Log        `yaml:"log" desc:"The agent's log; it goes to standard error."`
	Bootstrap  Bootstrap  `yaml:"bootstrap" desc:"How a new cluster is made. Read once, by the node that makes it; later changes have no effect."`

	places places // where each value came from
}

// Raft is the section raft.
type Raft struct {
	Listen            string            `yaml:"listen" desc:"Address and port on which the nodes talk to one another. Required."`
	Advertise         string            `yaml:"advertise" def:"raft.listen; where that is a wildcard, this node's entry in raft.members" desc:"The address under which the other nodes reach this one. Must equal this node's entry in raft.members."`
	DataDir           string            `yaml:"data_dir" desc:"Directory of the Raft log, its snapshots and the guard's socket and marks. Absolute, and apart from postgresql.data_dir. Required."`
	Members           map[string]string `yaml:"members" desc:"The first members, name to address; the same on every one of them. An odd number: 3 or 5. Required."`
	Join              []string          `yaml:"join" desc:"For a node added to a running cluster later. Not in this version: refused."`
	Voter             bool              `yaml:"voter" def:"true" desc:"Whether this node votes. false is not in this version: refused."`
	HeartbeatTimeout  time.Duration     `yaml:"heartbeat_timeout" def:"1s" desc:"How long followers wait for the leader before they elect another; 100ms to 60s. A dead host is noticed after 1 to 3 times this. The first value only: later it is part of the dynamic config."`
	LeaseTTL          time.Duration     `yaml:"lease_ttl" def:"0.8 of raft.heartbeat_timeout" desc:"How long the primary's lease lasts. Above 0.64 and under 0.9 of raft.heartbeat_timeout. The first value only."`
	SoftFence         bool              `yaml:"soft_fence" def:"true" desc:"Whether a primary whose lease runs out is frozen first. If nobody else has taken over when the nodes reach each other again, it goes on as it was, in the same sessions; else it is ended. Without, it is ended at once."`
	SoftFenceGrace    time.Duration     `yaml:"soft_fence_grace" def:"10 of raft.heartbeat_timeout" desc:"How long a primary stays frozen at most; then it is ended, and starts as a read-only standby. Sessions wait meanwhile, those that only read too. Not under raft.heartbeat_timeout, at most 10m."`
	SnapshotThreshold int               `yaml:"snapshot_threshold" def:"4096" desc:"Raft's log is compacted when it has grown by this many entries since its last snapshot, which is looked at every 30 to 60s; as many entries are kept behind the newest, for a node that was away. 16 to 1000000."`
	Insecure          bool              `yaml:"insecure" def:"false" desc:"Allows Raft without TLS on an address that is not loopback. Whoever reaches that port then rules the cluster."`
	TLS               TLS               `yaml:"tls" desc:"Mutual TLS between the nodes."`
}

// TLS is a certificate, its key, and the authority that the other side's certificate must come from.
type TLS struct {
	CertFile string `yaml:"certfile" desc:"Certificate file, PEM."`
	KeyFile  string `yaml:"keyfile" desc:"Private key file, PEM."`
	CAFile   string `yaml:"cafile" desc:"Certificates of the authority that the other nodes' certificates come from, PEM."`
}

// Enabled says whether any part of TLS was configured.
func (t TLS) Enabled() bool { return t != TLS{} }

// RestAPI is the section restapi.
type RestAPI struct {
	Listen         string         `yaml:"listen" def:"127.0.0.1:8008" desc:"Address and port of the REST API."`
	ConnectAddress string         `yaml:"connect_address" def:"restapi.listen; where that is a wildcard, the host of raft.advertise" desc:"The address under which others reach the API."`
	Authentication Authentication `yaml:"authentication" desc:"Basic authentication for calls that change something."`
	CertFile       string         `yaml:"certfile" desc:"Certificate file, PEM. With it the API speaks TLS."`
	KeyFile        string         `yaml:"keyfile" desc:"Private key file, PEM."`
	CAFile         string         `yaml:"cafile" desc:"Certificates of the authority that clients' certificates come from, PEM."`
	VerifyClient   string         `yaml:"verify_client" def:"none" desc:"Client certificates: none, optional (checked where one is shown) or required. They do not replace restapi.authentication."`
	Allowlist      []string       `yaml:"allowlist" desc:"Networks from which calls that change something are accepted. Not in this version: refused."`
}

// Authentication is a user of the API.
type Authentication struct {
	Username     string `yaml:"username" desc:"User name."`
	Password     string `yaml:"password" secret:"true" desc:"Password."`
	PasswordFile string `yaml:"password_file" desc:"File that holds the password, instead of password."`
}

// PostgreSQL is the section postgresql.
type PostgreSQL struct {
	Listen         string            `yaml:"listen" def:"127.0.0.1:5432" desc:"Addresses (comma separated, * for all) and port on which PostgreSQL listens."`
	ConnectAddress string            `yaml:"connect_address" def:"the first address of postgresql.listen; where that is a wildcard, the host of raft.advertise" desc:"The address under which clients and the other nodes reach this PostgreSQL."`
	DataDir        string            `yaml:"data_dir" desc:"The data directory, PGDATA. Absolute. Required."`
	BinDir         string            `yaml:"bin_dir" def:"found: pg_config or postgres in PATH, else the newest under /usr/lib/postgresql/*/bin and /usr/pgsql-*/bin" desc:"Directory of PostgreSQL's programs."`
	Authentication PostgresUsers     `yaml:"authentication" desc:"The PostgreSQL users that the agent works as. Passwords for all of them (scram-sha-256) or for none."`
	Parameters     map[string]string `yaml:"parameters" desc:"PostgreSQL parameters of this node alone."`
	PgHBA          []string          `yaml:"pg_hba" desc:"Lines of pg_hba.conf for this node. They stand before the agent's own lines."`
	UsePgRewind    bool              `yaml:"use_pg_rewind" def:"true" desc:"Whether a former primary that diverged is rewound rather than cloned anew."`
}

// PostgresUsers are the users that the agent works as.
type PostgresUsers struct {
	Superuser   Credentials `yaml:"superuser" desc:"The superuser, for the agent's own connections."`
	Replication Credentials `yaml:"replication" desc:"The user of the standbys."`
	Rewind      Credentials `yaml:"rewind" desc:"The user of pg_rewind."`
}

// Credentials are a PostgreSQL user and its password.
type Credentials struct {
	Username     string `yaml:"username" def:"postgres, replicator, rewind" desc:"User name."`
	Password     string `yaml:"password" secret:"true" desc:"Password."`
	PasswordFile string `yaml:"password_file" desc:"File that holds the password, instead of password."`
}

// Disk is the section disk.
type Disk struct {
	ProbeInterval time.Duration `yaml:"probe_interval" def:"1s" desc:"How often each disk is written to; 100ms to 60s."`
	ProbeDeadline time.Duration `yaml:"probe_deadline" def:"2s" desc:"A write that takes longer counts as hung: a primary is then fenced, and another takes over. 500ms to 60s."`
	WarnFree      Bytes         `yaml:"warn_free" def:"1GB" desc:"With less free on any of the disks there is an alarm; nothing else follows. Not below the minimums."`
	MinFreeRaft   Bytes         `yaml:"min_free_raft" def:"16MB" desc:"Must be free where raft.data_dir is. With less, here or in the next two, the node is promoted only if nobody else will do, and a primary hands over to a standby that has room."`
	MinFreeWAL    Bytes         `yaml:"min_free_wal" def:"64MB" desc:"Must be free where pg_wal is."`
	MinFreeData   Bytes         `yaml:"min_free_data" def:"64MB" desc:"Must be free where the data directory is, and each tablespace; a tablespace moves no primary."`
}

// Watchdog is the section watchdog.
type Watchdog struct {
	Mode         string        `yaml:"mode" def:"automatic" desc:"off: never touched. automatic: used when it can be. required: no primary without it, and a take-over from a machine that is silent waits until its watchdog has fired."`
	Device       string        `yaml:"device" def:"/dev/watchdog" desc:"The device. The user that runs the agent must be able to write to it."`
	Timeout      time.Duration `yaml:"timeout" def:"5s, or raft.lease_ttl in whole seconds and 3s more where that is longer" desc:"How long after it was fed last the device resets the machine. Whole seconds, raft.lease_ttl and 1s more at least. In mode required a driver that gives more is refused."`
	SafetyMargin time.Duration `yaml:"safety_margin" def:"1s" desc:"In mode required: how much longer than timeout a take-over waits, for drivers that fire late."`
}

// Tags is the section tags; the keys that stand in no field are in Custom.
type Tags struct {
	NoFailover       bool              `yaml:"nofailover" def:"false" desc:"Never promote this node."`
	FailoverPriority int               `yaml:"failover_priority" def:"1" desc:"Among equal candidates the higher one is promoted. 0 means nofailover."`
	NoLoadBalance    bool              `yaml:"noloadbalance" def:"false" desc:"GET /replica is never 200 on this node."`
	NoSync           bool              `yaml:"nosync" def:"false" desc:"Never count this node among the synchronous standbys."`
	Location         string            `yaml:"location" desc:"Where the node stands, such as a data centre; the primary's own is preferred at a failover."`
	Custom           map[string]string `yaml:"-"`
}

// Log is the section log.
type Log struct {
	Level  string `yaml:"level" def:"info" desc:"debug, info, warning or error."`
	Format string `yaml:"format" def:"text" desc:"text or json."`
}

// Bootstrap is the section bootstrap.
type Bootstrap struct {
	DCS    DCS      `yaml:"dcs" desc:"The first dynamic config."`
	InitDB []string `yaml:"initdb" kind:"initdb" desc:"Options of initdb, such as data-checksums or encoding: UTF8."`
}

// DCS is the first dynamic config, in Patroni's shape.
type DCS struct {
	SynchronousMode       cluster.SyncMode `yaml:"synchronous_mode" def:"quorum" desc:"quorum: each commit is on a majority before it is acknowledged. on: on named standbys. off: asynchronous."`
	SynchronousNodeCount  int              `yaml:"synchronous_node_count" def:"1" desc:"Standbys that confirm each commit, at least; in mode quorum it can only raise the majority."`
	SynchronousModeStrict bool             `yaml:"synchronous_mode_strict" def:"false" desc:"Never go on with fewer confirmations, even if writes stop."`
	MaximumLagOnFailover  Bytes            `yaml:"maximum_lag_on_failover" def:"1MB" desc:"In mode off: how far a candidate may be behind the primary's last known position. Bytes, or a number with B, kB, MB, GB, TB."`
	PrimaryStartTimeout   time.Duration    `yaml:"primary_start_timeout" def:"300s" desc:"How long a crashed primary may take to recover in place before another is promoted."`
	PrimaryStopTimeout    time.Duration    `yaml:"primary_stop_timeout" def:"30s" desc:"How long a stop in good order may take before the fast one. 0: no limit."`
	PostgreSQL            DCSPostgreSQL    `yaml:"postgresql" desc:"PostgreSQL's settings on every node."`
}

// DCSPostgreSQL is the part of the dynamic config that goes to PostgreSQL.
type DCSPostgreSQL struct {
	Parameters map[string]string `yaml:"parameters" desc:"PostgreSQL parameters of every node."`
	PgHBA      []string          `yaml:"pg_hba" desc:"Lines of pg_hba.conf of every node."`
}

// Bytes is a number of bytes.
type Bytes uint64
