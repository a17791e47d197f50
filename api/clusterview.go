package api

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// ClusterView is the answer of GET /cluster, with Patroni's field names.
type ClusterView struct {
	Members []Member `json:"members"` // sorted by name
	Scope   string   `json:"scope"`
	Pause   bool     `json:"pause,omitempty"`
}

// Member is one node as the answering node sees it.
type Member struct {
	Name           string         `json:"name"`
	Role           string         `json:"role"`  // leader | sync_standby | quorum_standby | replica
	State          string         `json:"state"` // "streaming" on a standby that streams; "unknown" when the node was not heard of late
	APIURL         string         `json:"api_url,omitempty"`
	Host           string         `json:"host,omitempty"`
	Port           int            `json:"port,omitempty"`
	Timeline       uint32         `json:"timeline,omitempty"`
	PendingRestart bool           `json:"pending_restart,omitempty"`
	Tags           map[string]any `json:"tags,omitempty"`
	// Not on the leader:
	LSN        *Position `json:"lsn,omitempty"`
	Lag        *Bytes    `json:"lag,omitempty"`
	ReceiveLSN *Position `json:"receive_lsn,omitempty"`
	ReceiveLag *Bytes    `json:"receive_lag,omitempty"`
	ReplayLSN  *Position `json:"replay_lsn,omitempty"`
	ReplayLag  *Bytes    `json:"replay_lag,omitempty"`
	PGQuorum   MemberOwn `json:"pgquorum"`
}

// MemberOwn is what pgquorum says of a member beyond Patroni.
type MemberOwn struct {
	SeenMS int64  `json:"seen_ms"` // since its last answer; -1: never
	Error  string `json:"error,omitempty"`
	Phase  string `json:"phase,omitempty"`
	Raft   string `json:"raft,omitempty"`
	Disk   string `json:"disk_alarm,omitempty"` // the alarms of its disks, in words
}

// Position is an LSN; zero reads "unknown".
type Position cluster.LSN

// MarshalJSON writes "16/B374D848" or "unknown".
func (p Position) MarshalJSON() ([]byte, error) {
	if p == 0 {
		return []byte(`"unknown"`), nil
	}
	return json.Marshal(cluster.LSN(p).String())
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Position) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*p = 0
	if text == "unknown" {
		return nil
	}
	lsn, err := cluster.ParseLSN(text)
	*p = Position(lsn)
	return err
}

// Bytes is a lag; negative reads "unknown".
type Bytes int64

// MarshalJSON writes a number or "unknown".
func (b Bytes) MarshalJSON() ([]byte, error) {
	if b < 0 {
		return []byte(`"unknown"`), nil
	}
	return strconv.AppendInt(nil, int64(b), 10), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	if string(text) == `"unknown"` {
		*b = -1
		return nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("lag %s: want a number of bytes or \"unknown\": %w", text, err)
	}
	*b = Bytes(n)
	return nil
}

// heardLimit is how old a peer's last answer may be and still describe it. It bears a few lost calls.
const heardLimit = 3 * time.Second

func (s *Server) getCluster(c *gin.Context) {
	c.JSON(http.StatusOK, s.clusterOf(s.probe(c.Request)))
}

func (s *Server) clusterOf(p probe) ClusterView {
	v := ClusterView{Members: []Member{}, Scope: s.opt.Scope, Pause: p.snap.View.Pause != nil}
	for _, name := range p.snap.View.Names() {
		v.Members = append(v.Members, p.member(p.snap.View.Nodes[name]))
	}
	return v
}

// heard gives what is known of a node and how long ago it said so; fresh is false when that is too long ago to count.
func (p *probe) heard(name cluster.NodeID) (peer cluster.PeerView, age time.Duration, fresh bool) {
	if name == p.snap.Self {
		return cluster.PeerView{Status: p.snap.Local, At: p.snap.LocalAt}, p.now.Sub(p.snap.LocalAt), true
	}
	peer = p.snap.Peers[name]
	age = p.now.Sub(peer.At)
	return peer, age, !peer.At.IsZero() && age <= heardLimit
}

// alarmText puts the alarms of a node's disks in one line.
func alarmText(disks []cluster.DiskStatus) string {
	var parts []string
	for _, d := range disks {
		if d.Alarm != cluster.DiskWell {
			parts = append(parts, string(d.Alarm)+": "+d.Why)
		}
	}
	return strings.Join(parts, "; ")
}

func (p *probe) member(n cluster.Node) Member {
	peer, age, fresh := p.heard(n.Name)
	pg := &peer.Status.Postgres
	m := Member{Name: string(n.Name), APIURL: n.APIURL, Tags: flatTags(n.Tags), State: "unknown",
		PGQuorum: MemberOwn{SeenMS: -1, Error: peer.Err}}
	m.Host, m.Port = splitAddr(n.PostgresAddr)
	m.Role = p.role(n, peer.Status, fresh)
	if !peer.At.IsZero() {
		m.PGQuorum.SeenMS = age.Milliseconds()
	}
	if fresh {
		m.State, m.Timeline, m.PendingRestart = stateWord(pg.State), uint32(pg.Timeline), pg.PendingRestart
		m.PGQuorum.Phase, m.PGQuorum.Raft = peer.Status.Phase, string(peer.Status.Raft.State)
		m.PGQuorum.Disk = alarmText(peer.Status.Disks)
		if state := replicationState(pg); state != "" && m.Role != roleLeader {
			m.State = state
		}
	}
	if m.Role != roleLeader {
		p.setLags(&m, pg, fresh)
	}
	return m
}

// role: the leader is whom the key names, unless it is known not to be: this node knows its own lease, and a peer that
// runs no primary and told of no lease is none. A holder that is not heard of stays the leader, in state unknown.
func (p *probe) role(n cluster.Node, st cluster.NodeStatus, fresh bool) string {
	key := p.snap.View.Key
	if key.Holder == n.Name && !key.Released {
		leads := !fresh || st.Postgres.Role == cluster.RolePrimary || (st.LeaseTerm == key.Term && st.Lease > 0)
		if n.Name == p.snap.Self {
			leads = holdsKey(p)
		}
		if leads {
			return roleLeader
		}
		return roleReplica
	}
	m := cluster.Member{Node: n.Name, Incarnation: n.Incarnation}
	if fresh {
		m.Incarnation = st.Postgres.Incarnation
	}
	return standbyKind(p.snap.View, m, fresh && replicationState(&st.Postgres) != "")
}

func (p *probe) setLags(m *Member, pg *cluster.PostgresStatus, fresh bool) {
	var received, replayed cluster.LSN
	if fresh {
		received, replayed = pg.Received, pg.Replayed
	}
	primary, _ := primaryPosition(p.snap)
	set := func(lsn cluster.LSN, at **Position, lag **Bytes) {
		position, bytes := Position(lsn), Bytes(-1)
		if lsn != 0 && primary != 0 {
			bytes = Bytes(lsn.Behind(primary))
		}
		*at, *lag = &position, &bytes
	}
	set(max(received, replayed), &m.LSN, &m.Lag)
	set(received, &m.ReceiveLSN, &m.ReceiveLag)
	set(replayed, &m.ReplayLSN, &m.ReplayLag)
}

func splitAddr(addr string) (host string, port int) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		return host, 0
	}
	return host, port
}
