package decide

import (
	"testing"

	"pgquorum/cluster"
)

// handed is n2 after leadership came to it with the promises of n2 and n3, the key released (K6, ADR 0005).
func handed() *Observation {
	o := taking()
	o.View.Key.Released = true
	o.TakeOver.Came, o.TakeOver.Hops = true, 1
	o.TakeOver.AskedAt, o.TakeOver.PromisedAt, o.TakeOver.BarrierAt = 0, 0, testNow
	clear(o.TakeOver.Statuses)
	return o
}

// K6: a candidate that was handed the promises acquires at once if they suffice, and else asks for itself.
func TestK6Chosen(t *testing.T) {
	runNext(t, handed, []nextCase{
		{"at once", func(*Observation) {}, Acquire, ReasonBestCandidate},
		{"K1 after its own Barrier only", func(o *Observation) { o.Barrier = false }, Barrier, ReasonNewLeader},
		{"leadership was not handed to it, whatever it has tried itself", func(o *Observation) { o.TakeOver.Came = false }, AskPromises, ReasonPromises},
		{"K5 the key is not released", func(o *Observation) { o.View.Key.Released = false }, AskStatus, ReasonHolderUnknown},
		{"it has asked already", func(o *Observation) { o.TakeOver.AskedAt = testNow; o.TakeOver.PromisedAt = 0 }, AskPromises, ReasonPromises},
		{"its own promise is missing", func(o *Observation) { delete(o.TakeOver.Promises, "n2"); give(o, "n1", pos(2, 1000)) }, AskPromises, ReasonPromises},
		{"its own promise is of another life (V5)", func(o *Observation) {
			p := o.TakeOver.Promises["n2"]
			p.Member.Incarnation = "former"
			o.TakeOver.Promises["n2"] = p
			give(o, "n1", pos(2, 1000))
		}, AskPromises, ReasonPromises},
		{"C2 it is below m", func(o *Observation) { give(o, "n3", pos(2, 1001)) }, AskPromises, ReasonPromises},
		{"C2 it is not eligible", func(o *Observation) { o.Local.CanPromote = "its guard does not answer" }, AskPromises, ReasonPromises},
		{"it is stopping", func(o *Observation) { o.Request = &Request{Leaving: true} }, AskPromises, ReasonPromises},
		{"G1 promises of another term", func(o *Observation) {
			for n, p := range o.TakeOver.Promises {
				p.Term = 3
				o.TakeOver.Promises[n] = p
			}
		}, AskPromises, ReasonPromises},
		{"(b) the released holder's promise and its own", func(o *Observation) { delete(o.TakeOver.Promises, "n3"); give(o, "n1", pos(2, 1000)) }, Acquire, ReasonBestCandidate},
	})
}

// K6, C1, a defect that these cases found: promises that came with leadership and do not satisfy every recorded rule
// are no reason to acquire. Commits may be on the other standby alone.
func TestK6ChosenNeedsEveryRule(t *testing.T) {
	runNext(t, handed, []nextCase{
		{"one promise of two standbys", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, AskPromises, ReasonPromises},
		{"k=0, the primary's promise is missing", func(o *Observation) { o.View.Rules[0].K = 0 }, AskPromises, ReasonPromises},
		{"the other's promise is of another life (V5)", func(o *Observation) {
			p := o.TakeOver.Promises["n3"]
			p.Member.Incarnation = "former"
			o.TakeOver.Promises["n3"] = p
		}, AskPromises, ReasonPromises},
		{"a later rule that they do not satisfy", func(o *Observation) {
			o.View.Rules = append(o.View.Rules, cluster.SyncRule{ID: 5, Term: 3, Primary: member("n1"), Timeline: 2, Mode: cluster.SyncQuorum})
		}, AskPromises, ReasonPromises},
	})
}
