package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// Status is the answer of GET /patroni, with Patroni's field names; ours are under pgquorum. What is not known, or not
// so, is left out, as Patroni does.
type Status struct {
	State                    string         `json:"state"`
	PostmasterStartTime      string         `json:"postmaster_start_time,omitempty"`
	Role                     string         `json:"role"`
	ServerVersion            int            `json:"server_version,omitempty"`
	Xlog                     *Xlog          `json:"xlog,omitempty"`
	SyncStandby              bool           `json:"sync_standby,omitempty"`
	QuorumStandby            bool           `json:"quorum_standby,omitempty"`
	Timeline                 uint32         `json:"timeline,omitempty"`
	ReplicationState         string         `json:"replication_state,omitempty"`
	Replication              []Replica      `json:"replication,omitempty"`
	Pause                    bool           `json:"pause,omitempty"`
	ClusterUnlocked          bool           `json:"cluster_unlocked,omitempty"`
	DCSLastSeen              int64          `json:"dcs_last_seen"` // epoch seconds at which Raft's leader was last heard; 0: never
	Tags                     map[string]any `json:"tags,omitempty"`
	DatabaseSystemIdentifier string         `json:"database_system_identifier,omitempty"`
	PendingRestart           bool           `json:"pending_restart,omitempty"`
	WatchdogFailed           bool           `json:"watchdog_failed,omitempty"` // required, and cannot be used
	Patroni                  Identity       `json:"patroni"`
	PGQuorum                 Own            `json:"pgquorum"`
}

// Xlog holds WAL positions in bytes: location on a primary, the others on a standby.
type Xlog struct {
	Location          *uint64 `json:"location,omitempty"`
	ReceivedLocation  *uint64 `json:"received_location,omitempty"`
	ReplayedLocation  *uint64 `json:"replayed_location,omitempty"`
	ReplayedTimestamp *string `json:"replayed_timestamp,omitempty"`
	Paused            *bool   `json:"paused,omitempty"`
}

// Replica is one standby that streams from this node.
type Replica struct {
	ApplicationName string `json:"application_name"`
	ClientAddr      string `json:"client_addr"`
	State           string `json:"state"`
	SyncState       string `json:"sync_state"`
}

// Identity says what answers.
type Identity struct {
	Version string `json:"version"` // of Patroni's API
	Scope   string `json:"scope"`
	Name    string `json:"name"`
}

// Own is what pgquorum has beyond Patroni.
type Own struct {
	Version string      `json:"version"`
	Cluster string      `json:"cluster_id,omitempty"` // what tells it from every other of its name; a recovery makes a new one
	Term    uint64      `json:"term"`
	LeaseMS int64       `json:"lease_ms"` // until the fence point of this node's lease; 0: none
	Raft    RaftOwn     `json:"raft"`
	Guard   GuardOwn    `json:"guard"`
	Sync    SyncOwn     `json:"sync"`
	Data    string      `json:"data"`
	Detail  string      `json:"data_detail,omitempty"`
	Phase   string      `json:"phase"`
	Phases  []PhaseTime `json:"failover,omitempty"` // the parts of the last take-over by this node
	Disks   []DiskOwn   `json:"disks,omitempty"`
}

// RaftOwn is this node's Raft.
type RaftOwn struct {
	State         string `json:"state"`
	Leader        string `json:"leader"`
	Term          uint64 `json:"term"`
	CommitIndex   uint64 `json:"commit_index"`
	LastContactMS int64  `json:"last_contact_ms"`
}

// GuardOwn is this node's guard.
type GuardOwn struct {
	Alive       bool   `json:"alive"`
	Term        uint64 `json:"term"`
	NoPrimary   uint64 `json:"no_primary"`
	Frozen      uint64 `json:"frozen"`
	Containment string `json:"containment"`

	Watchdog *WatchdogOwn `json:"watchdog,omitempty"` // left out where watchdog.mode is off
}

// WatchdogOwn is this node's watchdog.
type WatchdogOwn struct {
	Mode     string `json:"mode"`
	Active   bool   `json:"active"`
	TimeoutS int64  `json:"timeout_s"` // 0 while it is not active
	Endless  bool   `json:"endless,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

// SyncOwn is the sync rule that was recorded last, and the k that the cluster aims at.
type SyncOwn struct {
	Mode  string           `json:"mode"`
	Set   []cluster.NodeID `json:"set"`
	K     int              `json:"k"`
	KFull int              `json:"k_full"`
	Rules int              `json:"rules"` // recorded at the moment; more than 1 while a change is under way
}

// DiskOwn is one of this node's disks, a device, as its last probe has found it.
type DiskOwn struct {
	Uses  []cluster.DiskUse `json:"uses"`
	Dir   string            `json:"dir"`
	Free  uint64            `json:"free_bytes"`
	Alarm string            `json:"alarm,omitempty"`
	Why   string            `json:"why,omitempty"`
}

// PhaseTime is one part of a take-over.
type PhaseTime struct {
	Phase string `json:"phase"`
	MS    int64  `json:"ms"`
}

// statusMaxAge bounds the age of a cached status: lease_ms and dcs_last_seen move without a new snapshot.
const statusMaxAge = 50 * time.Millisecond

// cachedStatus is the status JSON of one snapshot and lease term. Codes are never taken from it.
type cachedStatus struct {
	snap *cluster.Snapshot
	term cluster.Term
	at   cluster.Instant
	body []byte
}

// statusJSON gives the status, at most 50 ms old. The result must not be changed.
func (s *Server) statusJSON(p probe) []byte {
	old := s.status.Load()
	if old != nil && old.snap == p.snap && old.term == p.lease.Term && p.now.Sub(old.at) < statusMaxAge && p.now.Sub(old.at) >= 0 {
		return old.body
	}
	body, err := json.Marshal(s.statusOf(p))
	if err != nil {
		// A struct of plain values always marshals: anything else is a defect, and recover logs it.
		panic(err)
	}
	s.status.Store(&cachedStatus{snap: p.snap, term: p.lease.Term, at: p.now, body: body})
	return body
}

func (s *Server) getStatus(c *gin.Context) {
	c.Data(http.StatusOK, "application/json", s.statusJSON(s.probe(c.Request)))
}

func (s *Server) statusOf(p probe) Status {
	snap, pg := p.snap, &p.snap.Local.Postgres
	st := Status{
		State:                    stateWord(pg.State),
		Role:                     roleWord(pg),
		Pause:                    snap.View.Pause != nil,
		ClusterUnlocked:          snap.View.Key.Holder == "" || snap.View.Key.Released,
		DCSLastSeen:              s.lastSeen(p),
		Tags:                     flatTags(p.node().Tags),
		DatabaseSystemIdentifier: pg.SystemID,
		PendingRestart:           pg.PendingRestart,
		WatchdogFailed:           snap.Local.Guard.Watchdog.Missing() != "",
		Patroni:                  Identity{Version: PatroniVersion, Scope: s.opt.Scope, Name: s.opt.Name},
		PGQuorum:                 s.own(p),
	}
	if st.DatabaseSystemIdentifier == "" {
		st.DatabaseSystemIdentifier = snap.View.SystemID
	}
	if pg.State != cluster.PostgresRunning {
		return st
	}
	st.PostmasterStartTime = patroniTime(pg.StartTime)
	st.ServerVersion = pg.Version
	st.Timeline = uint32(pg.Timeline)
	st.ReplicationState = replicationState(pg)
	st.Xlog = xlogOf(pg)
	for _, w := range pg.Replication {
		st.Replication = append(st.Replication, Replica{ApplicationName: w.AppName, ClientAddr: w.Addr, State: w.State, SyncState: w.Sync})
	}
	if pg.Role == cluster.RoleStandby {
		kind := p.kind()
		st.SyncStandby, st.QuorumStandby = kind == roleSyncStandby, kind == roleQuorumStandby
	}
	return st
}

func xlogOf(pg *cluster.PostgresStatus) *Xlog {
	if pg.Role == cluster.RolePrimary {
		location := uint64(pg.Current)
		return &Xlog{Location: &location}
	}
	received, replayed, paused := uint64(pg.Received), uint64(pg.Replayed), pg.ReplayPaused
	if received == 0 {
		received = replayed // as Patroni does: no receiver in this run
	}
	x := &Xlog{ReceivedLocation: &received, ReplayedLocation: &replayed, Paused: &paused}
	if t := patroniTime(pg.ReplayTime); t != "" {
		x.ReplayedTimestamp = &t
	}
	return x
}

func (s *Server) own(p probe) Own {
	l, v := p.snap.Local, p.snap.View
	o := Own{
		Version: s.opt.Version,
		Cluster: v.ClusterID,
		Term:    uint64(v.Key.Term),
		LeaseMS: p.leaseRemaining().Milliseconds(),
		Raft: RaftOwn{State: string(l.Raft.State), Leader: string(l.Raft.Leader), Term: l.Raft.Term,
			CommitIndex: l.Raft.Commit, LastContactMS: l.Raft.LastContact.Milliseconds()},
		Guard: GuardOwn{Alive: l.Guard.Alive, Term: uint64(l.Guard.Term), NoPrimary: uint64(l.Guard.NoPrimary), Frozen: uint64(l.Guard.Frozen), Containment: l.Guard.Containment,
			Watchdog: watchdogOwn(l.Guard.Watchdog)},
		Sync: SyncOwn{Mode: string(v.Config.SynchronousMode), Set: []cluster.NodeID{}, KFull: p.snap.KFull, Rules: len(v.Rules)},
		Data: string(l.Postgres.Data), Detail: l.Postgres.DataDetail,
		Phase: p.snap.Phase,
	}
	if rule, ok := v.Current(); ok {
		o.Sync.Mode, o.Sync.K = string(rule.Mode), rule.K
		for _, m := range rule.Standbys {
			o.Sync.Set = append(o.Sync.Set, m.Node)
		}
	}
	for _, phase := range sortedKeys(p.snap.PhaseTime) {
		o.Phases = append(o.Phases, PhaseTime{Phase: phase, MS: p.snap.PhaseTime[phase].Milliseconds()})
	}
	for _, d := range l.Disks {
		o.Disks = append(o.Disks, DiskOwn{Uses: d.Uses, Dir: d.Dir, Free: d.Free, Alarm: string(d.Alarm), Why: d.Why})
	}
	return o
}

func watchdogOwn(w cluster.WatchdogStatus) *WatchdogOwn {
	if w.Mode == "" || w.Mode == cluster.WatchdogOff && !w.Active {
		return nil
	}
	return &WatchdogOwn{Mode: string(w.Mode), Active: w.Active, TimeoutS: int64(w.Timeout.Seconds()), Endless: w.Endless, Problem: w.Problem}
}

// leaseRemaining is the time until the fence point of this node's lease of the key's term; 0 when it has none.
func (p *probe) leaseRemaining() time.Duration {
	if !p.snap.HoldsKey(p.lease, p.now) {
		return 0
	}
	return p.lease.FencePoint(p.snap.View.Key.Lease).Sub(p.now)
}

// lastSeen is the wall-clock second at which this node last heard Raft's leader.
func (s *Server) lastSeen(p probe) int64 {
	r := p.snap.Local.Raft
	if r.Leader == "" && r.LastContact == 0 {
		return 0
	}
	return s.wall().Add(-r.LastContact - p.now.Sub(p.snap.LocalAt)).Unix()
}
