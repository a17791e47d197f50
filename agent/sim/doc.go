// Package sim runs whole clusters of agents under virtual time, against a model of PostgreSQL, of its guard and of the
// network, while faults drawn from a seed go on. What is real: package agent with its policy, and, in the tests, package
// raftfsm with Raft itself, its store and its channel. What is a model, and named as one: everything in this package.
//
// The models keep the contracts of pgctl (docs/protocol.md) as that package documents them, and are as hostile as the
// real thing may be: starts, stops and promotions take drawn times, standbys confirm late, links hold bytes back, clocks
// run at rates of their own within rho, processes freeze and die between any two steps.
//
// A world lives inside one testing/synctest bubble. Goroutine order is not seeded there: the same seed draws the same
// faults, not the same interleaving. Package replay runs this package's test on one thread, where a seed draws that too.
package sim
