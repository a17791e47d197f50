package api

import (
	"fmt"
	"strings"

	"pgquorum/cluster"
)

// The roles of /cluster.
const (
	roleLeader        = "leader"
	roleSyncStandby   = "sync_standby"
	roleQuorumStandby = "quorum_standby"
	roleReplica       = "replica"
)

// standbyKind gives the role of a node that is not the leader, by the rule that was recorded last. In mode quorum any
// k of the list have an acknowledged commit, so that a member that does not stream may lack it; in mode on the list
// has exactly k names, and each of them has everything, streaming or not (S7).
func standbyKind(v *cluster.View, m cluster.Member, streaming bool) string {
	rule, ok := v.Current()
	if !ok || rule.K == 0 || !rule.Has(m) {
		return roleReplica
	}
	switch {
	case rule.Mode == cluster.SyncOn:
		return roleSyncStandby
	case rule.Mode == cluster.SyncQuorum && streaming:
		return roleQuorumStandby
	}
	return roleReplica
}

func (p *probe) kind() string {
	pg := &p.snap.Local.Postgres
	return standbyKind(p.snap.View, cluster.Member{Node: p.snap.Self, Incarnation: pg.Incarnation}, pg.Streaming)
}

func (p *probe) node() cluster.Node { return p.snap.View.Nodes[p.snap.Self] }

// replicationState gives Patroni's word for how a standby gets its WAL; empty when it gets none.
func replicationState(pg *cluster.PostgresStatus) string {
	if pg.State == cluster.PostgresRunning && pg.Role == cluster.RoleStandby && pg.Streaming {
		return "streaming"
	}
	return ""
}

// primaryPosition gives the holder's last known end of WAL and when this node learnt it: its newest status, else what
// the FSM records of it in this term (at is then zero). Zero when nothing is known.
func primaryPosition(s *cluster.Snapshot) (lsn cluster.LSN, at cluster.Instant) {
	key := s.View.Key
	pg, at := s.Peers[key.Holder].Status.Postgres, s.Peers[key.Holder].At
	if key.Holder == s.Self {
		pg, at = s.Local.Postgres, s.LocalAt
	}
	if pg.Role == cluster.RolePrimary && pg.Current != 0 {
		return pg.Current, at
	}
	if s.View.LastLSN.Term == key.Term {
		return s.View.LastLSN.Position.LSN, 0
	}
	return 0, 0
}

// position is the least that the primary's position can be: what is known of it, and what it has sent here.
func (p *probe) position() cluster.LSN {
	lsn, _ := primaryPosition(p.snap)
	return max(lsn, p.snap.Local.Postgres.Received)
}

// lagging says whether have is known to be more than limit bytes behind; what is not known does not lag, as in Patroni.
func (p *probe) lagging(have cluster.LSN, limit uint64) bool {
	return have.Behind(p.position()) > limit
}

// freshEnough judges max_age and min_lsn. Unlike the lag they promise something to a reader, so that what is not known
// does not satisfy them.
func (p *probe) freshEnough() bool {
	switch {
	case p.lim.never:
		return false
	case p.lim.minLSN > p.snap.Local.Postgres.Replayed:
		return false
	case p.lim.maxAge == 0:
		return true
	}
	return p.youngerThanLimit()
}

// youngerThanLimit: the data here is as old as the last replayed commit, or, when everything that the primary had was
// replayed, as that look at the primary. So an idle primary does not make its standbys look old.
func (p *probe) youngerThanLimit() bool {
	pg := &p.snap.Local.Postgres
	if pg.ReplayTime != "" && pg.ReplayDelay+p.now.Sub(p.snap.LocalAt) <= p.lim.maxAge {
		return true
	}
	lsn, at := primaryPosition(p.snap)
	return lsn != 0 && !at.IsZero() && pg.Replayed >= lsn && p.now.Sub(at) <= p.lim.maxAge
}

// flatTags gives a node's tags as Patroni shows them: one flat object, defaults left out.
func flatTags(t cluster.Tags) map[string]any {
	tags := make(map[string]any)
	for k, v := range t.Custom {
		tags[k] = v
	}
	for name, set := range map[string]bool{"nofailover": t.NoFailover, "noloadbalance": t.NoLoadBalance, "nosync": t.NoSync} {
		if set {
			tags[name] = true
		}
	}
	if t.FailoverPriority > 1 {
		tags["failover_priority"] = t.FailoverPriority
	}
	if t.Location != "" {
		tags["location"] = t.Location
	}
	if len(tags) == 0 {
		return nil
	}
	return tags
}

func (p *probe) tagsMatch() bool {
	if len(p.lim.tags) == 0 {
		return true
	}
	have := flatTags(p.node().Tags)
	for name, want := range p.lim.tags {
		value, ok := have[name]
		text, isText := value.(string)
		if !isText {
			text = strings.ToLower(fmt.Sprint(value))
		}
		if !ok || text != want {
			return false
		}
	}
	return true
}
