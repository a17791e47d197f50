package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// asking is n1 as settled leader, with n3 silent and asking to be taken in under another uid.
func asking() *Observation {
	o := healthy("n1")
	o.Settled = true
	o.Peers["n3"] = cluster.PeerView{Status: statusFor("n3"), At: o.Now.Add(-time.Minute), Err: "refused"}
	o.Applicants = []cluster.Applicant{{Node: "n3", UID: "new", RaftAddr: "n3:7400", For: time.Minute}}
	return o
}

func TestMembership(t *testing.T) {
	removed := func(o *Observation) { o.Raft.Voters = o.Raft.Voters[:2] }
	readmitted := func(o *Observation) {
		removed(o)
		n := o.View.Nodes["n3"]
		n.UID = "new"
		o.View.Nodes["n3"] = n
	}
	added := func(o *Observation) {
		readmitted(o)
		o.Raft.Nonvoters = []cluster.NodeID{"n3"}
	}
	answers := func(o *Observation) {
		s := statusFor("n3")
		s.UID = "new"
		o.Peers["n3"] = cluster.PeerView{Status: s, At: o.Now}
	}
	both := func(edits ...func(*Observation)) func(*Observation) {
		return func(o *Observation) {
			for _, e := range edits {
				e(o)
			}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want Action
		why  string // part of the detail
	}{
		{"its former server goes first", func(*Observation) {}, RemoveServer, ""},
		{"then the name", removed, Readmit, ""},
		{"L6 not before it is committed that it is gone", both(removed, func(o *Observation) { o.View.Committed = []cluster.NodeID{"n1", "n2", "n3"} }), Wait, "not committed"},
		{"then the log", readmitted, AddServer, ""},
		{"it does not answer yet", both(added, func(o *Observation) { o.Applicants = nil }), None, ""},
		{"then a vote", both(added, answers), GiveVote, ""},
		{"an answer of its former life gives no vote", both(added, answers, func(o *Observation) {
			p := o.Peers["n3"]
			p.Status.UID = "n3"
			o.Peers["n3"] = p
		}), None, ""},
		{"removed, and back while another asks for its name", both(readmitted, answers, func(o *Observation) { o.Applicants[0].UID = "x" }), AddServer, ""},
		{"removed, and back, nobody asks", both(readmitted, answers, func(o *Observation) { o.Applicants = nil }), AddServer, ""},
		{"removed, and another answers under its name", both(removed, answers, func(o *Observation) { o.Applicants = nil }), None, ""},
		{"L6 the key is not settled", func(o *Observation) { o.Settled = false }, None, ""},
		{"L6 not the leader", func(o *Observation) { o.Raft.State = cluster.RaftFollower }, None, ""},
		{"L6 no barrier", func(o *Observation) { o.Barrier = false }, None, ""},
		{"L6 the holder is never removed", func(o *Observation) { o.View.Key.Holder = "n3" }, Wait, "holds the leader key"},
		{"the holder gave the key back", func(o *Observation) { o.View.Key.Holder, o.View.Key.Released = "n3", true }, RemoveServer, ""},
		{"the old one answers", func(o *Observation) { o.Applicants[0].Other = "the node at 10.0.0.3:7400" }, Wait, "10.0.0.3"},
		{"it answers itself, of a name without a bearer", both(removed, answers, func(o *Observation) {
			n := o.View.Nodes["n3"]
			n.UID = "" // as pgquorum recover leaves it
			o.View.Nodes["n3"] = n
		}), Readmit, ""},
		{"the old one answered of late", func(o *Observation) {
			o.Peers["n3"] = cluster.PeerView{Status: statusFor("n3"), At: o.Now.Add(-ReplacePatience + time.Second)}
		}, Wait, "not long ago"},
		{"it has only begun to ask", func(o *Observation) { o.Applicants[0].For = ReplacePatience - time.Second }, Wait, "not long ago"},
		{"this node's own name", func(o *Observation) { o.Applicants[0].Node = "n1" }, Wait, "own"},
		{"a name that nobody knows", func(o *Observation) { o.Applicants[0].Node = "n9" }, Wait, "no node n9"},
		{"a first member that never registered", func(o *Observation) { removed(o); delete(o.View.Nodes, "n3") }, Readmit, ""},
		{"who waits does not hold up the next", func(o *Observation) {
			o.Applicants = append([]cluster.Applicant{{Node: "n2", UID: "x", For: time.Minute}}, o.Applicants...)
		}, RemoveServer, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := asking()
			c.edit(o)
			d := Membership(o)
			if d.Action != c.want || !strings.Contains(d.Detail, c.why) || c.why == "" && d.Detail != "" {
				t.Errorf("decided %s (%s), want %s (%s)", d.Action, d.Detail, c.want, c.why)
			}
			if d.Action != None && d.Action != Wait && (d.Node != "n3" || d.Action != GiveVote && d.Joins.UID != "new") {
				t.Errorf("decided for %s, %+v", d.Node, d.Joins)
			}
		})
	}
}

// A node without a Raft store starts nothing, and says what it waits for.
func TestNotMemberWaits(t *testing.T) {
	t.Parallel()
	o := healthy("n2")
	o.View = &cluster.View{}
	o.Local.Postgres.State = cluster.PostgresStopped
	o.Raft.Waiting = "to be taken in"
	if d := Next(o); d.Action != Wait || d.Reason != ReasonNotMember || d.Detail != "to be taken in" {
		t.Errorf("decided %+v", d)
	}
}

// A leader that asks for promises in vain, of nodes that do not answer, goes on with its own duties between two rounds: each
// round lasts as long as the pause between their beginnings.
func TestOwnDutiesBetweenRounds(t *testing.T) {
	t.Parallel()
	o := taking()
	o.View.Key.Released = true
	o.TakeOver.Promises = map[cluster.NodeID]cluster.Promise{"n2": promised("n2", 4, pos(2, 1000))}
	o.Local.Postgres.State, o.Local.CanPromote = cluster.PostgresStopped, "its postgres is stopped"
	o.StoppedSince = o.Now.Add(-HandOverPatience)
	o.TakeOver.AskedAt, o.TakeOver.PromisedAt = o.Now.Add(-o.Heartbeat/4), o.Now.Add(-o.Heartbeat/4)
	o.TakeOver.RoundAt = o.Now
	if d := Next(o); d.Action != StartStandby {
		t.Errorf("right after a round: %s (%s)", d.Action, d.Reason)
	}
	o.Now = o.Now.Add(o.Heartbeat / 20)
	if d := Next(o); d.Action != AskPromises {
		t.Errorf("later: %s (%s)", d.Action, d.Reason)
	}
}
