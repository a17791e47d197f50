package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// A standby keeps for each other member what that one lacks, and nothing for ever.
func TestSlotsTo(t *testing.T) {
	const stays = cluster.LSN(0)
	for _, c := range []struct {
		name string
		edit func(o *Observation, p *cluster.PeerView)
		want cluster.LSN
	}{
		{"it has less", func(_ *Observation, p *cluster.PeerView) { p.Status.Position.LSN = 900 }, 900},
		{"it has more than is replayed here", func(o *Observation, _ *cluster.PeerView) { o.Local.Postgres.Replayed = 700 }, 700},
		{"silent for a while", func(o *Observation, p *cluster.PeerView) {
			p.Err, p.At = "no answer", o.Now.Add(-SlotPatience+time.Second)
			o.Began = p.At.Add(-time.Hour)
		}, stays},
		{"silent for long", func(o *Observation, p *cluster.PeerView) {
			p.Err, p.At = "no answer", o.Now.Add(-SlotPatience)
			o.Began = p.At.Add(-time.Hour)
		}, 1000},
		{"never heard, by an agent that has just begun", func(o *Observation, p *cluster.PeerView) {
			*p, o.Began = cluster.PeerView{Err: "no answer"}, o.Now.Add(-time.Minute)
		}, stays},
		{"never heard", func(o *Observation, p *cluster.PeerView) {
			*p, o.Began = cluster.PeerView{Err: "no answer"}, o.Now.Add(-SlotPatience)
		}, 1000},
		{"its position is not known", func(_ *Observation, p *cluster.PeerView) { p.Status.Position = cluster.Position{} }, stays},
		{"on the timeline before, up to the fork", func(_ *Observation, p *cluster.PeerView) { p.Status.Position = pos(1, 400) }, 400},
		{"on the timeline before, past the fork", func(_ *Observation, p *cluster.PeerView) { p.Status.Position = pos(1, 600) }, 1000},
		{"on a later timeline", func(o *Observation, p *cluster.PeerView) {
			o.View.Forks[3] = cluster.Fork{Timeline: 3, Parent: 2, LSN: 1000, Term: 4, Node: "n3"}
			p.Status.Position = pos(3, 1100)
		}, stays},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n2")
			o.Now = o.Now.Add(24 * time.Hour)
			o.Began = o.Now.Add(-time.Minute)
			p := o.Peers["n3"]
			p.At = o.Now
			c.edit(o, &p)
			o.Peers["n3"] = p
			got, moves := SlotsTo(o, []cluster.NodeID{"n3"})["n3"]
			if got != c.want || moves != (c.want != stays) {
				t.Errorf("to %v (%t), want %v", got, moves, c.want)
			}
		})
	}
}

// S3: upkeep acts by a state that is as new as this node ever had it, and names what stands here; a holder's is, by its lease.
func TestS3KnowsItsCluster(t *testing.T) {
	standby := func() *Observation {
		o := healthy("n2")
		o.Raft.Recalled = true
		return o
	}
	for name, tt := range map[string]struct {
		o    func() *Observation
		edit func(o *Observation)
		want bool
	}{
		"a standby":                      {standby, func(*Observation) {}, true},
		"a state from before":            {standby, func(o *Observation) { o.Raft.Recalled = false }, false},
		"data that is not registered":    {standby, func(o *Observation) { o.Local.Postgres.Incarnation = "other" }, false},
		"no data that it knows":          {standby, func(o *Observation) { o.Local.Postgres.Incarnation = "" }, false},
		"a history of its lost store":    {standby, func(o *Observation) { o.Node.UID = "anew" }, false},
		"a holder under a live lease":    {func() *Observation { return healthy("n1") }, func(*Observation) {}, true},
		"a holder, its data's mark gone": {func() *Observation { return healthy("n1") }, func(o *Observation) { o.Local.Postgres.Incarnation = "" }, true},
		"a holder without a lease":       {func() *Observation { return healthy("n1") }, func(o *Observation) { o.LeaseState = LeaseNone }, false},
	} {
		o := tt.o()
		tt.edit(o)
		if got := KnowsItsCluster(o); got != tt.want || MayKeepSlots(o) != tt.want {
			t.Errorf("%s: %v, slots %v", name, got, MayKeepSlots(o))
		}
		o.Now = o.Began.Add(SlotPatience)
		if !MayKeepSlots(o) {
			t.Errorf("%s: after half an hour slots keep WAL for whom nobody has heard of", name)
		}
	}
}
