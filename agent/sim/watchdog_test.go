package sim_test

import (
	"strings"
	"testing"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestWatchdogResets: agent and guard of the primary stand still while its PostgreSQL goes on. Its watchdog resets the machine
// before another takes writes; a take-over that did not wait for that would be seen by Watch.
func TestWatchdogResets(t *testing.T) {
	inWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum, Watchdog: 5 * time.Second}, func(t *testing.T, w *sim.World) {
		old := w.FreezeGuardOfPrimary()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for limit := w.Time() + settle; !strings.Contains(w.Trace(), "is promoted to timeline 3") && w.Time() < limit; {
			<-tick.C
		}
		if err := w.AwaitConverged(settle); err != nil {
			t.Error(err)
		}
		trace := w.Trace()
		reset := strings.Index(trace, old+": its watchdog resets it")
		if next := strings.Index(trace, "is promoted to timeline 3"); reset < 0 || next < reset {
			t.Error("want a reset, and a promotion after it")
		}
	})
}
