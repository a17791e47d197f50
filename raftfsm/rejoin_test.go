package raftfsm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgquorum/cluster"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// prepared makes a world whose nodes start as cmd starts them: their uid comes from Prepare. former says, by node, what else
// tells that a start is no first one.
type prepared struct {
	*world
	former map[cluster.NodeID]string
}

func newPrepared(t *testing.T, names ...cluster.NodeID) *prepared {
	p := &prepared{former: map[cluster.NodeID]string{}}
	edit := func(o *Options) {
		id, err := Prepare(o.DataDir, p.former[o.Self], discard)
		if err != nil {
			t.Fatal(err)
		}
		o.UID = id.UID
	}
	p.world = newWorld(t, testHeartbeat, edit)
	for _, name := range names {
		p.listen(name)
		p.members[name] = p.lns[name].Addr().String()
	}
	return p
}

func (p *prepared) start(names ...cluster.NodeID) {
	p.t.Helper()
	for _, name := range names {
		if p.lns[name] == nil {
			p.listen(name)
		}
		p.open(name)
	}
}

// stop ends nodes; their listeners are closed with them.
func (p *prepared) stop(names ...cluster.NodeID) {
	p.t.Helper()
	for _, name := range names {
		p.shut(name)
		p.mu.Lock()
		delete(p.lns, name)
		p.mu.Unlock()
	}
}

// wipe removes a node's Raft store; all of raft.data_dir, or only what is under it.
func (p *prepared) wipe(name cluster.NodeID, all bool) {
	p.t.Helper()
	dir := p.dirs[name]
	if !all {
		dir = filepath.Join(dir, storeDir)
	}
	if err := os.RemoveAll(dir); err != nil {
		p.t.Fatal(err)
	}
	if err := os.MkdirAll(p.dirs[name], 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// register enters all nodes with their uids, as their agents do.
func (p *prepared) register() {
	p.t.Helper()
	for name, n := range p.nodes {
		p.onLeader("the registration of "+string(name), func(ctx context.Context, leader *Node) error {
			_, err := leader.Apply(ctx, cluster.Register{Node: cluster.Node{Name: name, UID: n.opt.UID, Incarnation: "a", RaftAddr: p.members[name]}})
			return err
		})
	}
}

// never looks for half a second.
func never(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if holds() {
			t.Fatalf("it came: %s", what)
		}
	}
}

// A first start needs every initial member, and no longer than it takes to hear of the last.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.lns["n3"].Close()
	delete(p.lns, "n3")
	p.start("n1", "n2")
	never(t, "a cluster of two of three that know nothing", func() bool {
		return len(p.nodes["n1"].Status().Voters)+len(p.nodes["n2"].Status().Voters) > 0
	})
	if why := p.nodes["n1"].Status().Waiting; !strings.Contains(why, "n3") {
		t.Errorf("n1 waits for %q", why)
	}
	asker := Options{Self: "n9", UID: "u", Scope: "test", Members: p.members, Log: discard}
	if says := Answering(t.Context(), asker, emptyView("test")); len(says) != 0 {
		t.Errorf("nodes with empty stores answer as %v", says)
	}
	p.start("n3")
	began := time.Now()
	p.leader()
	eventually(t, "three that have a store", func() bool { return len(Answering(t.Context(), asker, emptyView("test"))) == 3 })
	if took := time.Since(began); took > patience/2 {
		t.Errorf("a leader after %v", took)
	}
	for name, n := range p.nodes {
		eventually(t, "a member", func() bool { return n.Status().Waiting == "" && len(n.Status().Voters) == 3 })
		id, _, err := readIdentity(p.dirs[name])
		if err != nil || !id.Member || len(id.Founders) != 3 {
			t.Errorf("%s: identity %+v, %v", name, id, err)
		}
	}
}

// Two wiped nodes of three form no cluster of their own, neither with each other nor with votes in the old one; whatever
// is left of raft.data_dir.
func TestWipedMajorityMakesNoCluster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		all  bool
		says string // what their data says
	}{
		{"stores only", false, ""},
		{"all of raft.data_dir, data left", true, "PGDATA bears an identity"},
		{"everything", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPrepared(t, "n1", "n2", "n3")
			p.start("n1", "n2", "n3")
			p.leader()
			p.register()
			p.stop("n1", "n2", "n3")
			for _, name := range []cluster.NodeID{"n2", "n3"} {
				p.wipe(name, c.all)
				p.former[name] = c.says
			}
			p.start("n2", "n3")
			none := func() bool {
				for _, n := range p.all() {
					s := n.Status()
					if s.State == cluster.RaftLeader || n.opt.Self != "n1" && (len(s.Voters) > 0 || s.Term > 0) {
						return true
					}
				}
				return false
			}
			never(t, "a cluster of those that forgot", none)
			p.start("n1")
			never(t, "a quorum with a node that forgot its votes", none)
			eventually(t, "n1 knows who asks", func() bool { return len(p.nodes["n1"].Applicants()) == 2 })
		})
	}
}

// takeIn does what an agent does as leader, step by step.
func takeIn(ctx context.Context, leader *Node, a cluster.Applicant) error {
	if leader.server(a.Node) != nil && leader.View().Nodes[a.Node].UID != a.UID {
		if err := leader.RemoveServer(ctx, a.Node); err != nil {
			return err
		}
	}
	if _, err := leader.Apply(ctx, cluster.Readmit{Node: a.Node, From: leader.View().Nodes[a.Node].UID, UID: a.UID, RaftAddr: a.RaftAddr}); err != nil {
		return err
	}
	return leader.AddVoter(ctx, a.Node, a.RaftAddr)
}

// A wiped node is taken in under its new uid, gets the state, votes, and starts as a member from then on.
func TestWipedNodeIsTakenIn(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.leader()
	p.register()
	old := p.nodes["n3"].opt.UID
	p.stop("n3")
	p.wipe("n3", false)
	p.start("n3")
	n3 := p.nodes["n3"]
	if n3.opt.UID == old {
		t.Fatal("it kept the uid of the votes that it forgot")
	}
	var asks cluster.Applicant
	eventually(t, "the leader knows of it", func() bool {
		all := p.leader().Applicants()
		if len(all) == 1 {
			asks = all[0]
		}
		return len(all) == 1
	})
	if asks.Node != "n3" || asks.UID != n3.opt.UID || asks.RaftAddr != p.members["n3"] {
		t.Errorf("applicant %+v", asks)
	}
	p.onLeader("its name", func(ctx context.Context, leader *Node) error {
		var refused *cluster.Refused
		_, err := leader.Apply(ctx, cluster.Readmit{Node: "n3", From: old, UID: n3.opt.UID})
		if err == nil || errors.As(err, &refused) && !strings.Contains(refused.Reason, "voter still") {
			t.Errorf("readmitted while its former server votes: %v", err)
		}
		if errors.As(err, &refused) {
			return nil
		}
		return err
	})
	never(t, "a vote before it is taken in", func() bool { return n3.Status().Term > 0 })
	p.onLeader("n3 is taken in", func(ctx context.Context, leader *Node) error { return takeIn(ctx, leader, asks) })
	eventually(t, "n3 is a voter with the state", func() bool {
		s := n3.Status()
		return s.Waiting == "" && slices.Contains(s.Voters, "n3") && n3.View().Nodes["n3"].UID == n3.opt.UID
	})
	p.stop("n3")
	p.start("n3")
	if s := p.nodes["n3"].Status(); p.nodes["n3"].opt.UID != n3.opt.UID || s.Waiting != "" {
		t.Errorf("after a restart: uid %s, was %s; waits for %q", p.nodes["n3"].opt.UID, n3.opt.UID, s.Waiting)
	}
}

// Who bears which name is known from the first hello after a start on, not only once a leader has been found: else a replaced
// node and one of the founders, which knew its former uid, would never speak, and with the third away there were no leader.
func TestReplacedNodeIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.onLeader("the cluster's id", func(ctx context.Context, leader *Node) error {
		_, err := leader.Apply(ctx, cluster.Claim{Node: leader.opt.Self, ClusterID: "c1", Config: testConfig()})
		return err
	})
	p.register()
	p.stop("n3")
	p.wipe("n3", false)
	p.start("n3")
	uid := p.nodes["n3"].opt.UID
	eventually(t, "the leader knows of it", func() bool { return len(p.leader().Applicants()) == 1 })
	p.onLeader("n3 is taken in", func(ctx context.Context, leader *Node) error {
		return takeIn(ctx, leader, cluster.Applicant{Node: "n3", UID: uid, RaftAddr: p.members["n3"]})
	})
	eventually(t, "all know its uid", func() bool {
		return !slices.ContainsFunc(p.all(), func(n *Node) bool { return n.View().Nodes["n3"].UID != uid })
	})
	p.stop("n1", "n2", "n3")
	for _, name := range []cluster.NodeID{"n1", "n3"} {
		if id, _, err := readIdentity(p.dirs[name]); err != nil || id.Cluster != "c1" || id.Known["n3"].UID != uid || id.Known["n3"].Index == 0 {
			t.Errorf("%s: identity %+v, %v", name, id, err)
		}
	}
	p.start("n1", "n3")
	p.leader()
}

// A node is replaced behind a partition, by one at the same address, and lives on: no third node counts its vote, although it
// had a connection to it from before. Else that third node and the former bearer would be a second majority.
func TestFormerBearerHasNoVote(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var moved, split atomic.Bool // n2's address leads to another machine; n1 is cut off from all but what it has a connection to
	cut := errors.New("cut off")
	prepare := p.edit
	p.edit = func(o *Options) {
		prepare(o)
		self, second := o.Self, o.Listener == ln
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			to := p.nameAt(addr)
			switch {
			case split.Load() && (self == "n1" || to == "n1"), moved.Load() && self == "n2" && !second && to == "n3":
				return nil, cut
			case moved.Load() && to == "n2":
				addr, to = ln.Addr().String(), "second"
			}
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.links[c] = [2]cluster.NodeID{self, to}
			}
			return c, err
		}
	}
	hangUp := func(x, y cluster.NodeID) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c, ends := range p.links {
			if ends == [2]cluster.NodeID{x, y} || ends == [2]cluster.NodeID{y, x} {
				c.Close()
				delete(p.links, c)
			}
		}
	}
	speaksWith := func(n *Node, to *Node) bool {
		n.mux.mu.Lock()
		defer n.mux.mu.Unlock()
		for c := range n.mux.conns {
			if c.node == to.opt.Self && c.uid == to.opt.UID && c.kind == kindRaft && !c.inbound && !c.cut.Load() {
				return true
			}
		}
		return false
	}
	p.start("n1", "n2", "n3")
	p.onLeader("the cluster's id", func(ctx context.Context, leader *Node) error {
		_, err := leader.Apply(ctx, cluster.Claim{Node: leader.opt.Self, ClusterID: "c1", Config: testConfig()})
		return err
	})
	p.register()
	n1, first, n3 := p.nodes["n1"], p.nodes["n2"], p.nodes["n3"]
	lead := func(n *Node) {
		eventually(t, string(n.opt.Self)+" leads", func() bool {
			leader := p.leader()
			if leader != n {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_ = leader.Transfer(ctx, n.opt.Self) // asked again until it is so
			}
			return leader == n
		})
	}
	lead(n1)
	eventually(t, "n1 has a connection to n2", func() bool { return speaksWith(n1, first) })
	lead(n3)
	moved.Store(true)
	hangUp("n3", "n2")
	opt := Options{Self: "n2", Scope: "test", Listener: ln, Advertise: p.members["n2"], DataDir: t.TempDir(), Members: p.members,
		Heartbeat: testHeartbeat, Clock: cluster.Boottime, Log: discard}
	p.former["n2"] = "its machine is another"
	p.edit(&opt)
	second, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close(context.Background())
	eventually(t, "n3 hears of the second, and of the first no more", func() bool {
		asks := n3.Applicants()
		return len(asks) == 1 && asks[0].Other == ""
	})
	if !speaksWith(n1, first) {
		t.Fatal("n1 has no connection to the first any more: nothing is shown")
	}
	n3.SetSettledTerm(n3.BarrierTerm())
	if err := takeIn(t.Context(), n3, cluster.Applicant{Node: "n2", UID: second.opt.UID, RaftAddr: p.members["n2"]}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n1 knows the second and speaks with the first no more", func() bool {
		return n1.mux.known("n2") == second.opt.UID && !speaksWith(n1, first)
	})
	split.Store(true)
	hangUp("n1", "n3")
	hangUp("n1", "second")
	never(t, "n1 leads with the vote of the first", func() bool { return n1.Status().State == cluster.RaftLeader })
	if s := n3.Status(); s.State != cluster.RaftLeader {
		t.Errorf("n3 is %+v, want it to lead on", s)
	}
}

// A name is not free for an applicant while its bearer lives.
func TestApplicantBesideALivingNode(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	leader := p.leader()
	p.register()
	p.edit = nil
	double := p.options("n2")
	double.DataDir, double.Listener, double.Listen = t.TempDir(), nil, "127.0.0.1:0"
	id, err := Prepare(double.DataDir, "", discard)
	if err != nil {
		t.Fatal(err)
	}
	double.UID = id.UID
	if leader.opt.Self == "n2" {
		leader = p.nodes["n1"]
	}
	second, err := Open(t.Context(), double)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close(t.Context())
	eventually(t, "the applicant, and who lives", func() bool {
		all := leader.Applicants()
		return len(all) == 1 && all[0].Node == "n2" && all[0].UID == id.UID && all[0].Other != ""
	})
	if s := second.Status(); s.Term > 0 || len(s.Voters) > 0 {
		t.Errorf("the second is %+v", s)
	}
}

// Nodes of another cluster of the same name on the same addresses are spoken with in neither direction.
func TestTwoClustersOfOneName(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.leader()
	for _, name := range []cluster.NodeID{"n1", "n2"} {
		known(p.nodes[name], "A", nil)
	}
	known(p.nodes["n3"], "B", nil)
	for _, pair := range [][2]cluster.NodeID{{"n1", "n3"}, {"n3", "n1"}} {
		for _, kind := range []string{kindRaft, kindPeer, kindAsk} {
			var err error
			if kind == kindAsk {
				_, err = p.nodes[pair[0]].mux.ask(t.Context(), pair[1], p.members[pair[1]], "here:1")
			} else {
				_, err = p.nodes[pair[0]].mux.dial(t.Context(), pair[1], p.members[pair[1]], kind)
			}
			var refused *HelloError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "cluster id") {
				t.Errorf("%s from %s to %s: %v", kind, pair[0], pair[1], err)
			}
		}
	}
	if all := p.nodes["n1"].Applicants(); len(all) != 0 {
		t.Errorf("a node of another cluster asks to be taken in: %+v", all)
	}
}

// A node with an empty store speaks Raft with those only who know its uid: who knows another, or none, counts on votes that it
// has forgotten. Once it has spoken, its uid has been used.
func TestRaftOnlyWithWhoKnowsTheUID(t *testing.T) {
	t.Parallel()
	n := single(t)
	for _, c := range []struct {
		to   cluster.UID
		want string // empty: welcome
	}{{"", "not a member yet"}, {"uid-old", "not uid-old"}, {"uid-n1", ""}} {
		_, a := greetWith(t, n, hello{Proto: helloProto, Scope: "test", Node: "n2", UID: "uid-n2", Kind: kindRaft, ToUID: c.to})
		if a.OK != (c.want == "") || !strings.Contains(a.Error, c.want) {
			t.Errorf("asked for %q: want %q, have %+v", c.to, c.want, a)
		}
		if id, _, err := readIdentity(n.opt.DataDir); err != nil || id.Member != a.OK {
			t.Errorf("asked for %q: identity %+v, %v", c.to, id, err)
		}
	}
}
