package integration

import (
	"reflect"
	"testing"
)

// The same seed draws the same steps; another one draws others.
func TestDrawRepeats(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (steps []Step) {
		d := NewDraw(seed, 3)
		for range 50 {
			steps = append(steps, d.Next())
		}
		return steps
	}
	if !reflect.DeepEqual(draw(7), draw(7)) {
		t.Error("seed 7 draws one thing and then another")
	}
	if reflect.DeepEqual(draw(7), draw(8)) {
		t.Error("seeds 7 and 8 draw the same")
	}
}

// What is drawn stays within what a cluster must bear, and every kind with every part of it comes up.
func TestDrawBounds(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		seen, pairs := map[string]bool{}, 0
		d := NewDraw(1, nodes)
		for range 5000 {
			s := d.Next()
			faults := []Fault{s.First}
			if s.Second != nil {
				faults = append(faults, *s.Second)
				pairs++
				if s.Second.loses() {
					t.Fatalf("a data directory is lost beside another fault's beginning: %v, %v", s.First, s.Second)
				}
			}
			for _, f := range faults {
				seen[f.Kind+" "+f.What] = true
				if f.Length < minFault || f.Length > maxFault || f.Target < 0 || f.Target >= nodes || f.Peer == f.Target || f.Peer < 0 || f.Peer >= nodes {
					t.Fatalf("out of bounds: %+v", f)
				}
			}
			if s.First.loses() && !s.Converge {
				t.Fatalf("no wait for a whole cluster after a lost data directory: %+v", s)
			}
		}
		for _, k := range kinds {
			for _, what := range append(k.what, []string{""}[:max(0, 1-len(k.what))]...) {
				if !seen[k.kind+" "+what] {
					t.Errorf("%d nodes: never drawn: %s (%s)", nodes, k.kind, what)
				}
			}
		}
		if pairs < 1500 || pairs > 2500 {
			t.Errorf("%d nodes: %d pairs of 5000, want about %.0f %%", nodes, pairs, 100*chancePair)
		}
	}
}
