package raftfsm

import (
	"fmt"
	"maps"

	"pgquorum/cluster"
)

// Bearer is who bears a node's name, as a state of the cluster had it.
type Bearer struct {
	UID   cluster.UID `json:"uid"`
	Index uint64      `json:"index"` // of the first state in which this node saw it
}

// learn keeps, on disk, what a hello must know before the state machine does, which is empty after a start until a leader is
// found: the cluster's id, and who bears which name. States that come again after a start change nothing. What was only
// believed is over once the state that it rests on is reached.
func (p *place) learn(v *cluster.View) error {
	if v.ClusterID == "" {
		return nil
	}
	p.mu.Lock()
	said := maps.Clone(p.said)
	maps.DeleteFunc(said, func(_ cluster.NodeID, b Bearer) bool { return b.Index <= v.Index })
	p.said = said
	p.mu.Unlock()
	return p.update(func(id *Identity) bool {
		known := maps.Clone(id.Known)
		if known == nil || id.Cluster != "" && id.Cluster != v.ClusterID { // another cluster's states are numbered from anew
			known = map[cluster.NodeID]Bearer{}
		}
		maps.DeleteFunc(known, func(name cluster.NodeID, b Bearer) bool {
			_, registered := v.Nodes[name]
			return !registered && b.Index < v.Index
		})
		for name, n := range v.Nodes {
			if b := known[name]; b.UID != n.UID && b.Index < v.Index {
				known[name] = Bearer{n.UID, v.Index}
			}
		}
		if v.ClusterID == id.Cluster && maps.Equal(known, id.Known) {
			return false
		}
		id.Cluster, id.Known = v.ClusterID, known
		return true
	})
}

// believe keeps what another node says of its own name, in memory, if its word rests on a later state than what is kept of
// that name.
func (p *place) believe(name cluster.NodeID, said Bearer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if said.Index <= p.id.Known[name].Index || said.Index <= p.said[name].Index {
		return
	}
	next := maps.Clone(p.said)
	if next == nil {
		next = map[cluster.NodeID]Bearer{}
	}
	next[name] = said
	p.said = next
}

// clusterID is the cluster's id as learn has kept it; empty: none yet.
func (p *place) clusterID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id.Cluster
}

// bearer is who bears a name as learn has kept it, or as was said since; the zero value: nobody is known.
func (p *place) bearer(name cluster.NodeID) Bearer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if said := p.said[name]; said.UID != "" {
		return said
	}
	return p.id.Known[name]
}

// known gives the uid under which the cluster knows a node: the registry's, and while there is no cluster yet that with which
// the first members bootstrapped. Empty: none.
func (m *mux) known(node cluster.NodeID) cluster.UID {
	v, kept := m.view(), m.place.bearer(node)
	switch reg := v.Nodes[node].UID; {
	case reg != "" && v.Index >= kept.Index:
		return reg
	case kept.UID != "":
		return kept.UID
	}
	return m.place.founders()[node]
}

// clusterID is the cluster's id, of the state machine or as this node remembers it; empty: not known yet.
func (m *mux) clusterID() string {
	if id := m.view().ClusterID; id != "" {
		return id
	}
	return m.place.clusterID()
}

// since is what this node tells the others of its own name: the newest state in which it saw itself registered. 0: it has
// not. Whoever stored an entry of an earlier index that gives the name to another knows from it that this never came to be.
func (m *mux) since() uint64 {
	v, b := m.view(), m.place.bearer(m.self)
	switch {
	case b.UID != m.uid:
		return 0
	case v.Nodes[m.self].UID == m.uid:
		return max(b.Index, v.Index)
	}
	return b.Index
}

// believe takes over what another node of this cluster says of its own name, if it rests on a state that this one has not
// reached: a node that was away while another was replaced would else refuse it until a leader has told, and there may be
// no leader without the two of them. Whoever was replaced has never seen as late a state as its replacement. It holds until
// this node has reached that state itself.
func (m *mux) believe(clusterID string, node cluster.NodeID, said Bearer) {
	v := m.view()
	_, registered := v.Nodes[node]
	if clusterID == "" || clusterID != m.clusterID() || node == m.self || said.UID == "" || said.Index <= v.Index ||
		!registered && m.place.bearer(node).UID == "" {
		return
	}
	m.place.believe(node, said)
}

// stranger says why a node may not bear its name with its uid, as far as the cluster knows the name; empty: it may. What an
// entry of the log gives counts from the state on in which the present bearer was seen: one before it is applied, or never
// was committed.
func (m *mux) stranger(node cluster.NodeID, uid cluster.UID) string {
	known := m.known(node)
	switch {
	case m.names.bars(node, uid, max(m.view().Index, m.place.bearer(node).Index)):
		return fmt.Sprintf("node name %s is being given to another uid than %s", node, uid)
	case known == "" || known == uid:
		return ""
	case m.clusterID() == "":
		return fmt.Sprintf("node name %s is taken by the first member with uid %s, not %s", node, known, uid)
	}
	return fmt.Sprintf("node name %s is registered with uid %s, not %s", node, known, uid)
}

// dropStrangers ends every connection to a node that bears its name no more: the hello was before. From here on nothing is
// read from it, so that none of its answers counts as its successor's.
func (m *mux) dropStrangers() {
	m.mu.Lock()
	var gone []*conn
	for c := range m.conns {
		if c.uid != "" && c.node != m.self && m.stranger(c.node, c.uid) != "" {
			c.cut.Store(true)
			gone = append(gone, c)
		}
	}
	m.mu.Unlock()
	for _, c := range gone {
		m.log.Warn("connection ended: its node has been replaced", "node", c.node, "uid", c.uid, "remote", c.RemoteAddr().String())
		go c.Close() // TLS says goodbye, and may wait
	}
}
