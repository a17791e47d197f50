package sim_test

import (
	"testing"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestP1LateCommit: what was confirmed, if only by one standby, before that standby promised may be acknowledged after the next
// primary's promotion, by a primary that nobody has ended. The next primary has it, and the simulation does not call it a
// second primary (docs/protocol.md, section 13).
func TestP1LateCommit(t *testing.T) {
	for way, nodes := range map[string]int{sim.LateOnTheWay: 3, sim.LateCompleted: 5} {
		t.Run(way, func(t *testing.T) {
			inWorld(t, sim.Options{Seed: 1, Nodes: nodes, Heartbeat: 300 * time.Millisecond, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				late, err := w.CommitLate(way)
				if err != nil || late <= 0 {
					t.Errorf("acknowledged %v after the promotion: %v", late, err)
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
