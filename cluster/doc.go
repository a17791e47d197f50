// Package cluster is the vocabulary of pgquorum: LSN, timeline, node, lease, sync rule, fork, command and view.
//
// It holds plain values and the arithmetic on them. It imports only the standard library, does no I/O
// (except reading the machine's clock in Boottime), starts no goroutine and writes no log. Every other
// package speaks in these types, so that Raft stays inside raftfsm and pgx inside pgctl.
//
// Rule names such as L1, V4 or C2 refer to docs/protocol.md.
package cluster
