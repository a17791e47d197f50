package cluster

import "testing"

// forks: 1 -> 2 at 500, 2 -> 3 at 900, 2 -> 4 at 800 (3 was left behind), 5 allotted from 4 and not recorded.
var testForks = Forks{
	1: {Timeline: 1, Term: 1},
	2: {Timeline: 2, Parent: 1, LSN: 500, Term: 3},
	3: {Timeline: 3, Parent: 2, LSN: 900, Term: 4},
	4: {Timeline: 4, Parent: 2, LSN: 800, Term: 5},
	5: {Timeline: 5, Parent: 4, Term: 6},
}

func TestRelate(t *testing.T) {
	for _, c := range []struct {
		name   string
		pos    Position
		target Timeline
		want   Relation
	}{
		{"same timeline", Position{Timeline: 4, LSN: 9000}, 4, Prefix},
		{"at the fork", Position{Timeline: 2, LSN: 800}, 4, Prefix},
		{"past the fork", Position{Timeline: 2, LSN: 801}, 4, Diverged},
		{"grandparent", Position{Timeline: 1, LSN: 500}, 4, Prefix},
		{"grandparent, past the fork", Position{Timeline: 1, LSN: 501}, 4, Diverged},
		{"sibling", Position{Timeline: 3, LSN: 900}, 4, Diverged},
		{"fork not recorded", Position{Timeline: 4, LSN: 900}, 5, Unknown},
		{"F3 never allotted", Position{Timeline: 9, LSN: 1}, 4, Diverged},
		{"no position", Position{}, 4, Unknown},
		{"own parent agrees", Position{Timeline: 4, LSN: 9000, Parent: 2}, 4, Prefix},
		{"F3 an allotted number by hand", Position{Timeline: 4, LSN: 9000, Parent: 3}, 4, Diverged},
		{"F3 an allotted number by hand, before the fork", Position{Timeline: 4, LSN: 1, Parent: 3}, 5, Diverged},
		{"F3 an ancestor's number by hand", Position{Timeline: 2, LSN: 700, Parent: 9}, 4, Diverged},
		{"F3 an allotted number by hand, of a fork that was given up unrecorded", Position{Timeline: 5, LSN: 950, Parent: 3}, 4, Diverged},
		{"F3 an allotted number by hand, its parent not confirmed", Position{Timeline: 5, LSN: 950, Parent: 3}, 5, Unknown},
		{"target never allotted", Position{Timeline: 2, LSN: 1}, 9, Diverged},
	} {
		if got := testForks.Relate(c.pos, c.target); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDivergence(t *testing.T) {
	for _, c := range []struct {
		name         string
		from, target Timeline
		want         Position
	}{
		{"parent", 2, 4, Position{Timeline: 2, LSN: 800}},
		{"grandparent", 1, 4, Position{Timeline: 1, LSN: 500}},
		{"sibling that left later", 3, 4, Position{Timeline: 2, LSN: 800}},
		{"sibling that left earlier", 4, 3, Position{Timeline: 2, LSN: 800}},
		{"unknown", 9, 4, Position{}},
	} {
		if got := testForks.Divergence(c.from, c.target); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Position
		want int
	}{
		{"V4 a later term wins over a higher LSN", Position{Timeline: 4, LSN: 10}, Position{Timeline: 3, LSN: 9000}, 1},
		{"same timeline", Position{Timeline: 4, LSN: 10}, Position{Timeline: 4, LSN: 11}, -1},
		{"equal", Position{Timeline: 4, LSN: 10}, Position{Timeline: 4, LSN: 10}, 0},
		{"F3 never allotted is lowest", Position{Timeline: 9, LSN: 9000}, Position{Timeline: 1, LSN: 1}, -1},
		{"F3 an allotted number by hand is as low", Position{Timeline: 4, LSN: 9000, Parent: 3}, Position{Timeline: 1, LSN: 1}, -1},
	} {
		if got := testForks.Compare(c.a, c.b); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if got := testForks.Compare(c.b, c.a); got != -c.want {
			t.Errorf("%s, turned round: %d, want %d", c.name, got, -c.want)
		}
	}
}
