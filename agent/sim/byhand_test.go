package sim_test

import (
	"fmt"
	"testing"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestF3PromotedByHandWhileCutOff: a standby that nobody reaches is promoted by hand, once or until it has come to the number
// that is allotted to another meanwhile. Its WAL is taken for nobody's: it is rewound or copied anew, and never streamed over.
func TestF3PromotedByHandWhileCutOff(t *testing.T) {
	for _, times := range []int{1, 2, 3, 4} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			inWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				if err := w.PromoteByHandWhileCutOff(times); err != nil {
					t.Error(err)
					return
				}
				if err := w.AwaitConverged(settle); err != nil {
					t.Error(err)
				}
				w.CheckEnd()
			})
		})
	}
}

// TestF3FollowedByHandWaitsForAPerson: where all went along, nobody's WAL counts: the cluster has no primary, and says why.
func TestF3FollowedByHandWaitsForAPerson(t *testing.T) {
	inWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
		if w.WaitsForAPerson() {
			t.Error("waits before anything was done")
		}
		if err := w.FollowedByHand(); err != nil {
			t.Error(err)
			return
		}
		if err := w.AwaitConverged(settle); err == nil || !w.WaitsForAPerson() {
			t.Errorf("want a cluster that waits for a person, have %v", err)
		}
	})
}

// TestF3PromotedByHandAfterItsPromise: nor is its WAL made to pass for the cluster's by an order to follow, which a taker gives
// to those who promised ahead of the FSM's own word.
func TestF3PromotedByHandAfterItsPromise(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, sim.Options{Seed: seed, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				if err := w.PromoteByHandAfterItsPromise(); err != nil {
					t.Error(err)
					return
				}
				if err := w.AwaitConverged(settle); err != nil {
					t.Error(err)
				}
				w.CheckEnd()
			})
		})
	}
}
