package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// answers edits what a node's own status says, as it came age ago.
func answers(o *Observation, n string, age time.Duration, f func(*cluster.PeerView)) {
	p := o.Peers[cluster.NodeID(n)]
	p.At = o.Now.Add(-age)
	f(&p)
	o.Peers[cluster.NodeID(n)] = p
}

// saysNo makes a node answer that it does not stream.
func saysNo(p *cluster.PeerView) { p.Status.Postgres.Streaming = false }

// S8: a member streams by its walsender's reply age and by its own answer. n2 has a walsender with fresh replies in each
// case but the first.
func TestS8Streams(t *testing.T) {
	pg := func(f func(*cluster.PostgresStatus)) func(*Observation) {
		return func(o *Observation) {
			answers(o, "n2", time.Second, func(p *cluster.PeerView) { f(&p.Status.Postgres) })
		}
	}
	for _, c := range []struct {
		name    string
		edit    func(*Observation)
		streams bool // it may be added
		able    bool // with no moment known since when it denies
		late    bool // able, when it has denied for DenyAfter
	}{
		{"no walsender", func(o *Observation) { gone(o, "n2") }, false, false, false},
		{"reply too old", func(o *Observation) { o.Local.Postgres.Replication[0].ReplyAge = ReplyLimit + 1 }, false, false, false},
		{"reply just fresh, its answer agrees", func(o *Observation) { o.Local.Postgres.Replication[0].ReplyAge = ReplyLimit }, true, true, true},
		{"it says that it does not stream", pg(func(p *cluster.PostgresStatus) { p.Streaming = false }), false, true, false},
		{"it says that it streams from another", pg(func(p *cluster.PostgresStatus) { p.Source = "n3" }), false, true, false},
		{"it says that it has no source", pg(func(p *cluster.PostgresStatus) { p.Source = "" }), false, true, false},
		{"it says that it is a primary", pg(func(p *cluster.PostgresStatus) { p.Role = cluster.RolePrimary }), false, true, false},
		{"it says that its data is another life", pg(func(p *cluster.PostgresStatus) { p.Incarnation = "other" }), false, true, false},
		{"it says that its postgres is stopped", pg(stopped), false, true, false},
		{"a postgres that recovers is not asked", pg(func(p *cluster.PostgresStatus) { p.State, p.Streaming = cluster.PostgresStarting, false }), true, true, true},
		{"a postgres that hangs is not asked", pg(func(p *cluster.PostgresStatus) { p.State, p.Streaming = cluster.PostgresHung, false }), true, true, true},
		{"its answer is of long ago", func(o *Observation) { answers(o, "n2", ReachableFor+1, saysNo) }, true, true, true},
		{"its answer is just of late", func(o *Observation) { answers(o, "n2", ReachableFor, saysNo) }, false, true, false},
		{"it did not answer the last call", func(o *Observation) {
			answers(o, "n2", time.Second, func(p *cluster.PeerView) { saysNo(p); p.Err = "no answer" })
		}, true, true, true},
		{"it never answered", func(o *Observation) { delete(o.Peers, "n2") }, true, true, true},
	} {
		t.Run("S8 "+c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			if got := streams(o, member("n2")); got != c.streams {
				t.Errorf("streams %t, want %t", got, c.streams)
			}
			if got := able(o, member("n2")); got != c.able {
				t.Errorf("able at once %t, want %t", got, c.able)
			}
			o.DeniedSince = map[cluster.NodeID]cluster.Instant{"n2": o.Now.Add(-DenyAfter)}
			if got := able(o, member("n2")); got != c.late {
				t.Errorf("able after %v of denial %t, want %t", DenyAfter, got, c.late)
			}
		})
	}
}

// S8 in the rule: who denies is not added, and counts as unable only when it has said so for long; an old status alone
// never lowers k (S5).
func TestS8OwnAnswerInTheRule(t *testing.T) {
	deny := func(since time.Duration, names ...string) func(*Observation) {
		return func(o *Observation) {
			o.DeniedSince = map[cluster.NodeID]cluster.Instant{}
			for _, n := range names {
				answers(o, n, time.Second, saysNo)
				o.DeniedSince[cluster.NodeID(n)] = o.Now.Add(-since)
			}
		}
	}
	runRules(t, func() *Observation { return healthy("n1") }, WantedRule, []ruleCase{
		{"S8 not added while it denies", func(o *Observation) { count(o, 1, "n2"); deny(0, "n3")(o) }, "quorum 1 of n2"},
		{"S8 added when it agrees", func(o *Observation) { count(o, 1, "n2") }, "quorum 1 of n2 n3"},
		{"S8 who counts already stays", deny(time.Hour, "n3"), "quorum 1 of n2 n3"},
	})
	runRules(t, two, WantedRule, []ruleCase{
		{"S5 S8 denied for less than DenyAfter, lacking for long: k stays", func(o *Observation) {
			deny(DenyAfter-1, "n2")(o)
			lacking(o, time.Hour)
		}, "quorum 1 of n2"},
		{"S5 S8 denied for DenyAfter, lacking just now: k stays", func(o *Observation) {
			deny(DenyAfter, "n2")(o)
			lacking(o, LowerAfter-1)
		}, "quorum 1 of n2"},
		{"S5 S8 denied for DenyAfter, lacking for 3 s: k falls", func(o *Observation) {
			deny(DenyAfter, "n2")(o)
			lacking(o, LowerAfter)
		}, "quorum 0 of n2"},
	})
	o := two()
	deny(DenyAfter-1, "n2")(o)
	if Unable(o) {
		t.Error("S5: an answer that may be old makes commits count as stuck")
	}
	deny(DenyAfter, "n2")(o)
	if !Unable(o) {
		t.Error("S8: the only standby denies for long, and commits do not count as stuck")
	}
}

// S8: the agent is told who denies, of those that a walsender streams to.
func TestS8Denied(t *testing.T) {
	o := healthy("n1")
	if got := Denied(o); len(got) != 0 {
		t.Fatalf("denied by %v, want nobody", got)
	}
	answers(o, "n2", time.Second, saysNo)
	answers(o, "n3", time.Second, saysNo)
	gone(o, "n3") // nothing to deny
	if got := Denied(o); len(got) != 1 || got[0] != "n2" {
		t.Fatalf("denied by %v, want n2", got)
	}
}
