package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pgquorum/cluster"
)

// metric is one number read from a probe. The first group has the names, types and meanings of Patroni's /metrics.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(p *probe, st *Status) float64
}

var metrics = []metric{
	{"patroni_version", "Patroni semver without periods.", prometheus.GaugeValue, func(*probe, *Status) float64 { return paddedVersion(PatroniVersion) }},
	{"patroni_postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(runs(p)) }},
	{"patroni_postmaster_start_time", "Epoch seconds since Postgres started.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return epoch(st.PostmasterStartTime) }},
	{"patroni_primary", "Value is 1 if this node is the leader, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.Role == "primary") }},
	{"patroni_master", "Value is 1 if this node is the leader, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.Role == "primary") }},
	{"patroni_xlog_location", "Current location of the Postgres transaction log, 0 if this node is not the leader.", prometheus.CounterValue, func(_ *probe, st *Status) float64 { return xlog(st, func(x *Xlog) *uint64 { return x.Location }) }},
	{"patroni_standby_leader", "Value is 1 if this node is the standby_leader, 0 otherwise.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(leadsStandbyCluster(p)) }},
	{"patroni_replica", "Value is 1 if this node is a replica, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.Role == "replica") }},
	{"patroni_sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.SyncStandby) }},
	{"patroni_quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.QuorumStandby) }},
	{"patroni_xlog_received_location", "Current location of the received Postgres transaction log, 0 if this node is not a replica.", prometheus.CounterValue, func(_ *probe, st *Status) float64 {
		return xlog(st, func(x *Xlog) *uint64 { return x.ReceivedLocation })
	}},
	{"patroni_xlog_replayed_location", "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.", prometheus.CounterValue, func(_ *probe, st *Status) float64 {
		return xlog(st, func(x *Xlog) *uint64 { return x.ReplayedLocation })
	}},
	{"patroni_xlog_replayed_timestamp", "Current timestamp of the replayed Postgres transaction log, 0 if null.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return epoch(p.snap.Local.Postgres.ReplayTime) }},
	{"patroni_xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Postgres.ReplayPaused) }},
	{"patroni_postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.ReplicationState == "streaming") }},
	{"patroni_postgres_in_archive_recovery", "Value is 1 if Postgres is replicating from archive, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.ReplicationState == "in archive recovery") }},
	{"patroni_postgres_server_version", "Version of Postgres (if running), 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return float64(st.ServerVersion) }},
	{"patroni_cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.ClusterUnlocked) }},
	{"patroni_failsafe_mode_is_active", "Value is 1 if failsafe mode is active, 0 if inactive. Always 0: Raft needs no failsafe mode.", prometheus.GaugeValue, func(*probe, *Status) float64 { return 0 }},
	{"patroni_postgres_timeline", "Postgres timeline of this node (if running), 0 otherwise.", prometheus.CounterValue, func(_ *probe, st *Status) float64 { return float64(st.Timeline) }},
	{"patroni_dcs_last_seen", "Epoch timestamp when the Raft leader was last heard.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return float64(st.DCSLastSeen) }},
	{"patroni_pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.PendingRestart) }},
	{"patroni_is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return one(st.Pause) }},
	{"patroni_postgres_state", "Numeric representation of Postgres state: 5=running, 6=starting, 11=stopping, 12=stopped, -1=unknown.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return stateNumber(p.snap.Local.Postgres.State) }},

	{"pgquorum_lease_remaining_seconds", "Time until the fence point of this node's lease, 0 if it has none.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return p.leaseRemaining().Seconds() }},
	{"pgquorum_term", "The voting term.", prometheus.CounterValue, func(p *probe, _ *Status) float64 { return float64(p.snap.View.Key.Term) }},
	{"pgquorum_serves_primary", "Value is 1 if GET /primary is 200.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(servesPrimary(p)) }},
	{"pgquorum_two_primaries", "Value is 1 if a node other than the key's holder was seen to run a primary in this term.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.strayPrimary()) }},
	{"pgquorum_sync_k", "Standbys that confirm each commit before it is acknowledged.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return float64(st.PGQuorum.Sync.K) }},
	{"pgquorum_sync_k_full", "Standbys that should confirm each commit.", prometheus.GaugeValue, func(_ *probe, st *Status) float64 { return float64(st.PGQuorum.Sync.KFull) }},
	{"pgquorum_guard_alive", "Value is 1 if the guard answers.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Guard.Alive) }},
	{"pgquorum_watchdog_active", "Value is 1 if the watchdog is open and resets this machine when it is not fed.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Guard.Watchdog.Active) }},
	{"pgquorum_watchdog_timeout_seconds", "Timeout of the watchdog that is open, 0 if none is.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return p.snap.Local.Guard.Watchdog.Timeout.Seconds() }},
	{"pgquorum_watchdog_problem", "Value is 1 if a watchdog is asked for and cannot be used.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Guard.Watchdog.Problem != "") }},
	{"pgquorum_postgres_frozen", "Value is 1 while the guard has frozen Postgres, because the lease ran out.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Guard.Frozen != 0) }},
	{"pgquorum_disk_writable", "Value is 1 if the last probe could write to this node's disks.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.DiskFault == "") }},
	{"raft_is_leader", "Value is 1 if this node leads Raft.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return one(p.snap.Local.Raft.State == cluster.RaftLeader) }},
	{"raft_term", "The persisted Raft term.", prometheus.CounterValue, func(p *probe, _ *Status) float64 { return float64(p.snap.Local.Raft.Term) }},
	{"raft_commit_index", "The last committed index.", prometheus.CounterValue, func(p *probe, _ *Status) float64 { return float64(p.snap.Local.Raft.Commit) }},
	{"raft_applied_index", "The last applied index.", prometheus.CounterValue, func(p *probe, _ *Status) float64 { return float64(p.snap.Local.Raft.Applied) }},
	{"raft_last_contact_seconds", "Time since Raft's leader was heard, 0 on the leader.", prometheus.GaugeValue, func(p *probe, _ *Status) float64 { return p.snap.Local.Raft.LastContact.Seconds() }},
}

// collector answers every scrape from one probe, so that its numbers belong together.
type collector struct {
	s        *Server
	descs    []*prometheus.Desc
	failover *prometheus.Desc
	free     *prometheus.Desc
	alarm    *prometheus.Desc
}

func (s *Server) newMetrics(reg *prometheus.Registry) http.Handler {
	labels := prometheus.Labels{"scope": s.opt.Scope, "name": s.opt.Name}
	c := &collector{s: s, failover: prometheus.NewDesc("pgquorum_failover_seconds",
		"The parts of the last take-over by this node.", []string{"phase"}, labels),
		free:  prometheus.NewDesc("pgquorum_disk_free_bytes", "What this node may still write where raft.data_dir, the data directory, pg_wal or a tablespace is.", []string{"disk"}, labels),
		alarm: prometheus.NewDesc("pgquorum_disk_alarm", "Value is 1 if the disk has the alarm.", []string{"disk", "kind"}, labels)}
	for _, m := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, nil, labels))
	}
	reg.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: writeTimeout})
}

// Describe names the metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
	out <- c.failover
	out <- c.free
	out <- c.alarm
}

// Collect reads them from memory.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	src := c.s.opt.Source
	p := probe{snap: src.Snapshot(), lease: src.Lease(), lim: noLimits}
	p.now = src.Now()
	st := c.s.statusOf(p)
	for i, m := range metrics {
		out <- prometheus.MustNewConstMetric(c.descs[i], m.kind, m.value(&p, &st))
	}
	for phase, took := range p.snap.PhaseTime {
		out <- prometheus.MustNewConstMetric(c.failover, prometheus.GaugeValue, took.Seconds(), phase)
	}
	c.disks(out, p.snap.Local.Disks)
}

// disks shows each disk under the name of everything that stands on it, so that a name means the same on every node.
func (c *collector) disks(out chan<- prometheus.Metric, disks []cluster.DiskStatus) {
	shown := map[cluster.DiskUse]bool{}
	for _, d := range disks {
		for _, use := range d.Uses {
			if shown[use] { // such as a data directory that cannot be looked at
				continue
			}
			shown[use] = true
			out <- prometheus.MustNewConstMetric(c.free, prometheus.GaugeValue, float64(d.Free), string(use))
			for _, kind := range cluster.DiskAlarms {
				out <- prometheus.MustNewConstMetric(c.alarm, prometheus.GaugeValue, one(d.Alarm == kind), string(use), string(kind))
			}
		}
	}
}

// strayPrimary says whether a node that is not the holder runs a primary. What a node said before it knew of the
// present term does not count: a moment after a failover the old primary's last word is still "primary".
func (p *probe) strayPrimary() bool {
	key := p.snap.View.Key
	for _, name := range p.snap.View.Names() {
		peer, _, fresh := p.heard(name)
		pg := peer.Status.Postgres
		if fresh && name != key.Holder && peer.Status.KeyTerm == key.Term && pg.State == cluster.PostgresRunning && pg.Role == cluster.RolePrimary {
			return true
		}
	}
	return false
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func xlog(st *Status, field func(*Xlog) *uint64) float64 {
	if st.Xlog == nil || field(st.Xlog) == nil {
		return 0
	}
	return float64(*field(st.Xlog))
}

// paddedVersion turns 4.1.4 into 40104 (040104).
func paddedVersion(v string) float64 {
	n := 0
	for part := range strings.SplitSeq(v, ".") {
		digits, err := strconv.Atoi(part)
		if err != nil {
			panic("version " + v + ": want numbers and periods") // a constant of this package
		}
		n = n*100 + digits
	}
	return float64(n)
}
