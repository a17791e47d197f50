package sim_test

import (
	"strings"
	"testing"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestChecksAreAsked: each check that TestChecksSeeWhatIsBroken calls by hand is called in a world that goes on, too.
func TestChecksAreAsked(t *testing.T) {
	for what, want := range map[string]string{
		sim.PretendPromise: "V2: ",
		sim.PretendTenure:  "K7: ",
		sim.PretendLease:   "L2: ",
	} {
		t.Run(what, func(t *testing.T) {
			brokenWorld(t, sim.Options{Seed: 1, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				if err := w.Pretend(what); err != nil {
					t.Fatal(err)
				}
				<-time.After(3 * time.Second) // of the world's time
				got := w.Violations()
				if len(got) != 1 || !strings.HasPrefix(got[0], want) {
					t.Errorf("violations %q, want one of %q", got, want)
				}
			})
		})
	}
}
