package raftfsm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// place is this node's place in the cluster: how it stands to it, and who asks for a place of their own.
type place struct {
	self cluster.NodeID
	uid  cluster.UID
	dir  string
	wake chan struct{} // somebody has asked: look again now

	writing sync.Mutex // held while node.json is written, and never for a look: its disk may hang

	mu         sync.Mutex
	id         Identity
	said       map[cluster.NodeID]Bearer // what nodes said of their names, until this one has reached that state
	used       bool                      // the store holds something, or will: Raft speaks
	told       string                    // what this node waits for
	applicants map[cluster.NodeID]applicant
}

// applicant is a node that asks to be taken in under a uid that is not the registered one.
type applicant struct {
	uid          cluster.UID
	addr         string
	first, heard time.Time
}

// applicantFresh is how old an application may be; one is made each second.
const applicantFresh = 5 * time.Second

// openPlace reads the identity. Without one (a test) the uid of the options is all there is.
func openPlace(opt Options, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore) (*place, error) {
	p := &place{self: opt.Self, uid: opt.UID, dir: opt.DataDir, wake: make(chan struct{}, 1), applicants: map[cluster.NodeID]applicant{}}
	id, known, err := readIdentity(opt.DataDir)
	if err != nil {
		return nil, err
	}
	p.id = Identity{UID: opt.UID}
	if known && id.UID != opt.UID {
		return nil, fmt.Errorf("raft options: uid %s, and %s has %s", opt.UID, identityFile, id.UID)
	}
	if known {
		p.id = id
	}
	if id.Recovering {
		return nil, errors.New("raft store: pgquorum recover was broken off on it: call it again")
	}
	if p.used, err = raft.HasExistingState(logs, stable, snaps); err != nil {
		return nil, fmt.Errorf("raft store: %w", err)
	}
	if p.used {
		return p, p.becomeMember()
	}
	if p.id.Member && p.id.Former == "" { // opened without Prepare
		return nil, fmt.Errorf("raft store: uid %s was a member and the store is empty: a new uid is wanted", p.uid)
	}
	p.told = "looking for the other members"
	return p, nil
}

// update changes the identity, on disk first. edit says whether there is a change.
func (p *place) update(edit func(*Identity) bool) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	next := p.id
	p.mu.Unlock()
	if !edit(&next) {
		return nil
	}
	if p.dir != "" {
		if err := next.write(p.dir); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id = next
	return nil
}

// becomeMember records that the uid takes part from now on: its store must not be empty again.
func (p *place) becomeMember() error {
	return p.update(func(id *Identity) bool {
		news := !id.Member
		id.Member = true
		return news
	})
}

// founders are the uids with which the first members bootstrapped; nil where this node was not among them.
func (p *place) founders() map[cluster.NodeID]cluster.UID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id.Founders
}

// waiting says what this node waits for to become a member; empty: it is one.
func (p *place) waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// standing is this node's answer to who asks.
func (p *place) standing() (standing, map[cluster.NodeID]cluster.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.used:
		return isMember, p.id.Founders
	case p.id.Former != "":
		return isFormer, nil
	}
	return isNew, p.id.Founders
}

// admits says why this node does not speak Raft with who calls; empty: it does, and from now on its uid takes part. A node
// whose store is empty speaks with those only who know its uid: whoever knows another counts on votes and entries that
// this one does not have.
func (p *place) admits(h hello) (objection string) {
	p.mu.Lock()
	used, told := p.used, p.told
	p.mu.Unlock()
	if used {
		return ""
	}
	if h.ToUID != p.uid {
		return fmt.Sprintf("node %s is not a member yet: %s", p.self, told)
	}
	if err := p.becomeMember(); err != nil {
		return err.Error()
	}
	return ""
}

// found records with whom this node bootstraps, before it does.
func (p *place) found(founders map[cluster.NodeID]cluster.UID) error {
	return p.update(func(id *Identity) bool {
		id.Founders = founders
		return true
	})
}

// taken says that the store holds something now.
func (p *place) taken() error {
	if err := p.becomeMember(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used, p.told = true, ""
	return nil
}

// tell keeps what this node waits for, and says whether it is news.
func (p *place) tell(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.told != what
	p.told = what
	return news
}

// former says why this is no first start; empty: it may be one.
func (p *place) former() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id.Former
}

// asked notes who asks, and an application.
func (m *mux) asked(h hello) {
	p := m.place
	p.mu.Lock()
	if h.Apply != "" && h.Node != p.self {
		a := applicant{uid: h.UID, addr: h.Apply, first: time.Now(), heard: time.Now()}
		if old, ok := p.applicants[h.Node]; ok && old.uid == a.uid && time.Since(old.heard) < applicantFresh {
			a.first = old.first
		}
		p.applicants[h.Node] = a
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Applicants are the nodes that have asked within some seconds to be taken in, in order of their names.
func (n *Node) Applicants() []cluster.Applicant {
	n.place.mu.Lock()
	asked := maps.Clone(n.place.applicants)
	n.place.mu.Unlock()
	var all []cluster.Applicant
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if a := asked[name]; time.Since(a.heard) < applicantFresh {
			all = append(all, cluster.Applicant{Node: name, UID: a.uid, RaftAddr: a.addr, For: time.Since(a.first), Other: n.mux.otherLives(name, a.uid)})
		}
	}
	return all
}

// otherLives names the living connection of a node that bears a name under another uid; empty: there is none.
func (m *mux) otherLives(node cluster.NodeID, uid cluster.UID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		if c.node == node && c.uid != "" && c.uid != uid && c.holdsName() {
			return fmt.Sprintf("the node at %s with uid %s", c.RemoteAddr(), c.uid)
		}
	}
	return ""
}

// verdict is what a node with an empty store concludes from the answers of the others.
type verdict struct {
	founders map[cluster.NodeID]cluster.UID // not nil: bootstrap, with these
	apply    bool                           // ask to be taken in
	waits    string
}

// judge decides over a node with an empty store. It bootstraps in two cases only: every initial member says that it is
// new, or one of those that bootstrapped did so with this very uid. Everything else may be a node that has forgotten: then
// it asks to be taken in. Without an answer of all, and with none of a member, it waits: a majority of nodes that have
// all forgotten must not make a cluster of their own.
func judge(self cluster.NodeID, uid cluster.UID, former string, members map[cluster.NodeID]string, answers map[cluster.NodeID]helloAnswer, silent map[cluster.NodeID]error) verdict {
	if len(members) == 0 {
		return verdict{waits: "the cluster's leader to add this node"}
	}
	uids := map[cluster.NodeID]cluster.UID{self: uid}
	var missing, forgot []string
	there := false
	for _, name := range slices.Sorted(maps.Keys(members)) {
		a, answered := answers[name]
		switch {
		case name == self:
		case !answered:
			missing = append(missing, fmt.Sprintf("%s (%v)", name, silent[name]))
		case former == "" && a.Founders[self] == uid && a.Standing != isFormer:
			return verdict{founders: a.Founders}
		case a.Standing == isMember:
			there = true
		case a.Standing == isFormer:
			forgot = append(forgot, string(name))
		default:
			uids[name] = a.UID
		}
	}
	switch {
	case there && former != "":
		return verdict{apply: true, waits: "to be taken in again by the cluster's leader: " + former}
	case there:
		return verdict{apply: true, waits: "to be taken in by the cluster's leader: the cluster exists, and does not know this node's uid"}
	case former == "" && len(missing) == 0 && len(forgot) == 0:
		return verdict{founders: uids}
	case former == "" && len(forgot) == 0:
		return verdict{waits: "a first start needs an answer of every initial member; missing: " + strings.Join(missing, ", ")}
	}
	v := verdict{apply: true, waits: "a member that knows the cluster; this is no first start"}
	if former != "" {
		v.waits += ": " + former
	}
	if len(forgot) > 0 {
		v.waits += "; without a raft store too: " + strings.Join(forgot, ", ")
	}
	if len(missing) > 0 {
		v.waits += "; no answer of " + strings.Join(missing, ", ")
	}
	return v
}
