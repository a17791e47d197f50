package sim_test

import (
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"pgquorum/agent/sim"
)

var hiccupSeeds = flag.Int("hiccups", 20, "how many worlds with hiccups of the network are played")

// TestU6Hiccups lets the primary's network fail for moments of all lengths around a lease. No promise is broken, and some
// primaries go on as if nothing had been.
func TestU6Hiccups(t *testing.T) {
	var froze, thawed atomic.Int64
	t.Run("worlds", func(t *testing.T) {
		for i := range *hiccupSeeds {
			seed := *first + uint64(i)
			t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
				t.Parallel()
				playIn(t, seed, new(outcomes), func(w *sim.World) error {
					defer func() { t.Log(w.Trace()) }()
					err := w.Hiccups(12, 500*time.Millisecond, 3*time.Second)
					f, th := w.Frozen()
					froze.Add(int64(f))
					thawed.Add(int64(th))
					return err
				})
			})
		}
	})
	t.Logf("%d primaries were frozen, %d of them went on", froze.Load(), thawed.Load())
	if froze.Load() < int64(*hiccupSeeds) || thawed.Load() < int64(*hiccupSeeds)/2 {
		t.Errorf("%d primaries were frozen and %d went on in %d worlds: the schedules tested little", froze.Load(), thawed.Load(), *hiccupSeeds)
	}
}
