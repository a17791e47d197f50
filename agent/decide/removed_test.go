package decide

import (
	"testing"

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
