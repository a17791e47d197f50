package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// S1: k_full by data nodes, voters and synchronous_node_count.
func TestS1KFull(t *testing.T) {
	for _, c := range []struct {
		name                    string
		data, voters, count, is int
	}{
		{"N=1", 1, 1, 1, 0},
		{"N=2, 2 data", 2, 2, 1, 1},
		{"N=3, 3 data", 3, 3, 1, 1},
		{"N=3, 2 data and an arbiter", 2, 3, 1, 1},
		{"N=3, 1 data", 1, 3, 1, 0},
		{"N=3, no data", 0, 3, 1, 0},
		{"N=4, 4 data", 4, 4, 1, 2},
		{"N=5, 5 data", 5, 5, 1, 2},
		{"N=5, 4 data", 4, 5, 1, 2},
		{"N=5, 3 data", 3, 5, 1, 2},
		{"N=5, 2 data", 2, 5, 1, 1},
		{"N=7, 7 data", 7, 7, 1, 3},
		{"node_count raises", 5, 5, 3, 3},
		{"node_count raises to n at most", 5, 5, 9, 4},
		{"node_count raises with 3 data", 3, 3, 2, 2},
		{"node_count does not lower", 5, 5, 1, 2},
		{"node_count of 0 does not lower", 5, 5, 0, 2},
		{"node_count below 0 does not lower", 3, 3, -1, 1},
	} {
		if got := KFull(c.data, c.voters, c.count); got != c.is {
			t.Errorf("%s: k_full %d, want %d", c.name, got, c.is)
		}
	}
}

// S1, C4: who is a data node. The base has three.
func TestC4DataNodes(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want string
	}{
		{"all", func(*Observation) {}, "n1 n2 n3"},
		{"nofailover", func(o *Observation) { tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true }) }, "n1 n3"},
		{"nosync", func(o *Observation) { tag(o, "n2", func(g *cluster.Tags) { g.NoSync = true }) }, "n1 n3"},
		{"no voter", func(o *Observation) { o.Raft.Voters = []cluster.NodeID{"n1", "n3"} }, "n1 n3"},
		{"no data: an arbiter", func(o *Observation) {
			n := o.View.Nodes["n2"]
			n.Incarnation = ""
			o.View.Nodes["n2"] = n
		}, "n1 n3"},
		{"not registered", func(o *Observation) { delete(o.View.Nodes, "n2") }, "n1 n3"},
		{"noloadbalance, priority and location do not matter", func(o *Observation) {
			tag(o, "n2", func(g *cluster.Tags) { g.NoLoadBalance, g.FailoverPriority, g.Location = true, 5, "west" })
		}, "n1 n2 n3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			if got := nodes(DataNodes(o.View, o.Raft.Voters)); got != c.want {
				t.Errorf("data nodes %q, want %q", got, c.want)
			}
			for _, list := range [][]cluster.Member{WantedRule(o).Standbys, AcquireRule(o, "n1", nil).Standbys, StandbyList(o).Standbys} {
				if s := nodes(list); s != strings.TrimPrefix(c.want, "n1 ") { // C4: and none else is in S
					t.Errorf("standbys %q, want those of %q", s, c.want)
				}
			}
		})
	}
}

// nodes names members in the order given; another life than the base's is marked.
func nodes(ms []cluster.Member) string {
	var names []string
	for _, m := range ms {
		name := string(m.Node)
		if m != member(name) {
			name += "?"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// text puts a rule into a form for tables: mode, k and standbys.
func (r RuleChange) text() string { return fmt.Sprintf("%s %d of %s", r.Mode, r.K, nodes(r.Standbys)) }

// five is the base with n4 and n5 added, all standbys streaming and in the rule, k=2.
func five() *Observation {
	o := healthy("n1")
	o.View.Rules[0].K = 2
	for _, n := range []string{"n4", "n5"} {
		id := cluster.NodeID(n)
		o.View.Nodes[id] = cluster.Node{Name: id, UID: cluster.UID(n), Incarnation: member(n).Incarnation, PostgresAddr: n + ":5432", Tags: cluster.Tags{FailoverPriority: 1}}
		o.Peers[id] = cluster.PeerView{Status: statusFor(n), At: testNow}
		o.Raft.Voters = append(o.Raft.Voters, id)
		o.Local.Postgres.Replication = append(o.Local.Postgres.Replication, cluster.WalSender{AppName: member(n).AppName(2), State: "streaming"})
		o.View.Rules[0].Standbys = append(o.View.Rules[0].Standbys, member(n))
	}
	return o
}

// two is the base with n3 as an arbiter.
func two() *Observation {
	o := healthy("n1")
	n := o.View.Nodes["n3"]
	n.Incarnation = ""
	o.View.Nodes["n3"] = n
	o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
	gone(o, "n3")
	return o
}

// gone ends the walsenders of some standbys.
func gone(o *Observation, names ...string) {
	o.Local.Postgres.Replication = slices.DeleteFunc(o.Local.Postgres.Replication, func(w cluster.WalSender) bool {
		return slices.ContainsFunc(names, func(n string) bool { return w.AppName == member(n).AppName(2) })
	})
}

// lacking says that fewer than k can confirm, for so long.
func lacking(o *Observation, d time.Duration) { o.StandbyLackingSince = o.Now.Add(-d) }

// wants makes some members ask to be taken out of the rules.
func wants(o *Observation, names ...string) {
	for _, n := range names {
		p := o.Peers[cluster.NodeID(n)]
		p.Status.WantsOut = member(n).Incarnation
		o.Peers[cluster.NodeID(n)] = p
	}
}

// count records a rule of these standbys in place of the base's.
func count(o *Observation, k int, names ...string) {
	r := &o.View.Rules[0]
	r.K, r.Standbys = k, nil
	for _, n := range names {
		r.Standbys = append(r.Standbys, member(n))
	}
}

type ruleCase struct {
	name string
	edit func(*Observation)
	want string
}

func runRules(t *testing.T, base func() *Observation, rule func(*Observation) RuleChange, cases []ruleCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := base()
			c.edit(o)
			if got := rule(o).text(); got != c.want {
				t.Errorf("rule %q, want %q", got, c.want)
			}
		})
	}
}

// S1: what the holder of three data nodes wants.
func TestS1WantedRule(t *testing.T) {
	runRules(t, func() *Observation { return healthy("n1") }, WantedRule, []ruleCase{
		{"as it is", func(*Observation) {}, "quorum 1 of n2 n3"},
		{"bootstrap: nobody streams yet", func(o *Observation) { count(o, 0); gone(o, "n2", "n3") }, "quorum 0 of "},
		{"bootstrap: the first one streams", func(o *Observation) { count(o, 0); gone(o, "n3") }, "quorum 1 of n2"},
		{"who counts stays, though silent", func(o *Observation) { gone(o, "n3") }, "quorum 1 of n2 n3"},
		{"who does not count and does not stream stays out", func(o *Observation) { count(o, 1, "n2"); gone(o, "n3") }, "quorum 1 of n2"},
		{"its reply is too old (S8)", func(o *Observation) {
			count(o, 1, "n2")
			o.Local.Postgres.Replication[1].ReplyAge = ReplyLimit + 1
		}, "quorum 1 of n2"},
		{"its reply is just young enough (S8)", func(o *Observation) {
			count(o, 1, "n2")
			o.Local.Postgres.Replication[1].ReplyAge = ReplyLimit
		}, "quorum 1 of n2 n3"},
		{"it catches up, but does not stream", func(o *Observation) {
			count(o, 1, "n2")
			o.Local.Postgres.Replication[1].State = "catchup"
		}, "quorum 1 of n2"},
		{"another life streams (S6)", func(o *Observation) {
			count(o, 1, "n2")
			o.Local.Postgres.Replication[1].AppName = "n3_former_2"
		}, "quorum 1 of n2"},
		{"node_count raises", func(o *Observation) { o.View.Config.SynchronousNodeCount = 2 }, "quorum 2 of n2 n3"},
		{"V5 S8 one asks to leave", func(o *Observation) { wants(o, "n3") }, "quorum 1 of n2"},
		{"S8 a former life asked to leave", func(o *Observation) {
			wants(o, "n3")
			p := o.Peers["n3"]
			p.Status.WantsOut = "former"
			o.Peers["n3"] = p
		}, "quorum 1 of n2 n3"},
		{"S5 the only one asks to leave: it stays", func(o *Observation) { count(o, 1, "n2"); gone(o, "n3"); wants(o, "n2") }, "quorum 1 of n2"},
		{"S5 it asks to leave and the other comes", func(o *Observation) { count(o, 1, "n2"); wants(o, "n2") }, "quorum 1 of n3"},
		{"S5 both ask to leave: they stay", func(o *Observation) { wants(o, "n2", "n3") }, "quorum 1 of n2 n3"},
		{"S5 k=2, one asks to leave: it stays", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
			count(o, 2, "n2", "n3")
			wants(o, "n3")
		}, "quorum 2 of n2 n3"},
		{"who wants out is not taken in", func(o *Observation) { count(o, 1, "n2"); wants(o, "n3") }, "quorum 1 of n2"},
		{"C4 nofailover goes out", func(o *Observation) { tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true }) }, "quorum 1 of n2"},
		{"S7 off", func(o *Observation) { o.View.Config.SynchronousMode = cluster.SyncOff }, "off 0 of "},
	})
}

// S7: the mode on names exactly k.
func TestS7ExactlyKNames(t *testing.T) {
	on := func(base func() *Observation) func() *Observation {
		return func() *Observation {
			o := base()
			o.View.Config.SynchronousMode, o.View.Rules[0].Mode = cluster.SyncOn, cluster.SyncOn
			return o
		}
	}
	runRules(t, on(func() *Observation { return healthy("n1") }), WantedRule, []ruleCase{
		{"from quorum: one of two", func(*Observation) {}, "on 1 of n2"},
		{"who counts and streams stays, though another has the lower name", func(o *Observation) { count(o, 1, "n3") }, "on 1 of n3"},
		{"who streams replaces who does not", func(o *Observation) { count(o, 1, "n2"); gone(o, "n2") }, "on 1 of n3"},
		{"nobody streams: who counts stays", func(o *Observation) { count(o, 1, "n3"); gone(o, "n2", "n3") }, "on 1 of n3"},
		{"who leaves is replaced (S8)", func(o *Observation) { count(o, 1, "n2"); wants(o, "n2") }, "on 1 of n3"},
		{"node_count", func(o *Observation) { o.View.Config.SynchronousNodeCount = 2 }, "on 2 of n2 n3"},
		{"bootstrap", func(o *Observation) { count(o, 0); gone(o, "n2", "n3") }, "on 0 of "},
	})
	runRules(t, on(five), WantedRule, []ruleCase{
		{"N=5", func(*Observation) {}, "on 2 of n2 n3"},
		{"N=5, one of two replaced", func(o *Observation) { count(o, 2, "n2", "n5"); gone(o, "n2") }, "on 2 of n3 n5"},
		{"S5 N=5, one left", func(o *Observation) {
			count(o, 2, "n2", "n3")
			gone(o, "n2", "n4", "n5")
			lacking(o, LowerAfter)
		}, "on 1 of n3"},
	})
	runRules(t, on(func() *Observation { return healthy("n2") }), StandbyList, []ruleCase{
		{"a standby's list", func(*Observation) {}, "on 1 of n1"},
	})
	runRules(t, on(taking), acquiring, []ruleCase{
		{"an acquisition", func(*Observation) {}, "on 1 of n3"},
		{"an acquisition: ready before silent", func(o *Observation) {
			o.View.Config.SynchronousNodeCount = 2
		}, "on 2 of n1 n3"},
	})
}

// acquiring is the rule of an acquisition by the base's taker, n2.
func acquiring(o *Observation) RuleChange {
	return AcquireRule(o, "n2", Valid(o.View, 4, o.TakeOver.Promises))
}
