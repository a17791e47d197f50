package sim_test

import (
	"strings"
	"testing"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
)

// TestWithoutPrimary: a majority is whole by itself, or waits rightly and says so; and the simulation sees one that is neither
// although nothing is missing to it, or that waits without a word.
func TestWithoutPrimary(t *testing.T) {
	type came struct{ whole, waited, unjudged int }
	for name, tt := range map[string]struct {
		nodes int
		lack  string
		want  came
		fails string // what the error says
	}{
		"two of three":                       {3, sim.LackNothing, came{whole: 1}, ""},
		"four of five":                       {5, sim.LackNothing, came{whole: 1}, ""},
		"three of five":                      {5, sim.LackHost, came{whole: 1}, ""},
		"C1 one of two that may have it all": {3, sim.LackData, came{waited: 1}, ""},
		"C1 three of four, k 2":              {5, sim.LackData, came{whole: 1}, ""},
		"one vote of three":                  {3, sim.LackVote, came{unjudged: 1}, ""},
		"not whole":                          {3, sim.LackLink, came{}, `(missing to the others: "")`},
		"B5 waits and does not say so":       {3, sim.LackWords, came{}, `(missing to the others: "rule `},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, sim.Options{Seed: 1, Nodes: tt.nodes, Heartbeat: time.Second, Mode: cluster.SyncQuorum}, func(t *testing.T, w *sim.World) {
				err := w.WithoutPrimary(tt.lack, 40*time.Second)
				if (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%v, want %q", err, tt.fails)
				}
				var got came
				if got.whole, got.waited, got.unjudged = w.Minority(); got != tt.want {
					t.Errorf("came %+v, want %+v", got, tt.want)
				}
				if err := w.AwaitConverged(settle); err != nil {
					t.Error(err)
				}
				w.CheckEnd()
			})
		})
	}
}
