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
		lost := map[bool]map[string]int{true: {}, false: {}} // as the first of a step, as the second
		d := NewDraw(1, nodes)
		for range 5000 {
			s := d.Next()
			faults := []Fault{s.First}
			if s.Second != nil {
				faults = append(faults, *s.Second)
				pairs++
				if s.First.loses() && s.Second.loses() {
					t.Fatalf("two hosts lose something in one step: %v, %v", s.First, s.Second)
				}
			}
			for i, f := range faults {
				seen[f.Kind+" "+f.What] = true
				if f.loses() {
					lost[i == 0][f.Kind]++
				}
				if f.Length < minFault || f.Length > maxFault || f.Target < 0 || f.Target >= nodes || f.Peer == f.Target || f.Peer < 0 || f.Peer >= nodes {
					t.Fatalf("out of bounds: %+v", f)
				}
			}
			if s.loses() && !s.Converge {
				t.Fatalf("no wait for a whole cluster after a loss: %+v", s)
			}
		}
		for first, kinds := range lost {
			if len(kinds) != 3 {
				t.Errorf("%d nodes: want all three kinds of losses, first of a step %t: %v", nodes, first, kinds)
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

// A step loses something with either of its faults.
func TestStepLoses(t *testing.T) {
	t.Parallel()
	kill, data, raft, both := Fault{Kind: faultKill}, Fault{Kind: faultLoseData}, Fault{Kind: faultLoseRaft}, Fault{Kind: faultReplaced}
	for _, tt := range []struct {
		step Step
		want bool
	}{
		{Step{First: kill}, false}, {Step{First: kill, Second: &kill}, false},
		{Step{First: data}, true}, {Step{First: raft, Second: &kill}, true}, {Step{First: both}, true}, {Step{First: kill, Second: &both}, true},
	} {
		if tt.step.loses() != tt.want {
			t.Errorf("%v, %v: want %t", tt.step.First, tt.step.Second, tt.want)
		}
	}
}
