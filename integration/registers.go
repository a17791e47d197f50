package integration

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// Swap is one atomic exchange on a register: New was put in, Old came out. Each New is used once, so that a swap names
// the one that it followed.
type Swap struct {
	Register int           `json:"register"`
	Start    time.Duration `json:"start"`
	End      time.Duration `json:"end"`
	New      int64         `json:"new"`
	Old      int64         `json:"old"`
	Acked    bool          `json:"acked"` // else it may have happened at any time after Start, or never
	Read     bool          `json:"read"`  // only Old counts: the register was read
}

// checkTime bounds the search for an order; a history that needs longer is reported, not passed.
const checkTime = 60 * time.Second

// Linearizable says whether all that clients saw of the registers, which begin at 0, can be explained by one order of
// the swaps in which each took effect between its call and its answer: a lost swap, a stale read and two primaries
// break it. nil when there is such an order.
func Linearizable(swaps []Swap) error {
	seen := firstSeen(swaps)
	operations := make([]porcupine.Operation, 0, len(swaps))
	for i, s := range swaps {
		op := porcupine.Operation{ClientId: i, Input: s, Output: s, Call: int64(s.Start), Return: int64(s.End)}
		if !s.Acked {
			end, known := seen[s.New]
			if s.Read || !known {
				continue
			}
			op.Return = int64(end)
		}
		operations = append(operations, op)
	}
	switch result := porcupine.CheckOperationsTimeout(registers, operations, checkTime); result {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("registers: no order explains what the clients saw of %d swaps", len(operations))
	default:
		return fmt.Errorf("registers: no order of %d swaps found in %s", len(operations), checkTime)
	}
}

// firstSeen gives, for each value that an answer named, the end of the earliest such answer. It is what makes swaps with
// an unknown outcome cheap to check. A value that nobody ever saw may be left out: if there is an order with its swap in
// it, there is one without (what followed it was unknown too, or nothing did). A value that was seen was stored before
// the first answer that named it.
func firstSeen(swaps []Swap) map[int64]time.Duration {
	seen := make(map[int64]time.Duration, len(swaps))
	for _, s := range swaps {
		if end, known := seen[s.Old]; s.Acked && (!known || s.End < end) {
			seen[s.Old] = s.End
		}
	}
	return seen
}

// registers is the model: one integer each.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byRegister := map[int][]porcupine.Operation{}
		for _, op := range history {
			r := op.Input.(Swap).Register
			byRegister[r] = append(byRegister[r], op)
		}
		parts := make([][]porcupine.Operation, 0, len(byRegister))
		for _, part := range byRegister {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		s := input.(Swap)
		switch {
		case !s.Acked:
			return true, s.New
		case s.Read:
			return s.Old == state.(int64), state
		}
		return s.Old == state.(int64), s.New
	},
}
