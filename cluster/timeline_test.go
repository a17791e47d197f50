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
		{"same timeline", Position{4, 9000}, 4, Prefix},
		{"at the fork", Position{2, 800}, 4, Prefix},
		{"past the fork", Position{2, 801}, 4, Diverged},
		{"grandparent", Position{1, 500}, 4, Prefix},
		{"grandparent, past the fork", Position{1, 501}, 4, Diverged},
		{"sibling", Position{3, 900}, 4, Diverged},
		{"fork not recorded", Position{4, 900}, 5, Unknown},
		{"F3 never allotted", Position{9, 1}, 4, Diverged},
		{"no position", Position{}, 4, Unknown},
		{"target never allotted", Position{2, 1}, 9, Diverged},
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
		{"parent", 2, 4, Position{2, 800}},
		{"grandparent", 1, 4, Position{1, 500}},
		{"sibling that left later", 3, 4, Position{2, 800}},
		{"sibling that left earlier", 4, 3, Position{2, 800}},
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
		{"V4 a later term wins over a higher LSN", Position{4, 10}, Position{3, 9000}, 1},
		{"same timeline", Position{4, 10}, Position{4, 11}, -1},
		{"equal", Position{4, 10}, Position{4, 10}, 0},
		{"F3 never allotted is lowest", Position{9, 9000}, Position{1, 1}, -1},
	} {
		if got := testForks.Compare(c.a, c.b); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if got := testForks.Compare(c.b, c.a); got != -c.want {
			t.Errorf("%s, turned round: %d, want %d", c.name, got, -c.want)
		}
	}
}
