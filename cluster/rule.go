package cluster

import "slices"

// SyncMode is the cluster's synchronous_mode.
type SyncMode string

// The modes: quorum (default) keeps every commit on a majority, on needs named standbys, off is asynchronous.
const (
	SyncQuorum SyncMode = "quorum"
	SyncOn     SyncMode = "on"
	SyncOff    SyncMode = "off"
)

// SyncRule says under which confirmations commits were acknowledged: under Primary in Term, every acknowledged commit
// was confirmed by at least K of Standbys. The FSM holds every rule under which a commit may have been acknowledged
// and that no later rule has made superfluous.
type SyncRule struct {
	ID       uint64   `json:"id"` // grows by one for each rule the FSM ever recorded
	Term     Term     `json:"term"`
	Primary  Member   `json:"primary"`
	Timeline Timeline `json:"timeline"` // the timeline that Primary serves under it
	Standbys []Member `json:"standbys"` // sorted by node
	K        int      `json:"k"`
	Mode     SyncMode `json:"mode"`
}

// Has says whether m is one of the rule's standbys.
func (r SyncRule) Has(m Member) bool { return slices.Contains(r.Standbys, m) }

// Same says whether two rules ask for the same confirmations under the same primary and term.
func (r SyncRule) Same(o SyncRule) bool {
	return r.Term == o.Term && r.Asks(o)
}

// Asks says whether two rules ask for the same confirmations under the same primary, whatever their terms.
func (r SyncRule) Asks(o SyncRule) bool {
	return r.Primary == o.Primary && r.K == o.K && r.Mode == o.Mode && slices.Equal(r.Standbys, o.Standbys)
}

// SortMembers puts members into the order in which rules and lists hold them.
func SortMembers(ms []Member) {
	slices.SortFunc(ms, func(a, b Member) int {
		switch {
		case a.Node < b.Node:
			return -1
		case a.Node > b.Node:
			return 1
		case a.Incarnation < b.Incarnation:
			return -1
		case a.Incarnation > b.Incarnation:
			return 1
		}
		return 0
	})
}

// Promise is a node's durable word that it has cut its WAL receiver and follows nobody older than Term (V1), with the
// position it had after the cut. It counts only from the incarnation that the FSM has for the node (V5).
type Promise struct {
	Term     Term     `json:"term"`
	Member   Member   `json:"member"`
	Position Position `json:"position"`
	Fenced   bool     `json:"fenced"` // its Postgres is not a running primary and its guard has refused every lease of a term below Term
}
