package config

import (
	"cmp"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// Lease gives the numbers of the lease (L7): from the heartbeat timeout, or with raft.lease_ttl where that is given.
func (c *Config) Lease() cluster.LeaseParams {
	lease := cluster.DefaultLease(c.Raft.HeartbeatTimeout)
	if ttl := c.Raft.LeaseTTL; ttl != 0 {
		lease.TTL, lease.Fence = ttl, min(cluster.MaxFence, ttl/4)
	}
	return lease
}

// DiskLimits gives the thresholds of the probes of this node's disks (B2).
func (c *Config) DiskLimits() cluster.DiskLimits {
	d := c.Disk
	return cluster.DiskLimits{Every: d.ProbeInterval, Deadline: d.ProbeDeadline,
		Warn: uint64(d.WarnFree), MinRaft: uint64(d.MinFreeRaft), MinWAL: uint64(d.MinFreeWAL), MinData: uint64(d.MinFreeData)}
}

// SoftFence gives how long a primary whose lease ran out stays frozen (U6): ten heartbeat timeouts, or
// raft.soft_fence_grace; 0: it is never frozen.
func (c *Config) SoftFence() time.Duration {
	if !c.Raft.SoftFence {
		return 0
	}
	return cmp.Or(c.Raft.SoftFenceGrace, 10*c.Raft.HeartbeatTimeout)
}

// Timings gives Raft's durations, which follow from the heartbeat timeout alone (L7).
func (c *Config) Timings() cluster.Timings { return cluster.DefaultTimings(c.Raft.HeartbeatTimeout) }

// Dynamic gives the first dynamic config, with its defaults.
func (c *Config) Dynamic() cluster.Dynamic {
	d := c.Bootstrap.DCS
	return cluster.Dynamic{
		SynchronousMode:       d.SynchronousMode,
		SynchronousNodeCount:  d.SynchronousNodeCount,
		SynchronousModeStrict: d.SynchronousModeStrict,
		MaximumLagOnFailover:  uint64(d.MaximumLagOnFailover),
		PrimaryStartTimeout:   d.PrimaryStartTimeout,
		PrimaryStopTimeout:    d.PrimaryStopTimeout,
		HeartbeatTimeout:      c.Raft.HeartbeatTimeout,
		Lease:                 c.Lease(),
		Parameters:            d.PostgreSQL.Parameters,
		PgHBA:                 d.PostgreSQL.PgHBA,
	}
}

// APIURL is the base URL of this node's REST API, such as https://10.0.0.1:8008.
func (c *Config) APIURL() string {
	scheme := "http"
	if c.RestAPI.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + c.RestAPI.ConnectAddress
}

// ListenHostPort gives PostgreSQL's listen_addresses and port.
func (p PostgreSQL) ListenHostPort() (hosts string, port int, err error) {
	return splitAddress(p.Listen)
}

// SocketDir is where PostgreSQL's Unix socket stands: the first directory of the node's parameter
// unix_socket_directories, or raft.data_dir/socket, so that several nodes on one host do not meet. An absolute path, as
// check sees to.
func (c *Config) SocketDir() string {
	first, _, _ := strings.Cut(c.PostgreSQL.Parameters[socketParameter], ",")
	return cmp.Or(strings.Trim(strings.TrimSpace(first), `"`), filepath.Join(c.Raft.DataDir, "socket"))
}

const socketParameter = "unix_socket_directories"

// splitAddress reads host:port. The host may be empty, *, a list, or an IPv6 address in brackets.
func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, errAddress(address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errAddress(address)
	}
	return host, int(n), nil
}
