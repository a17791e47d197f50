package sim_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestV5LostLifeIsReplaced: one standby's host is gone, and the other has lost its data, or the promises without which its
// data is nobody's. The rules name both and nobody can settle them, yet the node that is there gets a new life and
// commits go on, with the first still away (ADR 0032).
func TestV5LostLifeIsReplaced(t *testing.T) {
	for _, what := range []string{sim.LostData, sim.LostPromises} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				back, err := w.LoseStandbys(what)
				if err != nil {
					t.Fatal(err)
				}
				if err := w.AwaitCommit(settle); err != nil {
					t.Errorf("with the other standby away: %v", err)
				}
				if err := back(); err != nil {
					t.Fatal(err)
				}
				if err := w.AwaitConverged(settle); err != nil {
					t.Error(err)
				}
				w.CheckEnd()
			})
		})
	}
}

// TestB5PrimaryLostDuringARewind: one standby is half-rewound and the primary loses its votes and its promises. Only a person
// can decide: the others wait, and say for whom. No schedule draws that.
func TestB5PrimaryLostDuringARewind(t *testing.T) {
	inWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
		if err := w.LosePrimary(settle); err != nil {
			t.Error(err)
		}
		if _, waited, _ := w.Minority(); waited != 1 {
			t.Error("the other two do not wait")
		}
	})
}

// inWorld runs f in a world of its own that is whole. No promise may be broken in it.
func inWorld(t *testing.T, opt sim.Options, f func(*testing.T, *sim.World)) {
	brokenWorld(t, opt, func(t *testing.T, w *sim.World) {
		f(t, w)
		for _, v := range w.Violations() {
			t.Error(v)
		}
	})
}

// brokenWorld does the same where f itself looks at what was broken.
func brokenWorld(t *testing.T, opt sim.Options, f func(*testing.T, *sim.World)) {
	opt.OpenRaft = openRaft(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := sim.NewWorld(opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		defer w.Close()
		defer end()
		go w.Watch(ctx)
		if err := w.AwaitConverged(settle); err != nil {
			t.Fatalf("at first: %v", err)
		}
		f(t, w)
		if t.Failed() {
			t.Logf("what happened:\n%s", w.Trace())
		}
	})
}
