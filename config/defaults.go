package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// withConstants gives a Config with the defaults that depend on nothing.
func withConstants() *Config {
	c := &Config{}
	c.Raft.HeartbeatTimeout = time.Second
	c.Raft.Voter = true
	c.Raft.SoftFence = true
	c.Raft.SnapshotThreshold = 4096
	c.RestAPI.Listen = "127.0.0.1:8008"
	c.RestAPI.VerifyClient = "none"
	c.PostgreSQL.Listen = "127.0.0.1:5432"
	c.PostgreSQL.UsePgRewind = true
	c.PostgreSQL.Authentication.Superuser.Username = "postgres"
	c.PostgreSQL.Authentication.Replication.Username = "replicator"
	c.PostgreSQL.Authentication.Rewind.Username = "rewind"
	disk := cluster.DefaultDiskLimits()
	c.Disk = Disk{ProbeInterval: disk.Every, ProbeDeadline: disk.Deadline, WarnFree: Bytes(disk.Warn),
		MinFreeRaft: Bytes(disk.MinRaft), MinFreeWAL: Bytes(disk.MinWAL), MinFreeData: Bytes(disk.MinData)}
	c.Watchdog = Watchdog{Mode: string(cluster.WatchdogAutomatic), Device: "/dev/watchdog", SafetyMargin: time.Second}
	c.Tags.FailoverPriority = 1
	c.Log = Log{Level: "info", Format: "text"}
	c.Bootstrap.DCS = DCS{
		SynchronousMode:      cluster.SyncQuorum,
		SynchronousNodeCount: 1,
		MaximumLagOnFailover: 1 << 20,
		PrimaryStartTimeout:  300 * time.Second,
		PrimaryStopTimeout:   30 * time.Second,
	}
	return c
}

// setDefaults fills in the addresses that follow from others. What cannot be derived stays empty, for check to name.
func (c *Config) setDefaults() {
	if c.Raft.Advertise == "" {
		c.Raft.Advertise = concrete(c.Raft.Listen, "")
	}
	if c.Raft.Advertise == "" {
		c.Raft.Advertise = c.Raft.Members[c.Name]
	}
	if !c.places.given("watchdog.timeout") {
		c.Watchdog.Timeout = max(5*time.Second, c.Lease().TTL.Truncate(time.Second)+3*time.Second)
	}
	host, _, err := splitAddress(c.Raft.Advertise)
	if err != nil {
		host = ""
	}
	if c.RestAPI.ConnectAddress == "" {
		c.RestAPI.ConnectAddress = concrete(c.RestAPI.Listen, host)
	}
	if c.PostgreSQL.ConnectAddress == "" {
		c.PostgreSQL.ConnectAddress = concrete(c.PostgreSQL.Listen, host)
	}
}

// concrete gives an address at which one can connect to a listener on listen: its first host that is no wildcard, else
// instead; empty when there is neither.
func concrete(listen, instead string) string {
	hosts, port, err := splitAddress(listen)
	if err != nil {
		return ""
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if h = strings.TrimSpace(h); !isWildcard(h) {
			return net.JoinHostPort(h, strconv.Itoa(port))
		}
	}
	if instead == "" || isWildcard(instead) {
		return ""
	}
	return net.JoinHostPort(instead, strconv.Itoa(port))
}

func isWildcard(host string) bool {
	if host == "" || host == "*" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsUnspecified()
}

// isLoopback says whether only this machine can reach host. Of names, only localhost counts: others may resolve anew.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func errAddress(address string) error {
	return fmt.Errorf("want host:port such as 10.0.0.1:7400, have %q", address)
}
