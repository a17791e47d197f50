// Package integration runs real clusters of real Postgres and breaks them, while clients write all the time.
//
// A host is a network namespace with an address of its own, a directory, and a cgroup in which everything that it runs
// lives, so that "kill everything on the node at once" is one write. The hosts hang on a bridge that stands in a
// namespace too: nothing of a run is visible in the machine's own network, runs beside each other cannot collide, and a
// cut is one rule on the bridge. The agent is the built binary, as an unprivileged user; HAProxy is the real one with
// the sample configuration from deploy/haproxy.
//
// The harness is ordinary code; the scenarios (scenario_*_test.go, one short file each) and whatever else needs root are
// built with the tag "integration". What is always checked, whatever the fault:
//
//	P1  no two nodes acknowledge commits at the same time, and none on a timeline of another
//	P2  every acknowledged write is on the final primary, and on each standby
//	    registers swapped by concurrent clients stay linearizable (porcupine)
//	    the cluster converges: one primary, all others streaming from it, all nodes agreeing
//
// TestChaos (chaos_*.go, docs/chaos.md) draws faults from a seed instead of telling a story, and checks more.
//
// Outages are measured always and held against their budgets only with PGQUORUM_BUDGET=1, on the median of
// PGQUORUM_RUNS runs: speed is a benchmark, not a timed test.
//
// Everything that a run makes carries the name pgq-PID-N. A janitor process outlives the test, however that ends, and
// removes what is left under that name.
package integration
