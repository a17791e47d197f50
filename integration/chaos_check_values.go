package integration

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kept is what one node's tables hold at the end.
type Kept struct {
	Node     string
	Primary  bool
	Inserts  map[int64]bool
	Lists    map[int][]int64
	Balances []int64
	Ledger   map[int64]bool // ids of the transfers
}

// CheckSet holds the inserts against what a node has: an acknowledged one that is missing is lost (P2), one that failed
// or that nobody sent must not be there.
func CheckSet(ops []InsertOp, kept Kept) (found []Violation) {
	sent := make(map[int64]Outcome, len(ops))
	for _, op := range ops {
		sent[op.ID] = op.Outcome
		if op.Outcome == OK && !kept.Inserts[op.ID] {
			found = append(found, Violation{"set: lost", op.End, fmt.Sprintf("%s does not hold insert %s, timeline %d", kept.Node, op.Call, op.Timeline)})
		}
	}
	for id := range kept.Inserts {
		if outcome, known := sent[id]; !known || outcome == Failed {
			found = append(found, Violation{"set: phantom", 0, fmt.Sprintf("%s holds insert %d, which no client sent or which failed", kept.Node, id)})
		}
	}
	return found
}

// CheckLists holds what a standby has against the primary: at the end both have replayed the same.
func CheckLists(primary, standby Kept) (found []Violation) {
	for key, list := range primary.Lists {
		if !slices.Equal(list, standby.Lists[key]) {
			found = append(found, Violation{"append: standby differs", 0,
				fmt.Sprintf("list %d is %v on %s and %v on %s", key, list, primary.Node, standby.Lists[key], standby.Node)})
		}
	}
	return found
}

// BankOp is one operation on the accounts: a transfer, noted in the ledger by the same transaction, or a read of all.
type BankOp struct {
	Call
	From     int     `json:"from"`
	To       int     `json:"to"`
	Amount   int64   `json:"amount,omitempty"` // 0: a read
	Balances []int64 `json:"balances,omitempty"`
}

func (o BankOp) reads() bool { return o.Amount == 0 }

// CheckBank holds each read of all balances against what can never change: their sum, and that none is below zero.
func CheckBank(ops []BankOp, total int64) (found []Violation) {
	for _, op := range ops {
		if op.Outcome != OK || op.Amount != 0 {
			continue
		}
		if sum, least := sumOf(op.Balances), slices.Min(op.Balances); sum != total || least < 0 {
			found = append(found, Violation{"bank: total", op.Start, fmt.Sprintf("want a sum of %d and none below 0, have %d of %v: read %s", total, sum, op.Balances, op.Call)})
		}
	}
	return found
}

func sumOf(numbers []int64) (sum int64) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

// CheckLedger holds what a node has at the end against the transfers: each acknowledged one is in the ledger, no failed
// one is, and the balances are what the ledger makes of the initial ones.
func CheckLedger(ops []BankOp, initial []int64, kept Kept) (found []Violation) {
	want := slices.Clone(initial)
	sent := map[int64]bool{}
	for _, op := range ops {
		if op.Amount == 0 {
			continue
		}
		sent[op.ID] = op.Outcome != Failed
		if op.Outcome == OK && !kept.Ledger[op.ID] {
			found = append(found, Violation{"bank: lost transfer", op.End, fmt.Sprintf("%s does not hold transfer %s", kept.Node, op.Call)})
		}
		if kept.Ledger[op.ID] {
			want[op.From] -= op.Amount
			want[op.To] += op.Amount
		}
	}
	for id := range kept.Ledger {
		if !sent[id] {
			found = append(found, Violation{"bank: phantom transfer", 0, fmt.Sprintf("%s holds transfer %d, which no client sent or which failed", kept.Node, id)})
		}
	}
	if !slices.Equal(want, kept.Balances) {
		found = append(found, Violation{"bank: balances", 0, fmt.Sprintf("%s has balances %v, its ledger makes them %v", kept.Node, kept.Balances, want)})
	}
	return found
}

// RegisterOp is one operation on a register. Each New is unique; every answer names the value that was there before, so
// that an operation with an unknown outcome whose value nobody ever saw can be left out (Linearizable says why).
type RegisterOp struct {
	Call
	Key  int    `json:"key"`
	Kind string `json:"kind"` // read, write, cas
	New  int64  `json:"new,omitempty"`
	Want int64  `json:"want,omitempty"` // of a cas: New is stored only over this
	Old  int64  `json:"old"`
}

func (o RegisterOp) reads() bool { return o.Kind == "read" }

// CheckRegisters says for each register whether one order explains what its clients saw.
func CheckRegisters(ops []RegisterOp, limit time.Duration) (found []Violation) {
	byKey := map[int][]RegisterOp{}
	for _, op := range ops {
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	deadline := time.Now().Add(limit)
	for key, ops := range byKey {
		history := registerHistory(ops)
		switch porcupine.CheckOperationsTimeout(registerModel, history, max(time.Until(deadline), time.Second)) {
		case porcupine.Ok:
		case porcupine.Illegal:
			found = append(found, Violation{"registers: not linearizable", ops[0].Start, fmt.Sprintf("register %d: no order explains its %d operations, %.3f-%.3f s",
				key, len(history), ops[0].Start.Seconds(), ops[len(ops)-1].End.Seconds())})
		default:
			found = append(found, Violation{"registers: not decided", ops[0].Start, fmt.Sprintf("register %d: no order of its %d operations found in %s", key, len(history), limit)})
		}
	}
	return found
}

// registerHistory leaves out what cannot matter, and ends an unknown operation where its value was first seen.
func registerHistory(ops []RegisterOp) (history []porcupine.Operation) {
	seen := seenValues(ops)
	for i, op := range ops {
		end := op.End
		if op.Outcome != OK {
			first, known := seen[op.New]
			if op.Outcome == Failed || op.Kind == "read" || !known {
				continue
			}
			end = first
		}
		history = append(history, porcupine.Operation{ClientId: i, Input: op, Output: op, Call: int64(op.Start), Return: int64(end)})
	}
	return history
}

// seenValues gives, for each value that must have been in the register, when that was certain first: the end of an answer
// that names it, or of one that names what an unknown swap put over it.
func seenValues(ops []RegisterOp) map[int64]time.Duration {
	seen := map[int64]time.Duration{}
	note := func(value int64, end time.Duration) (earlier bool) {
		was, known := seen[value]
		if earlier = !known || end < was; earlier {
			seen[value] = end
		}
		return earlier
	}
	for _, op := range ops {
		if op.Outcome == OK {
			note(op.Old, op.End)
		}
	}
	for again := true; again; {
		again = false
		for _, op := range ops {
			if end, known := seen[op.New]; op.Kind == "cas" && op.Outcome == Unknown && known {
				again = note(op.Want, end) || again
			}
		}
	}
	return seen
}

// registerModel is one integer.
var registerModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		op, now := input.(RegisterOp), state.(int64)
		known := op.Outcome != OK || op.Old == now
		switch {
		case op.Kind == "read", op.Kind == "cas" && op.Want != now:
			return known, now
		}
		return known, op.New
	},
}
