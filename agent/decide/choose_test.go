package decide

import (
	"strings"
	"testing"

	"pgquorum/cluster"
)

// twoSources are n1 and n3, which may not be promoted: n2 must stream from one of them, and has failed to so often.
func twoSources(o *Observation, failed int) {
	give(o, "n3", pos(2, 1001))
	give(o, "n1", pos(2, 1001))
	o.TakeOver.Statuses["n1"] = statusFor("n1")
	o.Raft.Voters = []cluster.NodeID{"n2"}
	o.TakeOver.CatchUps = failed
}

// C2, K6: n2 is Raft leader, n2 and n3 have promised at the same position.
func TestC2Choose(t *testing.T) {
	refuse := func(o *Observation, n cluster.NodeID, term cluster.Term) {
		if o.View.Refusals == nil {
			o.View.Refusals = map[cluster.NodeID]cluster.Refusal{}
		}
		o.View.Refusals[n] = cluster.Refusal{Term: term, Reason: "disk full"}
	}
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want Choice // Missing: a part of the text
	}{
		{"equals: this node", func(*Observation) {}, Choice{Node: "n2"}},
		{"equals, self is not eligible", func(o *Observation) { o.Local.CanPromote = "no disk" }, Choice{Node: "n3"}},
		{"position before priority", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n2", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n3"}},
		{"position before priority, both at or above m", func(o *Observation) {
			give(o, "n1", pos(2, 950)) // m: the fenced primary has every acknowledged commit
			give(o, "n3", pos(2, 1001))
			tag(o, "n2", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n3"}},
		{"position before location, both at or above m", func(o *Observation) {
			give(o, "n1", pos(2, 950))
			give(o, "n3", pos(2, 1001))
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
		}, Choice{Node: "n3"}},
		{"position before location", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
		}, Choice{Node: "n3"}},
		{"priority before location", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority, g.Location = 9, "west" })
		}, Choice{Node: "n3"}},
		{"location before self", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "west" })
			tag(o, "n3", func(g *cluster.Tags) { g.Location = "east" })
		}, Choice{Node: "n3"}},
		{"location is the former holder's, not the leader's", func(o *Observation) {
			tag(o, "n1", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n2", func(g *cluster.Tags) { g.Location = "east" })
			tag(o, "n3", func(g *cluster.Tags) { g.Location = "west" })
		}, Choice{Node: "n2"}},
		{"same place everywhere: this node", func(o *Observation) {
			for _, n := range []string{"n1", "n2", "n3"} {
				tag(o, n, func(g *cluster.Tags) { g.Location = "east" })
			}
		}, Choice{Node: "n2"}},
		{"timeline of a later term before LSN (V4)", func(o *Observation) { give(o, "n3", pos(1, 99_999)) }, Choice{Node: "n2"}},
		{"K6 refused comes last, whatever its priority", func(o *Observation) {
			refuse(o, "n3", 4)
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n2"}},
		{"K6 self refused: the other", func(o *Observation) { refuse(o, "n2", 4) }, Choice{Node: "n3"}},
		{"K6 refused a former term: no matter", func(o *Observation) {
			refuse(o, "n3", 3)
			tag(o, "n3", func(g *cluster.Tags) { g.FailoverPriority = 9 })
		}, Choice{Node: "n3"}},
		{"K6 refused, but nobody else is good enough", func(o *Observation) { refuse(o, "n3", 4); give(o, "n3", pos(2, 1001)) }, Choice{Node: "n3"}},
		{"K6 all have refused: the best of them", func(o *Observation) { refuse(o, "n2", 4); refuse(o, "n3", 4) }, Choice{Node: "n2"}},
		{"nofailover", func(o *Observation) {
			tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Node: "n3"}},
		{"nofailover never lowers m: the candidate streams first", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Node: "n2", CatchUp: "n3"}},
		{"a non-voter never lowers m: the candidate streams first", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			o.Raft.Voters = []cluster.NodeID{"n1", "n2"}
		}, Choice{Node: "n2", CatchUp: "n3"}},
		{"the first source cannot be streamed from: the next", func(o *Observation) { twoSources(o, 1) }, Choice{Node: "n2", CatchUp: "n3"}},
		{"and the first again", func(o *Observation) { twoSources(o, 2) }, Choice{Node: "n2", CatchUp: "n1"}},
		{"who has m is silent now: it is not streamed from", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
			o.TakeOver.Silent["n3"] = "no answer"
		}, Choice{Missing: "is needed: waiting for n3 (it did not answer)"}},
		{"who could stream first has WAL of its own", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
			give(o, "n2", pos(1, 600)) // timeline 2 left timeline 1 at 500
		}, Choice{Missing: "nobody else can follow it"}},
		{"who holds m is not eligible and does not run", func(o *Observation) {
			give(o, "n3", pos(2, 1001))
			s := o.TakeOver.Statuses["n3"]
			s.CanPromote, s.Postgres.State = "its postgres is stopped", cluster.PostgresStopped
			o.TakeOver.Statuses["n3"] = s
		}, Choice{Missing: "is needed: waiting for n3 (its postgres is stopped)"}},
		{"F3 promised on a timeline made by hand", func(o *Observation) { o.TakeOver.Promises["n3"] = promised("n3", 4, pos(9, 1000)) },
			Choice{Missing: "(missing: n3); somebody has promoted by hand, so that these count for nothing: n3 (timeline 9)"}},
		{"promised, but did not answer", func(o *Observation) { delete(o.TakeOver.Statuses, "n3"); o.Local.CanPromote = "no disk" }, Choice{Missing: "n3: it did not answer"}},
		{"nobody is eligible", func(o *Observation) {
			tag(o, "n2", func(g *cluster.Tags) { g.NoFailover = true })
			tag(o, "n3", func(g *cluster.Tags) { g.NoFailover = true })
		}, Choice{Missing: "n2: it is tagged nofailover; n3: it is tagged nofailover"}},
		{"a stopping node does not choose itself", func(o *Observation) { o.Request = &Request{Leaving: true} }, Choice{Node: "n3"}},
		{"the operator's candidate among the good ones", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n3"}}
		}, Choice{Node: "n3"}},
		{"the operator's candidate below m is not taken", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n3"}}
			give(o, "n3", pos(2, 999))
		}, Choice{Node: "n2"}},
		{"C1 not satisfied", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, Choice{Missing: "missing: n3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := taking()
			c.edit(o)
			got := Choose(o)
			if got.Node != c.want.Node || got.CatchUp != c.want.CatchUp || !strings.Contains(got.Missing, c.want.Missing) || (got.Missing == "") != (c.want.Missing == "") {
				t.Errorf("Choose = %+v, want %+v", got, c.want)
			}
		})
	}
}

// K6: a wish does not outweigh a refusal. Otherwise leadership goes to and fro between a leader that sends it and a
// candidate that has said it cannot, until the hops are used up, and nobody is primary meanwhile.
func TestK6OperatorsCandidateHasRefused(t *testing.T) {
	o := taking()
	o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n3"}}
	o.View.Refusals = map[cluster.NodeID]cluster.Refusal{"n3": {Term: 4, Reason: "disk full"}}
	if got := Choose(o); got.Node != "n2" {
		t.Errorf("chosen %+v, want n2: n3 has refused the term", got)
	}
}
