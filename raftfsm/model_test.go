package raftfsm

import (
	"reflect"
	"slices"
	"time"

	"pgquorum/cluster"
)

// model is the state machine written a second time, as plainly as possible and without looking at the first: it keeps
// every acquisition that ever was and walks through what it has. It says what is accepted, not why something is not.
type model struct {
	claim     cluster.NodeID
	clusterID string
	systemID  string
	config    cluster.Dynamic
	nodes     map[cluster.NodeID]cluster.Node
	taken     []acquisition // taken[i] began term i+1
	forkLSN   map[cluster.Timeline]cluster.LSN
	rules     []cluster.SyncRule
	ruleCount uint64 // ever recorded
	version   uint64
	lease     cluster.LeaseParams // of the present term
	released  bool
	handbacks int
	refusals  map[cluster.NodeID]cluster.Refusal
	lsn       cluster.LastLSN
	voters    []cluster.NodeID
}

type acquisition struct {
	cmd      cluster.AcquireLeader
	timeline cluster.Timeline
}

func newModel() *model {
	return &model{nodes: map[cluster.NodeID]cluster.Node{}, forkLSN: map[cluster.Timeline]cluster.LSN{},
		rules: []cluster.SyncRule{}, refusals: map[cluster.NodeID]cluster.Refusal{}}
}

// step applies a command and says whether it was accepted.
func (m *model) step(cmd cluster.Command) bool {
	switch c := cmd.(type) {
	case cluster.Claim:
		return m.stepClaim(c)
	case cluster.SetSystemID:
		ok := c.SystemID != "" && c.Node == m.claim && m.claim != "" && (m.systemID == "" || m.systemID == c.SystemID)
		if ok {
			m.systemID = c.SystemID
		}
		return ok
	case cluster.Register:
		return m.stepRegister(c.Node)
	case cluster.Readmit:
		old := m.nodes[c.Node]
		if c.Node != "" && c.UID != "" && old.UID == c.UID {
			return true
		}
		ok := c.Node != "" && c.UID != "" && old.UID == c.From && !slices.Contains(m.voters, c.Node) && (len(m.taken) == 0 || m.now().cmd.Node != c.Node || m.released)
		if ok {
			old.Name, old.UID, old.RaftAddr = c.Node, c.UID, c.RaftAddr
			m.nodes[c.Node] = old
		}
		return ok
	case cluster.AcquireLeader:
		return m.stepAcquire(c)
	case cluster.ReleaseLeader:
		ok := m.holds(c.Node, c.Term)
		m.released = m.released || ok
		return ok
	case cluster.AddRule:
		return m.stepAddRule(c)
	case cluster.DropRules:
		return m.stepDropRules(c)
	case cluster.RecordFork:
		return m.stepRecordFork(c)
	case cluster.RecordLSN:
		return m.stepRecordLSN(c)
	case cluster.CountHandback:
		ok := len(m.taken) > 0 && c.Term == m.term()
		if ok {
			m.handbacks++
		}
		return ok
	case cluster.Refuse:
		ok := c.Node != "" && c.Term == m.term()+1
		if ok {
			m.refusals[c.Node] = cluster.Refusal{Term: c.Term, Reason: c.Reason}
		}
		return ok
	case cluster.SetConfig:
		ok := mode(c.Config.SynchronousMode) && c.Config.SynchronousNodeCount >= 0 &&
			c.Config.Lease.Check(cluster.DefaultTimings(c.Config.HeartbeatTimeout)) == nil && sane(c.Config.Lease)
		if ok {
			m.config = c.Config
		}
		return ok
	case cluster.SetLease:
		ok := m.holds(c.Node, c.Term) && sane(c.Lease)
		if ok {
			m.lease = c.Lease
		}
		return ok
	case cluster.AddEvent:
		return true
	}
	return false
}

func (m *model) term() cluster.Term { return cluster.Term(len(m.taken)) }

func (m *model) now() acquisition { return m.taken[len(m.taken)-1] }

func (m *model) holds(n cluster.NodeID, t cluster.Term) bool {
	return len(m.taken) > 0 && m.now().cmd.Node == n && m.term() == t
}

func (m *model) stepClaim(c cluster.Claim) bool {
	if c.Node == "" || m.systemID != "" {
		return false
	}
	if m.claim == c.Node && c.From != "" { // who replaced the claim has it
		return true
	}
	if m.claim == c.Node && c.ClusterID == m.clusterID && reflect.DeepEqual(c.Config, m.config) {
		return true
	}
	if m.claim != c.From || c.From == "" && c.ClusterID == "" {
		return false
	}
	if m.claim == "" {
		m.clusterID, m.config = c.ClusterID, c.Config
	}
	m.claim = c.Node
	return true
}

func (m *model) stepRegister(n cluster.Node) bool {
	old, known := m.nodes[n.Name]
	if n.Name == "" || n.UID == "" || known && old.UID != n.UID {
		return false
	}
	if n.Incarnation == "" {
		n.Incarnation = old.Incarnation
	}
	if known && old.Incarnation != "" && old.Incarnation != n.Incarnation {
		data := cluster.Member{Node: old.Name, Incarnation: old.Incarnation}
		for _, r := range m.rules {
			newest := r.Term == m.rules[len(m.rules)-1].Term // rules stand in order of their terms
			if r.Primary == data && newest {
				return false
			}
		}
	}
	m.nodes[n.Name] = n
	return true
}

func (m *model) stepAcquire(c cluster.AcquireLeader) bool {
	want := cluster.SyncRule{Term: c.ExpectTerm + 1, Primary: c.Member, Standbys: sortedMembers(c.Standbys), K: c.K, Mode: c.Mode}
	if m.holds(c.Node, c.ExpectTerm+1) && !m.released {
		was := m.now().cmd
		for _, r := range m.rules {
			if r.Same(want) && was.Member == c.Member && was.InPlace == c.InPlace && (c.InPlace || was.Parent == c.Parent) && m.lease == c.Lease {
				return true
			}
		}
	}
	if c.ExpectTerm != m.term() || c.RulesVersion != m.version || !sane(c.Lease) || c.Member.Node != c.Node || !m.lives(c.Member) || !m.ruleFits(want) {
		return false
	}
	next := acquisition{cmd: c}
	switch {
	case c.InPlace && (len(m.taken) == 0 || m.now().cmd.Member != c.Member):
		return false
	case c.InPlace:
		next.timeline = m.now().timeline
	case c.Parent == 0 && (len(m.taken) > 0 || c.SeenMax > 1):
		return false
	case c.Parent == 0:
		next.timeline = 1
	default:
		next.timeline = m.unused(c.Parent, c.SeenMax)
	}
	m.taken, m.lease, m.released, m.handbacks = append(m.taken, next), c.Lease, false, 0
	m.refusals = map[cluster.NodeID]cluster.Refusal{}
	want.Timeline = next.timeline
	m.add(want)
	return true
}

// unused counts up to the second number above all: the first is what PostgreSQL takes by itself.
func (m *model) unused(parent, seen cluster.Timeline) cluster.Timeline {
	n := cluster.Timeline(1)
	for _, a := range m.taken {
		for a.timeline >= n || parent >= n || seen >= n {
			n++
		}
	}
	for parent >= n || seen >= n {
		n++
	}
	return n + 1
}

func (m *model) add(r cluster.SyncRule) {
	m.ruleCount++
	m.version++
	r.ID = m.ruleCount
	var rules []cluster.SyncRule
	for _, old := range m.rules {
		term := old.Term
		old.Term = r.Term
		if old.Same(r) && old.Timeline == r.Timeline { // nothing new is asked of anybody
			continue
		}
		old.Term = term
		rules = append(rules, old)
	}
	m.rules = append(rules, r)
}

func (m *model) stepAddRule(c cluster.AddRule) bool {
	if !m.holds(c.Node, c.Term) || m.released {
		return false
	}
	now := m.now()
	want := cluster.SyncRule{Term: c.Term, Primary: now.cmd.Member, Timeline: now.timeline, Standbys: sortedMembers(c.Standbys), K: c.K, Mode: c.Mode}
	if m.version == c.RulesVersion+1 && m.rules[len(m.rules)-1].Same(want) {
		return true
	}
	if m.version != c.RulesVersion || !m.ruleFits(want) {
		return false
	}
	m.add(want)
	return true
}

func (m *model) stepDropRules(c cluster.DropRules) bool {
	if !m.holds(c.Node, c.Term) || m.released {
		return false
	}
	if len(m.rules) == 1 {
		return c.RulesVersion == m.version || c.RulesVersion+1 == m.version
	}
	if c.RulesVersion != m.version {
		return false
	}
	m.rules = []cluster.SyncRule{m.rules[len(m.rules)-1]}
	m.version++
	return true
}

func (m *model) stepRecordFork(c cluster.RecordFork) bool {
	for _, a := range m.taken {
		if a.timeline == c.Timeline && !a.cmd.InPlace {
			known := m.forkLSN[c.Timeline]
			if a.cmd.Parent != c.Parent || c.LSN == 0 || known != 0 && known != c.LSN {
				return false
			}
			m.forkLSN[c.Timeline] = c.LSN
			return true
		}
	}
	return false
}

func (m *model) stepRecordLSN(c cluster.RecordLSN) bool {
	p := c.Position
	if !m.holds(c.Node, c.Term) || p.LSN == 0 || p.Timeline != m.now().timeline || p.Timeline == m.lsn.Position.Timeline && p.LSN < m.lsn.Position.LSN {
		return false
	}
	m.lsn = cluster.LastLSN{Term: c.Term, Position: p}
	return true
}

func (m *model) lives(d cluster.Member) bool {
	return d.Incarnation != "" && m.nodes[d.Node].Incarnation == d.Incarnation
}

func (m *model) ruleFits(r cluster.SyncRule) bool {
	for i, d := range r.Standbys {
		if !m.lives(d) || d.Node == r.Primary.Node || i > 0 && r.Standbys[i-1].Node == d.Node {
			return false
		}
	}
	return mode(r.Mode) && r.K >= 0 && r.K <= len(r.Standbys) && (r.K == 0 || r.Mode != cluster.SyncOff)
}

func mode(m cluster.SyncMode) bool { return m == "quorum" || m == "on" || m == "off" }

func sane(l cluster.LeaseParams) bool {
	return l.TTL > 0 && l.TTL <= time.Hour && l.Fence >= 0 && l.Fence < l.TTL && l.RhoPPM >= 0 && l.RhoPPM < 500_000 &&
		l.Watchdog >= 0 && l.Watchdog <= 10*time.Minute
}

// view is the state that a machine at this point must show, without index, events and Raft's configuration.
func (m *model) view() cluster.View {
	v := cluster.View{Scope: "main", ClusterID: m.clusterID, SystemID: m.systemID, Claim: m.claim, Config: m.config, Nodes: m.nodes,
		Forks: cluster.Forks{}, Rules: m.rules, RulesVersion: m.version, Handbacks: m.handbacks, Refusals: m.refusals, LastLSN: m.lsn}
	for i, a := range m.taken {
		if !a.cmd.InPlace {
			v.Forks[a.timeline] = cluster.Fork{Timeline: a.timeline, Parent: a.cmd.Parent, LSN: m.forkLSN[a.timeline],
				Node: a.cmd.Node, Term: cluster.Term(i + 1), Reason: a.cmd.Reason, Time: a.cmd.Time}
		}
	}
	if len(m.taken) > 0 {
		now := m.now()
		v.Key = cluster.LeaderKey{Holder: now.cmd.Node, Member: now.cmd.Member, Term: m.term(), Timeline: now.timeline, Lease: m.lease, Released: m.released}
	}
	return v
}
