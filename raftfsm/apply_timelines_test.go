package raftfsm

import (
	"testing"

	"pgquorum/cluster"
)

// F1: the LSN of an allotted timeline's fork is recorded once.
func TestF1RecordFork(t *testing.T) {
	t.Parallel()
	fork := cluster.RecordFork{Timeline: 3, Parent: 1, LSN: 0x5000028}
	taken, known := []cluster.Command{takeOver()}, []cluster.Command{takeOver(), fork}
	runCases(t, healthyMachine, []applyCase{
		{name: "recorded", prepare: taken, cmd: fork, check: func(v *cluster.View) bool {
			f := v.Forks[3]
			return f.LSN == 0x5000028 && f.Node == "n2" && f.Term == 2 && f.Parent == 1 && f.Reason == "n1 is gone"
		}},
		{name: "again", prepare: known, cmd: fork, same: true},
		{name: "another LSN", prepare: known, cmd: cluster.RecordFork{Timeline: 3, Parent: 1, LSN: 0x6000028}, refused: "timeline 3 at 0/6000028: its fork stands at 0/5000028"},
		{name: "another parent", prepare: taken, cmd: cluster.RecordFork{Timeline: 3, Parent: 9, LSN: 5}, refused: "timeline 3 from 9: it was allotted as a child of 1"},
		{name: "F3 the number left to promotions by hand", prepare: taken, cmd: cluster.RecordFork{Timeline: 2, Parent: 1, LSN: 5}, refused: "it was never allotted"},
		{name: "no LSN", prepare: taken, cmd: cluster.RecordFork{Timeline: 3, Parent: 1}, refused: "want the LSN of the fork"},
		{name: "also later", prepare: []cluster.Command{takeOver(), inPlaceOf2()}, cmd: fork, check: func(v *cluster.View) bool { return v.Forks[3].LSN == 0x5000028 }},
	})
}

// C1 d: the holder's position only moves on.
func TestC1dRecordLSN(t *testing.T) {
	t.Parallel()
	at := func(n cluster.NodeID, term cluster.Term, tl cluster.Timeline, lsn cluster.LSN) cluster.RecordLSN {
		return cluster.RecordLSN{Node: n, Term: term, Position: cluster.Position{Timeline: tl, LSN: lsn}}
	}
	first := []cluster.Command{at("n1", 1, 1, 500)}
	moved := func(term cluster.Term, tl cluster.Timeline, lsn cluster.LSN) func(*cluster.View) bool {
		return func(v *cluster.View) bool {
			return v.LastLSN == cluster.LastLSN{Term: term, Position: cluster.Position{Timeline: tl, LSN: lsn}}
		}
	}
	runCases(t, healthyMachine, []applyCase{
		{name: "first", cmd: at("n1", 1, 1, 500), check: moved(1, 1, 500)},
		{name: "on", prepare: first, cmd: at("n1", 1, 1, 501), check: moved(1, 1, 501)},
		{name: "again", prepare: first, cmd: at("n1", 1, 1, 500), same: true},
		{name: "back", prepare: first, cmd: at("n1", 1, 1, 499), refused: "position 0/1F3 on timeline 1: 0/1F4 was recorded in term 1"},
		{name: "back, in a later term on the same timeline", prepare: []cluster.Command{first[0], inPlace(func(*cluster.AcquireLeader) {})}, cmd: at("n1", 2, 1, 499), refused: "recorded in term 1"},
		{name: "same place in a later term", prepare: []cluster.Command{first[0], inPlace(func(*cluster.AcquireLeader) {})}, cmd: at("n1", 2, 1, 500), check: moved(2, 1, 500)},
		{name: "new timeline begins lower", prepare: []cluster.Command{first[0], takeOver()}, cmd: at("n2", 2, 3, 400), check: moved(2, 3, 400)},
		{name: "not on the key's timeline", prepare: []cluster.Command{takeOver()}, cmd: at("n2", 2, 1, 600), refused: "on timeline 1: the key's timeline is 3"},
		{name: "unknown", cmd: at("n1", 1, 1, 0), refused: "position 0/0"},
		{name: "G1 the former holder", prepare: []cluster.Command{takeOver()}, cmd: at("n1", 1, 1, 600), refused: `the key is "n2"'s at term 2`},
		{name: "G1 other term", cmd: at("n1", 2, 1, 600), refused: "at term 2"},
	})
}
