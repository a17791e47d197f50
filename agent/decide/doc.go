// Package decide chooses what a node does next. It holds every failover rule and does no I/O, reads no clock and
// writes no log: an Observation goes in, a Decision with its typed reason comes out.
//
// Rules run in the order of Next, the first that fits wins, safety before liveness. Invariants, each proved by
// exhaustive_test.go:
//
//	I1  Promote, StartPrimary: only while this node holds a live lease for the key's term. Thaw: the same, and only of
//	    what was frozen in the term before.
//	I2  A primary without a live lease is fenced; a frozen one, once the key is no longer its own.
//	I3  AcquireLeader: only by the Raft leader after its Barrier, and (except in place: under a live lease, or for the
//	    primary that was frozen in the key's term) only when every recorded rule is satisfied by promises of the next
//	    term and the old lease has surely ended (K4 to K7).
//	I4  Nothing that changes data (clone, rewind) while this node's data counts in a recorded rule (V5), but what held.go
//	    says where nobody is left who could take it out.
//
// Where to look: why did it fence, demote or restart? fence.go, frozen.go, disk.go, primary.go, redo.go. Why did it (not) take over?
// takeover.go, candidate.go. Why does it follow, rewind or clone? standby.go. Why is k what it is? syncrule.go, streams.go.
package decide
