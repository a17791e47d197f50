package integration

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// The passwords of the clusters under test.
const (
	apiUser     = "admin"
	apiPassword = "api-secret"
	password    = "postgres-secret"
)

// NodeFile is a node's file; the scenarios about bad input change it before the first start.
type NodeFile struct {
	Name      string
	Addr      string
	DataDir   string
	RaftDir   string
	BinDir    string
	Heartbeat time.Duration
	Snapshots int // raft.snapshot_threshold; 0: the default
	Members   []*Host
	Rewind    bool   // use_pg_rewind
	Extra     string // YAML appended at top level

	Parameters map[string]string
}

// Text is the file, in the shape of the reference.
func (f NodeFile) Text() string {
	var members []string
	for _, m := range f.Members {
		members = append(members, fmt.Sprintf("%s: %s:7400", m.Name, m.Addr))
	}
	var parameters strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.Parameters)) {
		fmt.Fprintf(&parameters, "    %s: %q\n", name, f.Parameters[name])
	}
	snapshots := ""
	if f.Snapshots > 0 {
		snapshots = fmt.Sprintf("  snapshot_threshold: %d\n", f.Snapshots)
	}
	return fmt.Sprintf(`scope: itest
name: %[1]s
raft:
  listen: %[2]s:7400
  data_dir: %[3]s
  members: {%[4]s}
  heartbeat_timeout: %[5]s
  insecure: true
%[15]srestapi:
  listen: %[2]s:8008
  connect_address: %[2]s:8008
  authentication: {username: %[8]s, password: %[9]s}
postgresql:
  listen: %[2]s:5432
  connect_address: %[2]s:5432
  data_dir: %[6]s
  bin_dir: %[7]s
  authentication:
    superuser: {username: postgres, password: %[10]s}
    replication: {username: replicator, password: %[10]s-replication}
    rewind: {username: rewinder, password: %[10]s-rewind}
  parameters:
    dynamic_shared_memory_type: mmap
    shared_buffers: 32MB
    max_connections: "60"
%[13]s  pg_hba:
    - host app app %[11]s trust
    - host all postgres %[11]s scram-sha-256
  use_pg_rewind: %[14]t
watchdog: {mode: off}
log: {level: debug, format: text}
%[12]s`, f.Name, f.Addr, f.RaftDir, strings.Join(members, ", "), f.Heartbeat, f.DataDir, f.BinDir,
		apiUser, apiPassword, password, subnet, f.Extra, parameters.String(), f.Rewind, snapshots)
}

// nodeFile is the host's file with everything as it should be.
func (c *Cluster) nodeFile(h *Host) NodeFile {
	return NodeFile{
		Name: h.Name, Addr: h.Addr, DataDir: h.Data(), RaftDir: h.Raft(), BinDir: c.lab.PostgresIn,
		Rewind: c.lab.hasRewind(), Heartbeat: c.opt.Heartbeat, Snapshots: c.opt.Snapshots, Members: c.Hosts[:c.opt.Nodes], Parameters: c.opt.Parameters,
	}
}

// Write puts the file on the host, readable for its agent only.
func (h *Host) Write(f NodeFile) error {
	if err := os.WriteFile(h.File(), []byte(f.Text()), 0o600); err != nil {
		return err
	}
	return os.Chown(h.File(), int(h.lab.UID), int(h.lab.GID))
}
