package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

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
