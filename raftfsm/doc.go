// Package raftfsm is Raft for pgquorum: the replicated state machine, and the node around it that gives the rest of
// the program a view, a way to propose commands, the lease's end and the peer channel. Raft stops here: no other
// package imports it.
//
// The state machine (fsm.go, apply_*.go) is a pure function of the log: no clock, no randomness, no I/O, no map order.
// Times and random ids travel in the commands. It may not decide what the cluster does next: it only keeps what must
// hold whoever asks, and refuses the rest with a *cluster.Refused. Invariants, each with a test of its name:
//
//	G1  a command of a holder counts for its own term only
//	G3  an acquisition only adds rules; one path (addRule) records every rule
//	K3  hand-backs are counted for the key's term
//	K6  refusals stand for the next term only
//	K7  AcquireLeader is a compare-and-set on (term, version of the rules); terms grow by one, and never go back
//	L4  only a committed command changes the recorded lease
//	L6  the voters of the last committed Raft configuration stand in the view
//	S2  rules go only by DropRules, and the last one stays
//	V5  only registered lives of data enter a rule; that of the newest rule's primary is not replaced
//	F1  a timeline number is allotted once, above all that any disk has seen; its fork's LSN is set once
//
// And of its form: two nodes with the same log write the same snapshot, byte for byte; a view never changes once it is
// published; a refusal moves View.Index and nothing else; a command may be applied twice; an entry or snapshot of an
// unknown version halts the node rather than being skipped.
//
// DESIGN.md beside this file says why.
package raftfsm
