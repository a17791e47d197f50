package cluster

import "strconv"

// NodeID is a node's name: Raft server id, member name in the API, and (folded) its slot name.
type NodeID string

// UID is a node's random identity, made once in raft.data_dir: it tells two nodes apart that were given one name.
type UID string

// Incarnation is the random id of one life of a data directory, from initdb or clone on (V5).
type Incarnation string

// Term is the voting term: it grows by one at each acquisition of the leader key, also by the same node.
type Term uint64

// Timeline is PostgreSQL's timeline number.
type Timeline uint32

// Member names one life of a node's data: sync rules count members, so that a node that was cloned anew does not
// inherit what its former data had confirmed.
type Member struct {
	Node        NodeID      `json:"node"`
	Incarnation Incarnation `json:"incarnation"`
}

// Life names a member for people.
func (m Member) Life() string { return string(m.Node) + "_" + string(m.Incarnation) }

// AppName is the member's application_name while it streams from the primary of a timeline, used in primary_conninfo and
// synchronous_standby_names only (S6). A receiver that was told to follow an earlier timeline bears another name and confirms
// nothing on this one: PostgreSQL counts what a receiver says that it has flushed, also of WAL that the primary never had
// (ADR 0036).
func (m Member) AppName(t Timeline) string {
	return m.Life() + "_" + strconv.FormatUint(uint64(t), 10)
}

// Tags are what an operator says of a node in its file.
type Tags struct {
	NoFailover       bool   `json:"nofailover,omitempty"`
	FailoverPriority int    `json:"failover_priority,omitempty"` // higher is preferred; 0 with the key given means nofailover, as in Patroni: config folds that into NoFailover and gives 1 by default
	NoLoadBalance    bool   `json:"noloadbalance,omitempty"`
	NoSync           bool   `json:"nosync,omitempty"`
	Location         string `json:"location,omitempty"`
	// Custom holds the operator's other tags, shown as they are and matched by tag_K=V in health checks.
	Custom map[string]string `json:"custom,omitempty"`
}

// Node is the registry's entry for a node. Each node registers itself; what others rely on stands here (G2).
type Node struct {
	Name         NodeID      `json:"name"`
	UID          UID         `json:"uid"`
	Incarnation  Incarnation `json:"incarnation,omitempty"` // empty: it has no usable data directory
	RaftAddr     string      `json:"raft_addr"`
	APIURL       string      `json:"api_url"`       // such as http://10.0.0.1:8008/patroni
	PostgresAddr string      `json:"postgres_addr"` // host:port that clients and standbys use
	Tags         Tags        `json:"tags"`
	Version      string      `json:"version"`
}

// Member gives the node's present life; ok is false when it has no usable data.
func (n Node) Member() (m Member, ok bool) {
	return Member{Node: n.Name, Incarnation: n.Incarnation}, n.Incarnation != ""
}
