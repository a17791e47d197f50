package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"pgquorum/cluster"
	"pgquorum/config"
	"pgquorum/pgctl"
	"pgquorum/raftfsm"
)

// left is what stands on n3 after n1, the holder, and n2 were lost.
func left() *survivor {
	me := cluster.Member{Node: "n3", Incarnation: "a"}
	v := &cluster.View{
		Scope: "main", ClusterID: "c1", SystemID: "77", Forks: cluster.Forks{1: {Timeline: 1, Term: 1}, 2: {Timeline: 2, Term: 4, Parent: 1}},
		Key:   cluster.LeaderKey{Holder: "n1", Term: 4, Timeline: 2},
		Nodes: map[cluster.NodeID]cluster.Node{"n1": {Name: "n1", UID: "u1"}, "n2": {Name: "n2", UID: "u2"}, "n3": {Name: "n3", UID: "u3", Incarnation: "a"}},
		Rules: []cluster.SyncRule{{ID: 7, Term: 4, Primary: cluster.Member{Node: "n1"}, Standbys: []cluster.Member{{Node: "n2"}, me}, K: 1}},
	}
	return &survivor{
		conf:    &config.Config{Name: "n3", Scope: "main"},
		remains: raftfsm.Remains{View: v, Voters: []cluster.NodeID{"n1", "n2", "n3"}, Term: 9},
		data:    pgctl.Left{Data: cluster.DataOurs, Member: me, SystemID: "77", Position: cluster.Position{Timeline: 2, LSN: 1 << 24}},
		others:  []string{"n1", "n2"},
	}
}

func TestRecoverShowsTheLoss(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := recoverOptions{env: environment{Out: &out}}
	o.show(left())
	for _, part := range []string{"id c1", "n1, term 4, timeline 2", "ends at 0/1000000 on timeline 2", "GIVEN UP FOR GOOD: n1, n2", "rule 7 of term 4", "may be on n1, n2 only"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in\n%s", part, out.String())
		}
	}
}

func TestRecoverAsksTwice(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"y\nmain\n": "", "yes\nmain\n": "", "y\n": "no answer", "": "no answer", "n\nmain\n": "not confirmed", "y\ny\n": "not confirmed", "main\nmain\n": "not confirmed",
	} {
		var out bytes.Buffer
		o := recoverOptions{env: environment{In: strings.NewReader(typed), Out: &out}}
		err := o.confirm(t.Context(), left())
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing was changed")) {
			t.Errorf("typed %q: %v, want %q", typed, err, want)
		}
		if err == nil && (!strings.Contains(out.String(), "n1, n2") || !strings.Contains(out.String(), "main: ")) {
			t.Errorf("asked %q", out.String())
		}
	}
}

func TestRecoverObstacles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*survivor)
		want string
	}{
		{"all is lost but this", func(*survivor) {}, ""},
		{"no primary ever", func(s *survivor) { s.remains.View.SystemID = "" }, "never had a primary"},
		{"no data", func(s *survivor) { s.data.Data, s.data.Member = cluster.DataAbsent, cluster.Member{} }, "choose another node"},
		{"data of nobody", func(s *survivor) {
			s.data.Data, s.data.Detail, s.data.Member = cluster.DataUnclaimed, "no id", cluster.Member{}
		}, "unclaimed (no id)"},
		{"data whose promises are lost", func(s *survivor) { s.data.Data = cluster.DataUnclaimed }, ""},
		{"alone already, its promises are lost", func(s *survivor) {
			s.remains.Voters, s.data.Data = s.remains.Voters[2:], cluster.DataUnclaimed
		}, ""},
		{"alone already, broken off", func(s *survivor) { s.remains.Voters, s.remains.BrokenOff = s.remains.Voters[2:], true }, ""},
		{"another life", func(s *survivor) { s.data.Member.Incarnation = "b" }, `"b"`},
		{"data on a timeline of which nobody knows where it began", func(s *survivor) { s.data.Position.Timeline = 3 }, "timeline 3"},
		{"data on timelines that somebody made by hand", func(s *survivor) {
			s.data.Position.Timeline = 4
			s.data.Forks = []cluster.Fork{{Timeline: 2, Parent: 1, LSN: 100}, {Timeline: 3, Parent: 2, LSN: 200}, {Timeline: 4, Parent: 3, LSN: 300}}
		}, ""},
		{"alone already, and somebody promoted by hand", func(s *survivor) {
			s.remains.Voters, s.others = s.remains.Voters[2:], nil
			s.data.Position.Timeline = 3
			s.data.Forks = []cluster.Fork{{Timeline: 2, Parent: 1, LSN: 100}, {Timeline: 3, Parent: 2, LSN: 200}}
		}, ""},
		{"data on another timeline of an allotted number", func(s *survivor) {
			s.data.Forks = []cluster.Fork{{Timeline: 2, Parent: 9, LSN: 100}}
		}, "timeline 2 left 9"},
		{"where the data ends is not known", func(s *survivor) { s.data.Position = cluster.Position{} }, ""},
		{"alone already", func(s *survivor) { s.remains.Voters = s.remains.Voters[2:] }, "start its agent"},
	} {
		s := left()
		c.edit(s)
		err := (&recoverOptions{}).obstacle(t.Context(), s)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestRecoverUsage(t *testing.T) {
	t.Parallel()
	if got := run(t, "recover"); got.code != exitUsage || !strings.Contains(got.err, "nobody to ask") {
		t.Errorf("exit %d, %s", got.code, got.err)
	}
	want := "/nowhere/node.yml"
	if os.Geteuid() == 0 {
		want = "started as root"
	}
	if got := run(t, "recover", "--dry-run", "/nowhere/node.yml"); got.code != exitFailed || !strings.Contains(got.err, want) {
		t.Errorf("exit %d, %s", got.code, got.err)
	}
}
