package raftfsm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

func recovery(edit func(*cluster.Recover)) cluster.Recover {
	c := cluster.Recover{Node: "n3", Member: life("n3"), ClusterID: "c-new", Time: "t"}
	if edit != nil {
		edit(&c)
	}
	return c
}

// B5: what an operator's word changes in the state, and when it is refused.
func TestB5Recover(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	old := m.View()
	for _, c := range []struct {
		name string
		edit func(*cluster.Recover)
		want string
	}{
		{"data of another life", func(c *cluster.Recover) { c.Member.Incarnation = "z" }, "registered incarnation"},
		{"data of another node", func(c *cluster.Recover) { c.Member = life("n2") }, "registered incarnation"},
		{"a node that nobody knows", func(c *cluster.Recover) { c.Node, c.Member = "n9", life("n9") }, "registered incarnation"},
		{"a timeline that is known already", func(c *cluster.Recover) { c.Forks = []cluster.Fork{{Timeline: 1, LSN: 7}} }, "timeline 1"},
		{"a timeline of an unknown parent", func(c *cluster.Recover) { c.Forks = []cluster.Fork{{Timeline: 8, Parent: 7, LSN: 7}} }, "timeline 8"},
		{"no new cluster id", func(c *cluster.Recover) { c.ClusterID = old.ClusterID }, "want another"},
	} {
		next := *old
		if out := apply(&next, recovery(c.edit)); out.refused == nil || !strings.Contains(out.refused.Reason, c.want) {
			t.Errorf("%s: %+v", c.name, out.refused)
		}
	}
	empty := *emptyView("main")
	if out := apply(&empty, recovery(nil)); out.refused == nil {
		t.Error("a cluster that never was is recovered")
	}
	next := *old
	if out := apply(&next, recovery(nil)); out.refused != nil {
		t.Fatal(out.refused)
	}
	if next.ClusterID != "c-new" || next.Key.Term != old.Key.Term+recoverTerms || !next.Key.Released || !slices.Equal(next.Committed, []cluster.NodeID{"n3"}) {
		t.Errorf("key %+v, cluster %s, voters %v", next.Key, next.ClusterID, next.Committed)
	}
	want := cluster.SyncRule{ID: old.Rules[len(old.Rules)-1].ID + 1, Term: next.Key.Term, Primary: life("n3"), Timeline: old.Key.Timeline,
		Standbys: []cluster.Member{}, Mode: old.Config.SynchronousMode}
	if !reflect.DeepEqual(next.Rules, []cluster.SyncRule{want}) || next.RulesVersion != old.RulesVersion+1 {
		t.Errorf("rules %+v", next.Rules)
	}
	for name, n := range next.Nodes {
		if (n.Incarnation != "") != (name == "n3") || (n.UID == old.Nodes[name].UID) != (name == "n3") || (n.UID == "") != (name != "n3") {
			t.Errorf("node %+v", n)
		}
	}
	last := next.Events[len(next.Events)-1]
	if last.Type != "recovered" || !strings.Contains(last.Detail, "gave up n1, n2") || !strings.Contains(last.Detail, "rule 1 of term 1") {
		t.Errorf("event %+v", last)
	}
	// The lost nodes' timelines are not used again: what they made since nobody here knows.
	acquire := cluster.AcquireLeader{Node: "n3", ExpectTerm: next.Key.Term, RulesVersion: next.RulesVersion, Member: life("n3"),
		Parent: old.Key.Timeline, Lease: testLease, Mode: cluster.SyncQuorum}
	if out := apply(&next, acquire); out.refused != nil || next.Key.Timeline <= old.Key.Timeline+recoverTimelines {
		t.Errorf("key %+v, %v", next.Key, out.refused)
	}
	if _, err := encodeCommand(recovery(nil)); err == nil {
		t.Error("a recovery can be proposed to a living cluster")
	}
}

// F3: a recovery goes on with data on timelines that nobody allotted: the state knows them then, and allots only higher numbers.
func TestF3RecoverOnTimelinesMadeByHand(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	at := m.View().Key.Timeline
	history := []cluster.Fork{{Timeline: at + 1, Parent: at, LSN: 500}, {Timeline: at + 2, Parent: at + 1, LSN: 600}}
	end := cluster.Position{Timeline: at + 2, LSN: 700, Parent: at + 1}
	forks, err := Unknown(m.View(), "n3", history, end)
	if err != nil || !reflect.DeepEqual(forks, history) {
		t.Fatalf("unknown: %v, %v", forks, err)
	}
	next := *m.View()
	if out := apply(&next, recovery(func(c *cluster.Recover) { c.Forks = forks })); out.refused != nil {
		t.Fatal(out.refused)
	}
	if !next.Forks.Counts("n3", end) || next.Forks.Counts("n2", end) || next.Forks.Counts("n3", cluster.Position{Timeline: at + 2, LSN: 700, Parent: at}) {
		t.Errorf("position %v: not its own data's alone; forks %v", end, next.Forks)
	}
	if _, known := m.View().Forks[at+1]; known {
		t.Error("the former state has it, too")
	}
	if forks, err := Unknown(&next, "n3", history, end); err != nil || len(forks) != 0 {
		t.Errorf("once it knows them: %v, %v", forks, err)
	}
	acquire := cluster.AcquireLeader{Node: "n3", ExpectTerm: next.Key.Term, RulesVersion: next.RulesVersion, Member: life("n3"),
		Parent: end.Timeline, Lease: testLease, Mode: cluster.SyncQuorum}
	if out := apply(&next, acquire); out.refused != nil || next.Key.Timeline <= at+2+recoverTimelines || next.Forks[next.Key.Timeline].Parent != at+2 {
		t.Errorf("key %+v, %v", next.Key, out.refused)
	}
	if out := apply(&next, cluster.RecordFork{Timeline: next.Key.Timeline, Parent: at + 2, LSN: 700}); out.refused != nil {
		t.Fatal(out.refused)
	}
	for pos, want := range map[cluster.Position]cluster.Relation{
		{Timeline: at, LSN: 499}:                                cluster.Prefix,   // it was never on anything made by hand
		{Timeline: at, LSN: 501}:                                cluster.Diverged, // it has what the one that goes on has not
		{Timeline: at + 1, LSN: 550, Parent: at}:                cluster.Diverged, // perhaps another promotion by hand, to the same number
		{Timeline: at + 1, LSN: 550}:                            cluster.Prefix,   // it is being streamed, by order
		{Timeline: at + 2, LSN: 650, Parent: at + 1}:            cluster.Diverged,
		{Timeline: next.Key.Timeline, LSN: 800, Parent: at + 2}: cluster.Prefix,
	} {
		if got := next.Forks.Relate(pos, next.Key.Timeline); got != want {
			t.Errorf("%+v stands to timeline %d as %v, want %v", pos, next.Key.Timeline, got, want)
		}
		if _, counts := next.Forks.TermOf(pos); counts != (pos.Timeline == at || pos.Timeline == next.Key.Timeline || pos.Parent == 0) {
			t.Errorf("%+v counts: %v", pos, counts)
		}
	}
}

// F3: the node that a timeline was adopted with is lost, too, and another one that ends on it is what is left: the timeline is adopted
// anew, with that one's data.
func TestF3RecoverOnAnAdoptedTimeline(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	at := m.View().Key.Timeline
	history := []cluster.Fork{{Timeline: at + 1, Parent: at, LSN: 500}, {Timeline: at + 2, Parent: at + 1, LSN: 600}}
	end := cluster.Position{Timeline: at + 2, LSN: 700, Parent: at + 1}
	view := *m.View()
	if out := apply(&view, recovery(func(c *cluster.Recover) { c.Forks = history })); out.refused != nil {
		t.Fatal(out.refused)
	}
	view.Nodes = with(view.Nodes, "n2", m.View().Nodes["n2"])
	forks, err := Unknown(&view, "n2", history, end)
	if err != nil || !reflect.DeepEqual(forks, history) {
		t.Fatalf("for n2: %v, %v", forks, err)
	}
	again := recovery(func(c *cluster.Recover) {
		c.Node, c.Member, c.ClusterID, c.Forks = "n2", life("n2"), "c-newer", forks
	})
	if out := apply(&view, again); out.refused != nil {
		t.Fatal(out.refused)
	}
	if !view.Forks.Counts("n2", end) || view.Forks.Counts("n3", end) {
		t.Errorf("forks %+v", view.Forks)
	}
	if forks, err := Unknown(&view, "n2", history, end); err != nil || len(forks) != 0 {
		t.Errorf("once more: %v, %v", forks, err)
	}
}

// F3: a history that contradicts the state, or says too little, is nothing to go on with.
func TestF3UnknownTimelines(t *testing.T) {
	t.Parallel()
	v := &cluster.View{Forks: cluster.Forks{1: {Timeline: 1}, 3: {Timeline: 3, Parent: 1, LSN: 300}, 5: {Timeline: 5, Parent: 3}}}
	fork := func(t, parent cluster.Timeline, at cluster.LSN) cluster.Fork {
		return cluster.Fork{Timeline: t, Parent: parent, LSN: at}
	}
	for name, tt := range map[string]struct {
		history []cluster.Fork
		end     cluster.Timeline
		want    []cluster.Timeline
		fault   string
	}{
		"the first timeline":                         {end: 1},
		"an allotted one":                            {history: []cluster.Fork{fork(3, 1, 300)}, end: 3},
		"an allotted one whose fork is not there":    {history: []cluster.Fork{fork(3, 1, 300), fork(5, 3, 500)}, end: 5},
		"where its WAL ends is not known":            {history: []cluster.Fork{fork(3, 1, 300)}},
		"made by hand":                               {history: []cluster.Fork{fork(3, 1, 300), fork(4, 3, 400)}, end: 4, want: []cluster.Timeline{4}},
		"made by hand three times":                   {history: []cluster.Fork{fork(3, 1, 300), fork(6, 3, 400), fork(7, 6, 401), fork(8, 7, 402)}, end: 8, want: []cluster.Timeline{6, 7, 8}},
		"a number that was allotted to another":      {history: []cluster.Fork{fork(2, 1, 200), fork(3, 2, 300)}, end: 3, fault: "timeline 3 left 2"},
		"another parent, the fork not recorded":      {history: []cluster.Fork{fork(3, 1, 300), fork(5, 1, 500)}, end: 5, fault: "timeline 5 left 1"},
		"another fork of an allotted number":         {history: []cluster.Fork{fork(3, 1, 299)}, end: 3, fault: "timeline 3 left 1"},
		"an allotted number behind one made by hand": {history: []cluster.Fork{fork(3, 1, 300), fork(4, 3, 400), fork(5, 4, 500)}, end: 5, fault: "timeline 5 left 4"},
		"the beginning of its history is not there":  {history: []cluster.Fork{fork(9, 8, 900)}, end: 9, fault: "knows neither"},
		"no history at all":                          {end: 4, fault: "timeline 4"},
	} {
		forks, err := Unknown(v, "n3", tt.history, cluster.Position{Timeline: tt.end, LSN: 1000})
		var got []cluster.Timeline
		for _, f := range forks {
			got = append(got, f.Timeline)
		}
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestLosses(t *testing.T) {
	t.Parallel()
	rule := func(id uint64, term cluster.Term, primary cluster.NodeID, k int, standbys ...cluster.NodeID) cluster.SyncRule {
		r := cluster.SyncRule{ID: id, Term: term, Primary: life(primary), K: k}
		for _, s := range standbys {
			r.Standbys = append(r.Standbys, life(s))
		}
		return r
	}
	for _, c := range []struct {
		name  string
		rules []cluster.SyncRule
		want  []string // a part of each
	}{
		{"one of two confirmed", []cluster.SyncRule{rule(1, 1, "n1", 1, "n2", "n3")}, []string{"may be on n1, n2 only"}},
		{"all confirmed", []cluster.SyncRule{rule(1, 1, "n1", 2, "n2", "n3")}, nil},
		{"its own primary", []cluster.SyncRule{rule(1, 1, "n3", 1, "n1", "n2")}, nil},
		{"not in the rule", []cluster.SyncRule{rule(1, 1, "n1", 1, "n2")}, []string{"may be on n1, n2 only"}},
		{"it acquired later", []cluster.SyncRule{rule(1, 1, "n1", 1, "n2"), rule(2, 2, "n3", 1, "n1", "n2")}, nil},
		{"two rules", []cluster.SyncRule{rule(1, 1, "n1", 0), rule(2, 2, "n2", 1, "n1", "n3")}, []string{"may be on n1 only", "may be on n2, n1 only"}},
	} {
		got := Losses(&cluster.View{Rules: c.rules}, life("n3"))
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", c.name, got[i], c.want[i])
			}
		}
	}
}

// A cluster of three loses two for good. The third goes on alone, with all of its state; those that come back as they were are
// refused, and one that comes back empty is taken in.
func TestRecoverAlone(t *testing.T) {
	t.Parallel()
	p := newPrepared(t, "n1", "n2", "n3")
	p.start("n1", "n2", "n3")
	p.leader()
	p.register()
	for _, cmd := range []cluster.Command{
		cluster.Claim{Node: "n1", ClusterID: "c-old", Config: testConfig()}, cluster.SetSystemID{Node: "n1", SystemID: "77"},
		cluster.AcquireLeader{Node: "n1", Member: life("n1"), Lease: testLease, Mode: cluster.SyncQuorum, Standbys: []cluster.Member{life("n2"), life("n3")}, K: 1, RulesVersion: 0},
	} {
		p.onLeader("the state of a cluster that runs", func(ctx context.Context, leader *Node) error {
			_, err := leader.Apply(ctx, cmd)
			return err
		})
	}
	eventually(t, "n3 has it all", func() bool { return p.nodes["n3"].View().Key.Term == 1 })
	dir, addr := p.dirs["n3"], p.members["n3"]
	if _, err := ReadRemains(dir, "test"); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a store in use was read: %v", err)
	}
	p.stop("n1", "n2", "n3")
	remains, err := ReadRemains(dir, "test")
	if err != nil || !slices.Equal(remains.Voters, []cluster.NodeID{"n1", "n2", "n3"}) || remains.View.Key.Holder != "n1" || remains.View.ClusterID != "c-old" {
		t.Fatalf("remains %+v, %v", remains, err)
	}
	if _, err := RecoverAlone(dir, "test", addr, recovery(func(c *cluster.Recover) { c.Member.Incarnation = "z" })); err == nil {
		t.Error("recovered with data that the cluster does not know")
	}
	if remains, err := ReadRemains(dir, "test"); err != nil || remains.BrokenOff {
		t.Errorf("after a refusal: %+v, %v", remains, err)
	}
	kept, err := RecoverAlone(dir, "test", addr, recovery(func(c *cluster.Recover) { c.ClusterID = "c-first" }))
	if err != nil {
		t.Fatal(err)
	}
	if used, err := inspect(kept); err != nil || !used {
		t.Errorf("the store as it was: used %t, %v", used, err)
	}
	was, _, err := readIdentity(kept)
	is, _, err2 := readIdentity(dir)
	if err := errors.Join(err, err2); err != nil || was.Cluster != "c-old" || is.Cluster != "c-first" || is.Known != nil || is.Founders != nil || is.UID != was.UID {
		t.Errorf("identity was %+v, is %+v, %v", was, is, err)
	}
	log, err := os.ReadFile(filepath.Join(kept, logFile)) // as a recovery leaves it that ends between the new snapshot and the old log
	if err != nil {
		t.Fatal(err)
	}
	was.Recovering = true
	if err := errors.Join(os.WriteFile(filepath.Join(dir, storeDir, logFile), log, 0o600), was.write(dir)); err != nil {
		t.Fatal(err)
	}
	if remains, err := ReadRemains(dir, "test"); err != nil || !slices.Equal(remains.Voters, []cluster.NodeID{"n3"}) || !remains.BrokenOff {
		t.Errorf("broken off: %+v, %v", remains, err)
	}
	p.listen("n3")
	if n, err := Open(t.Context(), p.options("n3")); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Fatalf("an agent started on a recovery that was broken off: %v, %v", n, err)
	}
	if err := p.lns["n3"].Close(); err != nil {
		t.Fatal(err)
	}
	delete(p.lns, "n3")
	if _, err := RecoverAlone(dir, "test", addr, recovery(nil)); err != nil {
		t.Fatal(err)
	}
	if id, _, err := readIdentity(dir); err != nil || id.Cluster != "c-new" || id.Known != nil || id.Recovering {
		t.Errorf("done again: %+v, %v", id, err)
	}
	p.start("n3")
	n3 := p.leader()
	if v := n3.View(); v.ClusterID != "c-new" || v.SystemID != "77" || v.Key.Term != 1+2*recoverTerms || len(v.Events) < 4 || n3.Status().Term <= remains.Term {
		t.Errorf("view %+v, raft term %d, was %d", v, n3.Status().Term, remains.Term)
	}
	if _, _, ok := n3.LeaseEnd(time.Second); !ok {
		t.Error("n3 alone is no quorum of its own: the old voters count")
	}
	p.start("n1", "n2") // as they were: they have a quorum of the old cluster, and nothing to do with the new one
	var refused *HelloError
	eventually(t, "the old cluster's nodes are refused", func() bool {
		_, there := n3.DialPeer(t.Context(), "n1")
		_, back := p.nodes["n1"].DialPeer(t.Context(), "n3")
		return there != nil && errors.As(back, &refused) && strings.Contains(refused.Reason, "cluster id")
	})
	never(t, "n3 takes part in the old cluster", func() bool { return !slices.Equal(n3.Status().Voters, []cluster.NodeID{"n3"}) })
	p.stop("n1", "n2")
	p.wipe("n2", false)
	p.start("n2")
	p.onLeader("n2 is taken in", func(ctx context.Context, leader *Node) error {
		all := leader.Applicants()
		if len(all) != 1 {
			return ErrNotLeader
		}
		return takeIn(ctx, leader, all[0])
	})
	eventually(t, "a cluster of two", func() bool {
		return p.nodes["n2"].View().ClusterID == "c-new" && len(p.nodes["n2"].Status().Voters) == 2
	})
	if _, err := ReadRemains(t.TempDir(), "test"); !errors.Is(err, ErrNoState) {
		t.Errorf("an empty store: %v", err)
	}
	if kept, err := filepath.Glob(filepath.Join(dir, "raft.before-recover-*")); err != nil || len(kept) != 3 { // one refused, two done
		t.Errorf("kept %v, %v", kept, err)
	}
}
