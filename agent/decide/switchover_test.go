package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// CheckSwitchover's codes: the request itself is wrong, it does not fit what stands, it cannot be done now.
func TestCheckSwitchover(t *testing.T) {
	ask := func(leader, candidate cluster.NodeID) func(*Observation) {
		return func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: leader, Candidate: candidate}}
		}
	}
	with := func(leader, candidate cluster.NodeID, edits ...func(*Observation)) func(*Observation) {
		return func(o *Observation) {
			ask(leader, candidate)(o)
			for _, e := range edits {
				e(o)
			}
		}
	}
	peer := func(n cluster.NodeID, f func(*cluster.PeerView)) func(*Observation) {
		return func(o *Observation) { p := o.Peers[n]; f(&p); o.Peers[n] = p }
	}
	quiet := func(p *cluster.PeerView) { p.Err = "connection refused" }
	old := func(p *cluster.PeerView) { p.At = testNow.Add(-ReachableFor - 1) }
	refuses := func(p *cluster.PeerView) { p.Status.CanPromote = "its guard does not answer" }
	for _, c := range []struct {
		name string
		edit func(*Observation)
		code int // 0: it can be done
		text string
	}{
		{"any candidate", ask("n1", ""), 0, ""},
		{"a named candidate", ask("n1", "n3"), 0, ""},
		{"a stopping agent names no leader", func(o *Observation) { o.Request = &Request{Leaving: true} }, 0, ""},
		{"no leader named", ask("", "n2"), cluster.ActionBadRequest, `the present one is "n1"`},
		{"leader and candidate are one", ask("n1", "n1"), cluster.ActionBadRequest, `both "n1"`},
		{"another leader named: late or repeated", ask("n2", "n3"), cluster.ActionPrecondition, `"n2" was named, the key is held by "n1"`},
		{"lease run out", with("n1", "", func(o *Observation) { o.Now = o.Lease.End }), cluster.ActionUnavailable, "no live lease"},
		{"past the fence point (L5)", with("n1", "", func(o *Observation) { o.Now = o.Lease.FencePoint(o.View.Key.Lease) }), cluster.ActionUnavailable, "no live lease"},
		{"key released", with("n1", "", func(o *Observation) { o.View.Key.Released = true }), cluster.ActionUnavailable, "no live lease"},
		{"postgres stopped", with("n1", "", editLocal(stopped)), cluster.ActionUnavailable, "postgres is stopped"},
		{"postgres not promoted yet", with("n1", "", editLocal(func(p *cluster.PostgresStatus) { p.Role = cluster.RoleStandby })), cluster.ActionUnavailable, "the leader's postgres is"},
		{"not Raft leader", with("n1", "", func(o *Observation) { o.Raft.State = cluster.RaftFollower }), cluster.ActionUnavailable, "raft leadership is on its way back"},
		{"no Barrier", with("n1", "", func(o *Observation) { o.Barrier = false }), cluster.ActionUnavailable, "raft leadership is on its way back"},
		{"candidate unknown", ask("n1", "n9"), cluster.ActionPrecondition, `candidate "n9": it is not known, or has never answered; good candidates: n2, n3`},
		{"candidate never answered", with("n1", "n3", peer("n3", func(p *cluster.PeerView) { p.At = 0 })), cluster.ActionPrecondition, "never answered"},
		{"candidate does not answer", with("n1", "n3", peer("n3", quiet)), cluster.ActionPrecondition, "connection refused; good candidates: n2"},
		{"candidate's answer is too old", with("n1", "n3", peer("n3", old)), cluster.ActionPrecondition, "does not answer"},
		{"candidate is no standby", with("n1", "n3", peer("n3", func(p *cluster.PeerView) { p.Status.Postgres.Role = cluster.RolePrimary })), cluster.ActionPrecondition, "runs no standby"},
		{"candidate is no voter", with("n1", "n3", func(o *Observation) { o.Raft.Voters = []cluster.NodeID{"n1", "n2"} }), cluster.ActionPrecondition, "it is not a voter"},
		{"candidate says no", with("n1", "n3", peer("n3", refuses)), cluster.ActionPrecondition, "its guard does not answer"},
		{"candidate does not stream", with("n1", "n3", func(o *Observation) { gone(o, "n3") }), cluster.ActionPrecondition, "not streaming from the primary"},
		{"candidate's reply is too old (S8)", with("n1", "n3", func(o *Observation) { o.Local.Postgres.Replication[1].ReplyAge = ReplyLimit + time.Millisecond }), cluster.ActionPrecondition, "not streaming from the primary"},
		{"candidate's data is not registered", with("n1", "n3", func(o *Observation) {
			n := o.View.Nodes["n3"]
			n.Incarnation = ""
			o.View.Nodes["n3"] = n
		}), cluster.ActionPrecondition, "not streaming from the primary"},
		{"no good candidate: each with its reason", with("n1", "", peer("n2", quiet), peer("n3", refuses)), cluster.ActionPrecondition, "no good candidate: n2: it does not answer, or runs no standby: connection refused; n3: its guard does not answer"},
		{"stopping, no good candidate", func(o *Observation) { o.Request = &Request{Leaving: true}; gone(o, "n2", "n3") }, cluster.ActionPrecondition, "no good candidate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			got := CheckSwitchover(o)
			switch {
			case c.code == 0 && got != nil:
				t.Errorf("refused: %+v", *got)
			case c.code != 0 && (got == nil || got.Code != c.code || !strings.Contains(got.Text, c.text)):
				t.Errorf("answer %+v, want %d with %q", got, c.code, c.text)
			}
		})
	}
}

// S8, V5: which life asks the holder to take it out of the rules.
func TestS8WantsOut(t *testing.T) {
	leaves := func(o *Observation) { o.Request = &Request{Leaving: true} }
	life := member("n3").Incarnation
	for _, c := range []struct {
		name string
		self string
		edit func(*Observation)
		want cluster.Incarnation
	}{
		{"well", "n3", func(*Observation) {}, ""},
		{"stopping", "n3", leaves, life},
		{"the holder, stopping, hands over instead", "n1", leaves, ""},
		{"diverged, in a rule", "n3", func(o *Observation) { o.Position = pos(1, 600) }, life},
		{"diverged, out of the rules", "n3", func(o *Observation) { o.Position = pos(1, 600); count(o, 1, "n2") }, ""},
		{"its data is gone: the life that the rules count", "n3", editLocal(func(p *cluster.PostgresStatus) {
			*p = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		}), life},
		{"stopping, its data is not touched", "n3", func(o *Observation) { leaves(o); o.Refused = "foreign" }, life},
		{"stopped, not leaving", "n3", editLocal(stopped), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy(c.self)
			c.edit(o)
			if got := WantsOut(o); got != c.want {
				t.Errorf("asks for %q, want %q", got, c.want)
			}
		})
	}
}

// S8, B1: when a stopping agent may go. n3 is a standby that counts, or n1 the holder.
func TestS8MayStop(t *testing.T) {
	for _, c := range []struct {
		name string
		self string
		edit func(*Observation)
		may  bool
	}{
		{"a standby that counts waits to be taken out", "n3", func(*Observation) {}, false},
		{"a standby that does not count", "n3", func(o *Observation) { count(o, 1, "n2") }, true},
		{"a standby without which k would not be reached", "n3", func(o *Observation) { count(o, 2, "n2", "n3") }, true},
		{"the only standby: its leaving would lower k", "n3", func(o *Observation) { count(o, 1, "n3") }, true},
		{"a standby of a former life's rule", "n3", func(o *Observation) { o.View.Rules[0].Standbys[1].Incarnation = "former" }, true},
		{"a standby, nobody else is there", "n3", func(o *Observation) {
			for n, p := range o.Peers {
				p.Err = "no answer"
				o.Peers[n] = p
			}
		}, true},
		{"no key yet", "n3", func(o *Observation) { o.View.Key = cluster.LeaderKey{} }, true},
		{"Raft leader, not the holder: leadership goes first", "n3", func(o *Observation) { count(o, 1, "n2"); o.Raft.State = cluster.RaftLeader }, false},
		{"the holder hands over first", "n1", func(*Observation) {}, false},
		{"the holder, its switchover under way", "n1", func(o *Observation) { o.Job.Action = Switchover }, false},
		{"the holder, its hand-over under way", "n1", func(o *Observation) { o.Job.Action = HandOver; o.LeaseState = LeaseNone }, false},
		{"the holder has released, nobody has taken over yet", "n1", func(o *Observation) { o.View.Key.Released = true; o.LeaseState = LeaseNone }, false},
		{"the holder without a lease", "n1", func(o *Observation) { o.LeaseState = LeaseNone }, true},
		{"the holder, nobody to hand over to", "n1", func(o *Observation) { gone(o, "n2", "n3") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy(c.self)
			o.Request = &Request{Leaving: true}
			c.edit(o)
			if got := MayStop(o); got != c.may {
				t.Errorf("may stop: %t, want %t", got, c.may)
			}
		})
	}
}

// S8: a stopping agent begins nothing that it would leave half done.
func TestS8LeavingBeginsNothing(t *testing.T) {
	leave := func(edit func(*Observation)) func(*Observation) {
		return func(o *Observation) { o.Request = &Request{Leaving: true}; edit(o) }
	}
	runNext(t, func() *Observation { return healthy("n3") }, []nextCase{
		{"no start", leave(editLocal(stopped)), None, ""},
		{"no rewind", leave(func(o *Observation) {
			o.Position = pos(1, 600)
			count(o, 1, "n2")
			stopped(&o.Local.Postgres)
		}), None, ""},
		{"no clone", leave(func(o *Observation) {
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
			count(o, 1, "n2")
		}), None, ""},
	})
	runNext(t, func() *Observation { return healthy("n1") }, []nextCase{
		{"the holder hands over", leave(func(*Observation) {}), Switchover, ReasonRequested},
		{"the holder, nobody to hand over to", leave(func(o *Observation) { gone(o, "n2", "n3") }), None, ""},
		{"no restart in place", leave(func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
		}), None, ""},
	})
}
