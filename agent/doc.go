// Package agent is the loop of a node: observe, decide, act. Everything it does to Postgres, the guard, Raft and its
// peers goes through the small interfaces of ports.go; everything it chooses is chosen by package decide.
//
//	observe.go    gathers one decide.Observation from what the watchers last saw
//	loop.go       the circle, woken by events; the tick is only a safety net
//	act*.go       one small function an action; each can be tried again
//	lease.go      the lease keeper: E from Raft's answers to the guard (L1, L2), apart from the loop so that nothing delays it
//	disk.go       the probe of the disk, and act_disk.go what follows from it (B2), apart from the loop: the loop may hang in a write
//	peers*.go     the peer channel: status, promise, attest, follow, forwarded actions
//
// The agent never fences by being slow: that is the guard's work, at E - F, whether this process lives or not.
package agent
