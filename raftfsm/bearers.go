package raftfsm

import (
	"maps"

	"pgquorum/cluster"
)

// Bearer is who bears a node's name, as a state of the cluster had it.
type Bearer struct {
	UID   cluster.UID `json:"uid"`
	Index uint64      `json:"index"` // of the first state in which this node saw it
}

// learn keeps, on disk, what a hello must know before the state machine does, which is empty after a start until a leader is
// found: the cluster's id, and who bears which name. States that come again after a start change nothing.
func (p *place) learn(v *cluster.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.ClusterID == "" {
		return nil
	}
	known := maps.Clone(p.id.Known)
	maps.DeleteFunc(known, func(name cluster.NodeID, b Bearer) bool {
		_, registered := v.Nodes[name]
		return !registered && b.Index < v.Index
	})
	for name, n := range v.Nodes {
		if b := known[name]; b.UID != n.UID && b.Index < v.Index {
			if known == nil {
				known = map[cluster.NodeID]Bearer{}
			}
			known[name] = Bearer{n.UID, v.Index}
		}
	}
	if v.ClusterID == p.id.Cluster && maps.Equal(known, p.id.Known) {
		return nil
	}
	return p.keep(v.ClusterID, known)
}

// correct takes over from another node of this cluster who bears a name, if its word rests on a later state.
func (p *place) correct(name cluster.NodeID, b Bearer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.id.Known[name]; b.Index <= have.Index || b.UID == have.UID {
		return nil
	}
	known := maps.Clone(p.id.Known)
	if known == nil {
		known = map[cluster.NodeID]Bearer{}
	}
	known[name] = b
	return p.keep(p.id.Cluster, known)
}

// keep writes first. Called with mu held.
func (p *place) keep(clusterID string, known map[cluster.NodeID]Bearer) error {
	next := p.id
	next.Cluster, next.Known = clusterID, known
	if p.dir != "" {
		if err := next.write(p.dir); err != nil {
			return err
		}
	}
	p.id = next
	return nil
}

// clusterID is the cluster's id as learn has kept it; empty: none yet.
func (p *place) clusterID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id.Cluster
}

// bearer is who bears a name as learn and correct have kept it; the zero value: nobody is known.
func (p *place) bearer(name cluster.NodeID) Bearer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id.Known[name]
}

// known gives the uid under which the cluster knows a node: the registry's, and before it has registered that with which
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

// since is what this node tells the others of its own name: the state in which it saw itself registered. 0: it has not.
func (m *mux) since() uint64 {
	if b := m.place.bearer(m.self); b.UID == m.uid {
		return b.Index
	}
	return 0
}

// believe takes over what another node of this cluster says of its own name, if it rests on a state that this one has not
// reached: a node that was away while another was replaced would else refuse it until a leader has told, and there may be
// no leader without the two of them. Whoever was replaced has never seen a later state than that of its replacement.
func (m *mux) believe(clusterID string, node cluster.NodeID, said Bearer) {
	if clusterID == "" || clusterID != m.clusterID() || node == m.self || said.UID == "" || said.Index <= m.view().Index {
		return
	}
	if err := m.place.correct(node, said); err != nil {
		m.log.Error("identities not kept", "node", node, "error", err)
	}
}
