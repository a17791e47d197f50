package sim_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestWatchdogResets: agent and guard of the primary stand still while its PostgreSQL goes on. Its watchdog resets the machine
// before another takes writes; a take-over that did not wait for that would be seen by Watch.
func TestWatchdogResets(t *testing.T) {
	dirs := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w, err := sim.NewWorld(sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum, Watchdog: 5 * time.Second, OpenRaft: openRaft(dirs)})
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
		old := w.FreezeGuardOfPrimary()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for limit := w.Time() + settle; !strings.Contains(w.Trace(), "is promoted to timeline 2") && w.Time() < limit; {
			<-tick.C
		}
		if err := w.AwaitConverged(settle); err != nil {
			t.Error(err)
		}
		trace := w.Trace()
		reset := strings.Index(trace, old+": its watchdog resets it")
		if next := strings.Index(trace, "is promoted to timeline 2"); reset < 0 || next < reset {
			t.Error("want a reset, and a promotion after it")
		}
		for _, v := range w.Violations() {
			t.Error(v)
		}
		if t.Failed() {
			t.Logf("what happened:\n%s", trace)
		}
	})
}
