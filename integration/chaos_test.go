//go:build integration

package integration

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The flags of make chaos.
var (
	chaosMinutes = flag.Float64("minutes", 3, "chaos: how long faults are injected")
	chaosSeed    = flag.Uint64("seed", 0, "chaos: what is drawn; 0: a seed is drawn too")
	chaosWeak    = flag.Bool("weak", false, "chaos: synchronous_commit = local, for which nothing is promised: acknowledged writes must be lost")
	chaosNodes   = flag.Int("nodes", 3, "chaos: nodes of the cluster")
)

// Faults drawn from a seed befall a cluster on which clients work all the time; whatever they are, what the clients saw
// can be explained, nothing acknowledged is lost, and the cluster becomes whole again.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	for seed == 0 {
		seed = rand.Uint64N(1_000_000)
	}
	length := time.Duration(*chaosMinutes * float64(time.Minute))
	t.Logf("seed %d, %s, %d nodes: make chaos MINUTES=%g SEED=%d NODES=%d", seed, length, *chaosNodes, *chaosMinutes, seed, *chaosNodes)
	parameters := map[string]string{
		"max_wal_size": "192MB", "min_wal_size": "64MB", // so that a bound of pg_wal can be told
		"wal_keep_size":           "64MB",                                  // each of many timelines has a copy of each segment in which it began, and a rewind copies all
		"log_min_error_statement": "panic", "log_error_verbosity": "terse", // clients' conflicts are no news
	}
	if *chaosWeak {
		parameters["synchronous_commit"] = "local"
	}
	c := New(t, built(t), Options{Nodes: *chaosNodes, OwnDisks: true, Snapshots: chaosSnapshots, Parameters: parameters})
	ctx, cancel := context.WithTimeout(t.Context(), length+10*time.Minute)
	defer cancel()
	run := newChaosRun(c, ChaosOptions{Length: length, Seed: seed, Nodes: *chaosNodes, Say: t.Logf})
	err := run.Run(ctx)
	run.sayTotals()
	if rerr := run.Report(); rerr != nil {
		t.Error(rerr)
	}
	must(t, err)
	if *chaosWeak {
		if !slices.ContainsFunc(run.log.Violations, func(v Violation) bool { return v.Check == "set: lost" }) {
			t.Error("synchronous_commit is local, and no acknowledged write was found lost")
		}
		return
	}
	for _, v := range first(run.log.Violations) {
		t.Error(v)
	}
}
