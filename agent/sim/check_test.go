package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// told gives a world to which nothing has happened, for checks alone.
func told() *World { return &World{history: newHistory()} }

// grown is WAL of some rows on a timeline, after other WAL.
func grown(before wal, tli cluster.Timeline, rows ...int64) wal {
	w := before.clone()
	if w.forks == nil {
		w.forks = map[cluster.Timeline]cluster.Fork{}
	}
	if w.end().Timeline != tli {
		w.switchTo(tli)
	}
	for _, row := range rows {
		w.append(tli, 1000*int64(tli)+row, row)
	}
	return w
}

// keyOf is a key as a view shows it.
func keyOf(t cluster.Term, holder cluster.NodeID, life cluster.Incarnation, tli cluster.Timeline) cluster.LeaderKey {
	return cluster.LeaderKey{Holder: holder, Member: cluster.Member{Node: holder, Incarnation: life}, Term: t, Timeline: tli}
}

// mayConfirm lets a standby send a confirmation.
func (w *World) mayConfirm(node cluster.NodeID, to agent.Source) {
	if wrong := w.cannotConfirm(node, to); wrong != "" {
		w.violated("%s", wrong)
	}
}

// Each promise that the simulation looks after, broken by hand: the check must see it, and nothing else.
func TestChecksSeeWhatIsBroken(t *testing.T) {
	one := grown(wal{}, 1, 1, 2, 3)
	two := grown(wal{records: one.records[:2], forks: one.forks}, 2, 4)
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	last := func(w wal) record { return w.records[len(w.records)-1] }
	for name, tt := range map[string]struct {
		play func(w *World)
		want string
	}{
		"nothing": {func(w *World) {
			w.acknowledged("n1", one.records[0], at(1))
			w.promoted("n2", 2, &two, at(20))
			w.acknowledged("n2", last(two), at(21))
			w.acknowledged("n1", one.records[1], at(19)) // confirmed before the cut, told of late
		}, ""},
		"P2 a row is lost at a promotion": {func(w *World) {
			w.acknowledged("n1", one.records[2], at(19))
			w.promoted("n2", 2, &two, at(20))
		}, "P2: row 3"},
		"P2 acknowledged after the promotion, and lost": {func(w *World) {
			w.promoted("n2", 2, &two, at(20))
			w.acknowledged("n1", one.records[2], at(19))
		}, "P2: n1 acknowledged row 3"},
		"P1 two at once": {func(w *World) {
			w.promoted("n2", 2, &two, at(20))
			w.acknowledged("n1", one.records[1], at(21))
		}, "P1: n1 acknowledged row 2 on timeline 1, first confirmed 1s after n2"},
		"P1 two on one timeline": {func(w *World) {
			w.acknowledged("n1", one.records[0], at(1))
			w.acknowledged("n2", one.records[1], at(2))
		}, "P1: n2 and n1 both"},
		"P1 two on one timeline, and a late one between": {func(w *World) {
			w.promoted("n2", 2, &two, at(20))
			w.acknowledged("n2", two.records[2], at(21))
			w.acknowledged("n1", one.records[1], at(19))
			w.acknowledged("n3", two.records[2], at(22))
		}, "P1: n3 and n2 both acknowledged on timeline 2"},
		"F1 one number twice": {func(w *World) {
			w.promoted("n2", 2, &two, at(20))
			w.promoted("n3", 2, &two, at(20))
		}, "F1: n2 and n3"},
		"a promotion that was slept through": {func(w *World) {
			three := grown(two, 3)
			w.promoted("n3", 3, &three, at(30))
			w.promoted("n2", 2, &two, at(20))
		}, ""},
		"P2 a promotion that was slept through, and acknowledges": {func(w *World) {
			three := grown(wal{records: one.records[:2], forks: one.forks}, 3)
			w.promoted("n3", 3, &three, at(30))
			w.promoted("n2", 2, &two, at(20))
			w.acknowledged("n2", last(two), at(29))
		}, "P2: n2 acknowledged row 4"},
		"a term is one holder's": {func(w *World) {
			w.named("n1", keyOf(4, "n1", "a", 1))
			w.armed("n1", 4)
			w.named("n1", keyOf(5, "n2", "a", 2))
			w.named("n3", keyOf(4, "n1", "a", 1)) // it comes later to the same
			w.named("n2", keyOf(6, "n2", "a", 2)) // again in place
			w.armed("n2", 6)
			w.forked("n2", cluster.Fork{Timeline: 2, Parent: 1, Node: "n2", Term: 5})
		}, ""},
		"K7 a term of two holders": {func(w *World) {
			w.named("n1", keyOf(5, "n1", "a", 2))
			w.named("n1", keyOf(6, "n1", "a", 3)) // no process ever sees its own term fall
			w.named("n2", keyOf(5, "n2", "a", 2))
			w.named("n2", keyOf(5, "n2", "a", 2))
		}, "K7: term 5 is n2_a's on timeline 2 by the view of n2, and was n1_a's"},
		"K7 a term of two lives": {func(w *World) {
			w.named("n1", keyOf(5, "n1", "a", 2))
			w.named("n2", keyOf(5, "n1", "b", 2))
		}, "K7: term 5 is n1_b's"},
		"F1 a term of two timelines": {func(w *World) {
			w.named("n1", keyOf(5, "n1", "a", 2))
			w.named("n2", keyOf(5, "n1", "a", 3))
		}, "K7: term 5 is n1_a's on timeline 3 by the view of n2"},
		"F1 a timeline of another's term": {func(w *World) {
			w.named("n1", keyOf(5, "n1", "a", 2))
			w.named("n2", keyOf(6, "n2", "a", 3))
			w.forked("n2", cluster.Fork{Timeline: 4, Parent: 1, Node: "n2", Term: 5})
		}, "F1: timeline 4 of term 5 is n2's"},
		"L2 leases of one term on two nodes": {func(w *World) {
			w.armed("n1", 5)
			w.armed("n2", 5)
		}, "L2: the guards of n1 and n2 both"},
		"L2 a lease of another's term": {func(w *World) {
			w.named("n3", keyOf(5, "n1", "a", 2))
			w.armed("n2", 5)
		}, "L2: the guard of n2 has a lease of term 5, which is n1's"},
		"L2 a lease of what is another's term later": {func(w *World) {
			w.armed("n2", 5)
			w.named("n3", keyOf(5, "n1", "a", 2))
		}, "L2: term 5 is n1's by the view of n3, and n2's guard"},
		"K7 a promotion under the promise of an earlier term": {func(w *World) {
			w.promises("n2", 5)
			w.named("n2", keyOf(6, "n2", "a", 2))
			w.promoted("n2", 2, &two, at(20))
		}, "K7: n2 is promoted to timeline 2 of term 6, and has promised term 5 at most"},
		"a promise, and what follows": {func(w *World) {
			w.named("n1", keyOf(4, "n1", "a", 1))
			w.mayConfirm("n3", agent.Source{Node: "n1", Term: 4})
			w.promises("n3", 6)
			w.mayConfirm("n3", agent.Source{Node: "n2", Term: 6, CatchUp: true}) // nobody's key yet
			w.named("n1", keyOf(6, "n2", "a", 2))
			w.mayConfirm("n3", agent.Source{Node: "n2", Term: 6})
			w.promises("n3", 8)
			w.unpromised("n3") // with its life
			w.mayConfirm("n3", agent.Source{Node: "n2", Term: 6})
		}, ""},
		"V2 a confirmation after the promise": {func(w *World) {
			w.named("n1", keyOf(4, "n1", "a", 1))
			w.promises("n3", 5)
			w.promises("n3", 4) // asked anew, by one who came late
			w.mayConfirm("n3", agent.Source{Node: "n1", Term: 4})
		}, "V2: n3 confirms to n1 under term 4 after it has promised term 5"},
		"V2 a confirmation after the promise, under a borrowed term": {func(w *World) {
			w.named("n1", keyOf(4, "n1", "a", 1))
			w.promises("n3", 5)
			w.mayConfirm("n3", agent.Source{Node: "n1", Term: 5})
		}, "V2: n3 confirms to n1, which never held a term after 4, after it has promised term 5"},
	} {
		t.Run(name, func(t *testing.T) {
			w := told()
			tt.play(w)
			got := w.Violations()
			if tt.want == "" && len(got) != 0 || tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)) {
				t.Errorf("violations %q, want %q", got, tt.want)
			}
		})
	}
}

// A walsender serves who is a prefix by timeline and LSN, and nobody else.
func TestServes(t *testing.T) {
	one := grown(wal{}, 1, 1, 2, 3)
	two := grown(wal{records: one.records[:2], forks: one.forks}, 2, 4, 5)
	for name, tt := range map[string]struct {
		from wal
		end  cluster.Position
		ok   bool
	}{
		"a beginner":             {two, cluster.Position{}, true},
		"at the end":             {two, two.end(), true},
		"before the fork":        {two, cluster.Position{Timeline: 1, LSN: recordSize}, true},
		"at the fork":            {two, cluster.Position{Timeline: 1, LSN: 2 * recordSize}, true},
		"past the fork":          {two, one.end(), false},
		"ahead":                  {one, two.end(), false},
		"on an unknown timeline": {one, cluster.Position{Timeline: 2, LSN: 3 * recordSize}, false},
	} {
		if err := tt.from.serves(tt.end); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := two.history(); !slices.Equal(got, []cluster.Fork{{Timeline: 1}, {Timeline: 2, Parent: 1, LSN: 2 * recordSize}}) {
		t.Errorf("history %v", got)
	}
}
