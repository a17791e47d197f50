package integration

import "fmt"

// CheckTimelines holds all that clients had acknowledged, of every workload, against P1: TwoPrimaries says what must not
// be. Reads that rest on no promise are left out; what the run itself read at the end is no client's.
func CheckTimelines(ops *ChaosOps, stale []window) (found []Violation, result string) {
	var acked []Write
	timelines, counts, left := map[uint32]bool{}, map[string]int{}, 0
	add := func(kind string, c Call) {
		switch {
		case c.Outcome != OK || c.Client == finalClient:
			return
		case c.Timeline == 0:
			found = append(found, Violation{"P1: no timeline", c.End, "nobody knows on which timeline it was acknowledged: " + c.String()})
			return
		}
		counts[kind]++
		timelines[c.Timeline] = true
		acked = append(acked, Write{ID: c.ID, Via: c.Client, Start: c.Start, End: c.End, Acked: true, Node: c.Node, Timeline: c.Timeline})
	}
	left += addAll(ops.Inserts, stale, "inserts", add)
	left += addAll(ops.Txns, stale, "appends", add)
	left += addAll(ops.Bank, stale, "transfers", add)
	left += addAll(ops.Registers, stale, "swaps", add)
	for _, proof := range TwoPrimaries(acked) {
		found = append(found, Violation{"P1", 0, proof})
	}
	return found, fmt.Sprintf("%d inserts, %d appends, %d transfers, %d register writes and %d reads on %d timelines, %d reads left out",
		counts["inserts"], counts["appends"], counts["transfers"], counts["swaps"], counts["reads"], len(timelines), left)
}

// addAll adds one workload's operations, and says how many reads it left out.
func addAll[T operation](ops []T, stale []window, kind string, add func(kind string, c Call)) (left int) {
	proven, left := provenReads(ops, stale)
	for _, op := range proven {
		if op.reads() {
			add("reads", op.call())
		} else {
			add(kind, op.call())
		}
	}
	return left
}
