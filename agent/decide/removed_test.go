package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// B4, V5: a standby whose next WAL is gone for good is cloned anew, after it has left the rules and stopped, from a
// source that serves the key's timeline.
func TestB4RemovedWAL(t *testing.T) {
	dry := func() *Observation {
		o := healthy("n3")
		o.Removed = "n1: requested WAL segment 000000020000000000000001 has already been removed"
		o.Local.Postgres.Streaming = false
		o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
		return o
	}
	runNext(t, dry, []nextCase{
		{"running", func(*Observation) {}, StopPostgres, ReasonRemoved},
		{"starting", editLocal(func(p *cluster.PostgresStatus) { p.State = cluster.PostgresStarting }), StopPostgres, ReasonRemoved},
		{"stopped", editLocal(stopped), Clone, ReasonRemoved},
		{"its data counts in a rule", func(o *Observation) {
			o.View.Rules[0].Standbys = append(o.View.Rules[0].Standbys, member("n3"))
		}, Wait, ReasonInRule},
		{"stopped, its data counts in a rule", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.View.Rules[0].Standbys = append(o.View.Rules[0].Standbys, member("n3"))
		}, Wait, ReasonInRule},
		{"it was the primary of a rule that is still recorded", func(o *Observation) {
			o.View.Rules[0].Primary = member("n3")
		}, Wait, ReasonInRule},
		{"the source is no primary yet", func(o *Observation) {
			stopped(&o.Local.Postgres)
			p := o.Peers["n1"]
			p.Status.Postgres.Role = cluster.RoleStandby
			o.Peers["n1"] = p
		}, Wait, ReasonRemoved},
		{"V1 promised a higher term", func(o *Observation) { o.Promised = 4 }, Wait, ReasonSource},
		{"key released", func(o *Observation) { o.View.Key.Released = true }, Wait, ReasonSource},
		{"diverged as well: rewind first", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Position = pos(1, 600)
		}, Rewind, ReasonDiverged},
		{"a copy runs", func(o *Observation) { stopped(&o.Local.Postgres); o.Job.Action = Clone }, Wait, ReasonJob},
	})
	o := dry()
	o.View.Rules[0].Standbys = append(o.View.Rules[0].Standbys, member("n3"))
	if got := WantsOut(o); got != member("n3").Incarnation {
		t.Errorf("wants out %q, want its life %q", got, member("n3").Incarnation)
	}
}

// K6: a leader that is no candidate itself, and to which leadership has come back too often, hands it on again after a rest.
func TestK6HandsOnAgainAfterARest(t *testing.T) {
	stuck := func() *Observation {
		o := taking()
		o.TakeOver.Promises["n2"] = promised("n2", 4, pos(2, 900))
		o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1000))
		o.TakeOver.Hops, o.TakeOver.HandedAt = 4, testNow.Add(-testHeartbeat)
		o.TakeOver.PromisedAt = testNow
		return o
	}
	runNext(t, stuck, []nextCase{
		{"rested", func(*Observation) {}, Transfer, ReasonBetterCandidate},
		{"not rested", func(o *Observation) { o.TakeOver.HandedAt++ }, Wait, ReasonNoCandidate},
		{"never handed on", func(o *Observation) { o.TakeOver.Hops, o.TakeOver.HandedAt = 0, 0 }, Transfer, ReasonBetterCandidate},
		{"it could not be reached: it is tried again soon, and all are asked meanwhile who is there", func(o *Observation) {
			o.TakeOver.Hops, o.Retry[Transfer] = 1, o.Now.Add(time.Second)
			o.TakeOver.PromisedAt = testNow.Add(-testHeartbeat)
			o.TakeOver.AskedAt = o.TakeOver.PromisedAt
		}, AskPromises, ReasonRetry},
		{"a catch-up did not succeed: the same", func(o *Observation) {
			twoSources(o, 1)
			o.View.Handbacks = MaxHandbacks
			o.Retry[CatchUp] = o.Now.Add(time.Second)
			o.TakeOver.PromisedAt = testNow.Add(-testHeartbeat)
			o.TakeOver.AskedAt = o.TakeOver.PromisedAt
		}, AskPromises, ReasonRetry},
		{"all were asked just now", func(o *Observation) { o.TakeOver.Hops, o.Retry[Transfer] = 1, o.Now.Add(time.Second) }, Wait, ReasonRetry},
		{"it is silent: who has most is waited for", func(o *Observation) { o.TakeOver.Silent["n3"] = "no answer" }, Wait, ReasonNoCandidate},
		{"it is silent, and this one as good", func(o *Observation) {
			o.TakeOver.Silent["n3"] = "no answer"
			o.TakeOver.Promises["n2"] = promised("n2", 4, pos(2, 1000))
		}, Acquire, ReasonBestCandidate},
		{"as good itself", func(o *Observation) { o.TakeOver.Promises["n2"] = promised("n2", 4, pos(2, 1000)) }, Acquire, ReasonBestCandidate},
	})
}

// S8: a node stops when no recorded rule counts on it any more, also not one that is about to be dropped.
func TestS8MayStopAfterTheDrop(t *testing.T) {
	o := healthy("n3")
	o.Request = &Request{Leaving: true}
	o.View.Rules = append(o.View.Rules, o.View.Rules[0])
	o.View.Rules[1].ID, o.View.Rules[1].Standbys = 5, []cluster.Member{member("n2")}
	if MayStop(o) {
		t.Error("it may stop while an older rule names it")
	}
	o.View.Rules = o.View.Rules[1:]
	if !MayStop(o) {
		t.Error("it may not stop although no rule names it")
	}
}
