package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// takingOfFive is n2 as Raft leader of five after n1 has died. All standbys have promised, and n5 has most: the rule (k 2 of 4) is
// satisfied by any three of them.
func takingOfFive() *Observation {
	o := five()
	t := taking()
	o.Self, o.Local, o.Promised, o.Barrier = "n2", t.Local, t.Promised, true
	o.LeaseState, o.Lease = LeaseNone, cluster.Lease{}
	voters := o.Raft.Voters
	o.Raft, o.TakeOver = t.Raft, t.TakeOver
	o.Raft.Voters = voters
	for _, n := range []string{"n3", "n4", "n5"} {
		o.TakeOver.Statuses[cluster.NodeID(n)] = statusFor(n)
		give(o, n, pos(2, 1000))
	}
	give(o, "n5", pos(2, 1200))
	o.View.Config.PrimaryStartTimeout = 5 * time.Minute
	return o
}

// since makes a node be away for so long.
func (o *Observation) since(n cluster.NodeID, lasts time.Duration) {
	if o.TakeOver.Away == nil {
		o.TakeOver.Away = map[cluster.NodeID]Away{}
	}
	o.TakeOver.Away[n] = Away{AwayNow(o, n), o.Now.Add(-lasts)}
}

func goesSilent(o *Observation, n cluster.NodeID, lasts time.Duration) {
	o.TakeOver.Silent[n] = "no answer"
	o.since(n, lasts)
}

func goesDown(o *Observation, n cluster.NodeID, lasts time.Duration) {
	s := o.TakeOver.Statuses[n]
	s.Postgres.State, s.CanPromote = cluster.PostgresStopped, "its postgres is stopped"
	o.TakeOver.Statuses[n] = s
	o.since(n, lasts)
}

// C2 (ADR 0035): who promised with most and is away is not waited for where the others satisfy every rule by themselves.
func TestC2WithoutWhoIsAway(t *testing.T) {
	lossy := func(o *Observation) { // n1 was cut off, and has promised with what it alone has
		off(o)
		give(o, "n1", pos(2, 1500))
		s := statusFor("n1")
		s.LeaseTerm, s.Lease = 0, 0
		o.TakeOver.Statuses["n1"] = s
		o.View.Config.MaximumLagOnFailover = 100
		o.View.Config.PrimaryStartTimeout = 5 * time.Minute
	}
	const awaited = "position 0/4B0 on timeline 2 is needed: waiting for n5 "
	for _, c := range []struct {
		name  string
		begin func() *Observation
		edit  func(*Observation)
		want  Action
		text  string // how the detail ends, or the node
	}{
		{"all are there: the one with most", takingOfFive, func(*Observation) {}, Transfer, "n5"},
		{"it is silent for a heartbeat timeout: the others suffice", takingOfFive, func(o *Observation) { goesSilent(o, "n5", o.Heartbeat) }, Acquire, ""},
		{"it is silent for less", takingOfFive, func(o *Observation) { goesSilent(o, "n5", o.Heartbeat-1) }, Wait, awaited + "(it did not answer)"},
		{"it was silent, and has answered since", takingOfFive, func(o *Observation) {
			goesSilent(o, "n5", time.Hour)
			delete(o.TakeOver.Silent, "n5")
		}, Transfer, "n5"},
		{"it was down for long, and is silent only now", takingOfFive, func(o *Observation) {
			goesDown(o, "n5", time.Hour)
			o.TakeOver.Silent["n5"] = "no answer"
		}, Wait, awaited + "(it did not answer)"},
		{"nobody has asked it yet", takingOfFive, func(o *Observation) {
			goesSilent(o, "n5", time.Hour)
			delete(o.TakeOver.Silent, "n5")
			delete(o.TakeOver.Statuses, "n5")
		}, Wait, awaited + "(it did not answer)"},
		{"it is silent, and the others do not suffice", takingOfFive, func(o *Observation) {
			goesSilent(o, "n5", time.Hour)
			delete(o.TakeOver.Promises, "n4")
		}, Wait, "; or, without n5: acknowledged commits of term 3 may be only on nodes without a promise: waiting for n1, or for 3 of its 4 standbys (missing: n4, n5)"},
		{"another is silent, too, whose promise counts all the same", takingOfFive, func(o *Observation) {
			goesSilent(o, "n5", time.Hour)
			goesSilent(o, "n4", time.Hour)
		}, Acquire, ""},
		{"two have more and are silent: one too many", takingOfFive, func(o *Observation) {
			give(o, "n4", pos(2, 1100))
			goesSilent(o, "n5", time.Hour)
			goesSilent(o, "n4", time.Hour)
		}, Wait, "(missing: n4, n5)"},
		{"its postgres is down for less than primary_start_timeout", takingOfFive, func(o *Observation) { goesDown(o, "n5", 299*time.Second) },
			Wait, awaited + "(its postgres is stopped)"},
		{"its postgres is down for primary_start_timeout", takingOfFive, func(o *Observation) { goesDown(o, "n5", 300*time.Second) }, Acquire, ""},
		{"with primary_start_timeout 0 its agent has not looked yet", takingOfFive, func(o *Observation) {
			goesDown(o, "n5", time.Hour)
			o.View.Config.PrimaryStartTimeout = 0
			s := o.TakeOver.Statuses["n5"]
			s.Postgres.State = ""
			o.TakeOver.Statuses["n5"] = s
		}, Wait, awaited + "(its postgres is not looked at yet)"},
		{"another has most of the rest", takingOfFive, func(o *Observation) {
			goesSilent(o, "n5", time.Hour)
			give(o, "n3", pos(2, 1100))
		}, Transfer, "n3"},
		{"this node's own has most and its postgres does not start", takingOfFive, func(o *Observation) {
			give(o, "n5", pos(2, 1000))
			give(o, "n2", pos(2, 1200))
			o.Local.Postgres.State, o.Local.CanPromote = cluster.PostgresStopped, "its postgres is stopped"
			o.since("n2", 300*time.Second)
		}, Transfer, "n3"},
		{"mode off: within the lag, without the primary that promised and left", taking, func(o *Observation) { lossy(o); goesSilent(o, "n1", o.Heartbeat) }, Acquire, ""},
		{"mode off: it is there, and the candidate catches up with it", taking, func(o *Observation) { lossy(o) }, CatchUp, "n2"},
		{"mode off: this node's own primary was just stopped", taking, func(o *Observation) {
			lossy(o)
			goesDown(o, "n1", time.Second)
		}, Wait, "waiting for n1 (its postgres is stopped)"},
		{"mode off: nobody else is within the lag", taking, func(o *Observation) {
			lossy(o)
			goesSilent(o, "n1", time.Hour)
			give(o, "n2", pos(2, 800))
			give(o, "n3", pos(2, 800))
		}, Wait, "waiting for n1 (it did not answer); or, without n1: acknowledged commits may be only on n1 (term 3, k 0): waiting for n1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.begin()
			c.edit(o)
			got, _ := takeOver(o)
			if got.Action != c.want || !strings.HasSuffix(got.Detail+string(got.Node), c.text) {
				t.Errorf("takeOver = %s %s %q, want %s %q", got.Action, got.Node, got.Detail, c.want, c.text)
			}
		})
	}
}
