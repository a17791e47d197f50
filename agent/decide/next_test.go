package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

type nextCase struct {
	name   string
	edit   func(*Observation)
	action Action
	reason Reason
}

func runNext(t *testing.T, base func() *Observation, cases []nextCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := base()
			c.edit(o)
			d := Next(o)
			if d.Action != c.action || d.Reason != c.reason {
				t.Errorf("Next = %q because %q (%s), want %q because %q", d.Action, d.Reason, d.Detail, c.action, c.reason)
			}
		})
	}
}

func editLocal(f func(*cluster.PostgresStatus)) func(*Observation) {
	return func(o *Observation) { f(&o.Local.Postgres) }
}

func stopped(p *cluster.PostgresStatus) {
	p.State, p.Role, p.Replication = cluster.PostgresStopped, cluster.RoleNone, nil
}

func TestHolder(t *testing.T) {
	runNext(t, func() *Observation { return healthy("n1") }, []nextCase{
		{"nothing to do", func(*Observation) {}, None, ""},
		{"L2 lease run out", func(o *Observation) { o.Now = o.Lease.End }, Fence, ReasonLeaseLost},
		{"L5 past the fence point", func(o *Observation) { o.Now = o.Lease.FencePoint(o.View.Key.Lease) }, Fence, ReasonLeaseLost},
		{"L5 F before E, in numbers", func(o *Observation) { o.Lease.End = o.Now.Add(100 * time.Millisecond) }, Fence, ReasonLeaseLost},
		{"L5 a moment earlier", func(o *Observation) { o.Lease.End = o.Now.Add(100*time.Millisecond + 1) }, None, ""},
		{"L2 lease of an older term", func(o *Observation) { o.Lease.Term = 2 }, Fence, ReasonLeaseLost},
		{"key names another", func(o *Observation) { o.View.Key.Holder = "n2" }, Fence, ReasonNotHolder},
		{"L2 K1 leadership came back to the holder", func(o *Observation) { o.Barrier = false }, Barrier, ReasonNewLeader},
		{"G1 an absurd promise", func(o *Observation) {
			p := o.Peers["n3"]
			p.Status.Promised = 1 << 60
			o.Peers["n3"] = p
		}, None, ""},
		{"S2 unsettled and unable, another standby streams", func(o *Observation) {
			o.View.Rules = append(o.View.Rules, o.View.Rules[0])
			o.View.Rules[1].Standbys = []cluster.Member{member("n2")}
			o.Local.Postgres.Replication = o.Local.Postgres.Replication[1:]
		}, ChangeRule, ReasonRuleDiffers},
		{"agent came back, FSM behind the guard's lease", func(o *Observation) { o.Lease.Term = 4; o.Raft.State = cluster.RaftFollower; o.Barrier = false }, None, ""},
		{"F2 wrong timeline", editLocal(func(p *cluster.PostgresStatus) { p.Timeline = 5 }), Fence, ReasonWrongTimeline},
		{"G1 a peer promised a higher term", func(o *Observation) {
			p := o.Peers["n3"]
			p.Status.Promised = 4
			o.Peers["n3"] = p
		}, Acquire, ReasonHigherPromise},
		{"leadership away, lease alive", func(o *Observation) { o.Raft.State = cluster.RaftFollower; o.Barrier = false }, None, ""},
		{"C3 crashed, standbys ready", editLocal(stopped), HandOver, ReasonStandbyReady},
		{"C3 crashed, one standby silent", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
		}, StartPrimary, ReasonNoStandby},
		{"C3 crashed, no restart helps", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
			failed(o, StartPrimary, MaxStarts)
		}, HandOver, ReasonCrashed},
		{"C3 crashed, a standby has more", func(o *Observation) {
			stopped(&o.Local.Postgres)
			p := o.Peers["n2"]
			p.Status.Position.LSN = 2000
			o.Peers["n2"] = p
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
		}, HandOver, ReasonCrashed},
		{"B1 a switchover that did not come to pass", func(o *Observation) { stopped(&o.Local.Postgres); o.Resume = true }, StartPrimary, ReasonResume},
		{"K6 promotion did not succeed", func(o *Observation) {
			o.Local.Postgres.Role, o.Local.Postgres.Timeline = cluster.RoleStandby, 1
			failed(o, Promote, MaxStarts)
		}, HandOver, ReasonCannotPromote},
		{"hung", editLocal(func(p *cluster.PostgresStatus) { p.State, p.Role = cluster.PostgresHung, cluster.RoleNone }), HandOver, ReasonHung},
		{"acquired, not yet promoted", func(o *Observation) {
			o.Local.Postgres.Role, o.Local.Postgres.Timeline = cluster.RoleStandby, 1
		}, Promote, ReasonKeyHeld},
		{"I1 acquired, no quorum of answers yet", func(o *Observation) {
			o.Local.Postgres.Role, o.LeaseState, o.Lease.End = cluster.RoleStandby, LeaseFresh, 0
		}, Wait, ReasonLeaseNotOver},
		{"switchover asked for", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n1", Candidate: "n2"}}
		}, Switchover, ReasonRequested},
		{"switchover asked of another leader", func(o *Observation) {
			o.Request = &Request{SwitchoverRequest: cluster.SwitchoverRequest{Leader: "n3", Candidate: "n1"}}
		}, None, ""},
		{"F1 fork not recorded", func(o *Observation) {
			f := o.View.Forks[2]
			f.LSN = 0
			o.View.Forks[2] = f
		}, RecordFork, ReasonForkUnrecorded},
		{"S4 older rules recorded", func(o *Observation) { o.View.Rules = append(o.View.Rules, o.View.Rules[0]) }, SettleRule, ReasonRuleUnsettled},
		{"S3 list not proven in this run", func(o *Observation) { o.RuleProven = false }, SettleRule, ReasonRuleUnsettled},
		{"S2 a standby came", func(o *Observation) { o.View.Rules[0].Standbys = []cluster.Member{member("n2")} }, ChangeRule, ReasonRuleDiffers},
		{"V5 a standby asks to leave", func(o *Observation) {
			p := o.Peers["n3"]
			p.Status.WantsOut = member("n3").Incarnation
			o.Peers["n3"] = p
		}, ChangeRule, ReasonRuleDiffers},
	})
}

func TestTakeOver(t *testing.T) {
	runNext(t, taking, []nextCase{
		{"K7 best candidate", func(*Observation) {}, Acquire, ReasonBestCandidate},
		{"K1 no barrier", func(o *Observation) { o.Barrier = false }, Barrier, ReasonNewLeader},
		{"K2 statuses first", func(o *Observation) { o.TakeOver.AskedAt = 0 }, AskStatus, ReasonHolderUnknown},
		{"K3 holder well", func(o *Observation) { o.TakeOver.Statuses["n1"] = statusFor("n1") }, HandBack, ReasonHolderWell},
		{"K3 handed back twice", func(o *Observation) { o.TakeOver.Statuses["n1"] = statusFor("n1"); o.View.Handbacks = 2 }, Acquire, ReasonBestCandidate},
		{"K3 holder's lease too short", func(o *Observation) {
			s := statusFor("n1")
			s.Lease = 50 * time.Millisecond
			o.TakeOver.Statuses["n1"] = s
		}, Acquire, ReasonBestCandidate},
		{"K4 no promises", func(o *Observation) { o.TakeOver.PromisedAt = 0 }, AskPromises, ReasonPromises},
		{"K5 lease may live", func(o *Observation) { o.TakeOver.BarrierAt = testNow }, Wait, ReasonLeaseNotOver},
		{"K5 no barrier moment", func(o *Observation) { o.TakeOver.BarrierAt = 0 }, Wait, ReasonLeaseNotOver},
		{"K5 attested", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			for _, n := range []cluster.NodeID{"n2", "n3"} {
				o.TakeOver.Attests[n] = cluster.Attest{Voter: n, Holder: "n1", RaftTerm: 8, Age: time.Second}
			}
		}, Acquire, ReasonBestCandidate},
		{"K5 one attest is not enough", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			o.TakeOver.Attests["n2"] = cluster.Attest{Voter: "n2", Holder: "n1", RaftTerm: 8, Age: time.Second}
		}, Wait, ReasonLeaseNotOver},
		{"K5 attest of an older raft term", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			for _, n := range []cluster.NodeID{"n2", "n3"} {
				o.TakeOver.Attests[n] = cluster.Attest{Voter: n, Holder: "n1", RaftTerm: 7, Age: time.Second}
			}
		}, Wait, ReasonLeaseNotOver},
		{"K5 attest about another", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			for _, n := range []cluster.NodeID{"n2", "n3"} {
				o.TakeOver.Attests[n] = cluster.Attest{Voter: n, Holder: "n2", RaftTerm: 8, Age: time.Second}
			}
		}, Wait, ReasonLeaseNotOver},
		{"K5 released", func(o *Observation) { o.TakeOver.BarrierAt = testNow; o.View.Key.Released = true }, Acquire, ReasonBestCandidate},
		{"K5 fenced", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			o.TakeOver.Promises["n1"] = promised("n1", 4, pos(2, 900))
		}, Acquire, ReasonBestCandidate},
		{"K5 promised but not fenced", func(o *Observation) {
			o.TakeOver.BarrierAt = testNow
			p := promised("n1", 4, pos(2, 900))
			p.Fenced = false
			o.TakeOver.Promises["n1"] = p
		}, Wait, ReasonLeaseNotOver},
		{"K5 a holder that cannot promise", func(o *Observation) {
			o.View.Key.Holder, o.View.Key.Member = "n2", member("n2")
			o.TakeOver.BarrierAt, o.TakeOver.Began = 0, testNow.Add(-time.Minute)
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresHung, cluster.RoleNone
			delete(o.TakeOver.Promises, "n2")
		}, Transfer, ReasonCannotVouch},
		{"L8 extended lease", func(o *Observation) { o.View.Extension = &cluster.Extension{Holder: "n1", Term: 3} }, Wait, ReasonLeaseNotOver},
		{"B3 paused", func(o *Observation) { o.View.Pause = &cluster.Pause{Holder: "n1", Term: 3} }, Wait, ReasonLeaseNotOver},
		{"K6 a better candidate", func(o *Observation) { o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1001)) }, Transfer, ReasonBetterCandidate},
		{"C1 one promise of two is not enough", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, Wait, ReasonNoCandidate},
		{"V5 promise of another life", func(o *Observation) {
			p := o.TakeOver.Promises["n3"]
			p.Member.Incarnation = "other"
			o.TakeOver.Promises["n3"] = p
		}, Wait, ReasonNoCandidate},
		{"G1 promise of another term", func(o *Observation) { o.TakeOver.Promises["n3"] = promised("n3", 5, pos(2, 1000)) }, Wait, ReasonNoCandidate},
		{"F3 promise on an unknown timeline", func(o *Observation) { o.TakeOver.Promises["n3"] = promised("n3", 4, pos(9, 1000)) }, Wait, ReasonNoCandidate},
		{"F3 promise on an allotted number made by hand", func(o *Observation) {
			o.TakeOver.Promises["n3"] = promised("n3", 4, cluster.Position{Timeline: 2, LSN: 1000, Parent: 7})
		}, Wait, ReasonNoCandidate},
		{"C2 position before priority", func(o *Observation) {
			n := o.View.Nodes["n2"]
			n.Tags.FailoverPriority = 100
			o.View.Nodes["n2"] = n
			o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1001))
		}, Transfer, ReasonBetterCandidate},
		{"C2 priority among equals", func(o *Observation) {
			n := o.View.Nodes["n3"]
			n.Tags.FailoverPriority = 100
			o.View.Nodes["n3"] = n
		}, Transfer, ReasonBetterCandidate},
		{"C2 the highest may not be promoted", func(o *Observation) {
			n := o.View.Nodes["n3"]
			n.Tags.NoFailover = true
			o.View.Nodes["n3"] = n
			o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1001))
		}, CatchUp, ReasonBehind},
		{"K6 it refused", func(o *Observation) {
			o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 1000))
			o.View.Nodes["n3"] = func() cluster.Node { n := o.View.Nodes["n3"]; n.Tags.FailoverPriority = 9; return n }()
			o.View.Refusals = map[cluster.NodeID]cluster.Refusal{"n3": {Term: 4, Reason: "disk"}}
		}, Acquire, ReasonBestCandidate},
		{"V4 an older timeline is lower whatever its LSN", func(o *Observation) {
			o.TakeOver.Promises["n3"] = promised("n3", 4, pos(1, 5000))
		}, Acquire, ReasonBestCandidate},
	})
}

func TestStandby(t *testing.T) {
	runNext(t, func() *Observation { return healthy("n3") }, []nextCase{
		{"nothing to do", func(*Observation) {}, None, ""},
		{"stopped", editLocal(stopped), StartStandby, ReasonStopped},
		{"handed over, the new primary comes", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.View.Key.Released, o.StoppedSince = true, testNow.Add(-time.Second)
		}, Wait, ReasonHandedOver},
		{"handed over, nobody came", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.View.Key.Released, o.StoppedSince = true, testNow.Add(-HandOverPatience)
		}, StartStandby, ReasonStopped},
		{"stopped, end of WAL not read yet", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Position, o.StoppedSince = cluster.Position{}, testNow.Add(-time.Second)
		}, Wait, ReasonHandedOver},
		{"stopped, end of WAL cannot be read", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Position, o.StoppedSince = cluster.Position{}, testNow.Add(-HandOverPatience)
		}, StartStandby, ReasonStopped},
		{"another source", editLocal(func(p *cluster.PostgresStatus) { p.Source = "n2" }), Follow, ReasonSource},
		{"same source, older term", editLocal(func(p *cluster.PostgresStatus) { p.SourceTerm = 2 }), Follow, ReasonSource},
		{"S6 same source and term, by a catch-up order", editLocal(func(p *cluster.PostgresStatus) { p.SourceTimeline = 0 }), Follow, ReasonSource},
		{"V1 promised a higher term", func(o *Observation) { o.Promised = 4; o.Local.Postgres.Source = "" }, Wait, ReasonSource},
		{"key released", func(o *Observation) { o.View.Key.Released = true }, Wait, ReasonSource},
		{"V5 diverged, still in a rule", func(o *Observation) { o.Position = pos(1, 600) }, Wait, ReasonInRule},
		{"diverged, running", func(o *Observation) {
			o.Position = pos(1, 600)
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
		}, StopPostgres, ReasonDiverged},
		{"diverged, stopped", func(o *Observation) {
			o.Position = pos(1, 600)
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
			stopped(&o.Local.Postgres)
		}, Rewind, ReasonDiverged},
		{"diverged, rewinds did not succeed", func(o *Observation) {
			o.Position = pos(1, 600)
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
			stopped(&o.Local.Postgres)
			failed(o, Rewind, MaxRewinds)
		}, Clone, ReasonRewindImpossible},
		{"diverged, rewind not wanted", func(o *Observation) {
			o.Position = pos(1, 600)
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
			stopped(&o.Local.Postgres)
			o.UseRewind = false
		}, Clone, ReasonRewindImpossible},
		{"prefix of an older timeline", func(o *Observation) { o.Position = pos(1, 500); stopped(&o.Local.Postgres) }, StartStandby, ReasonStopped},
		{"F3 timeline made by hand", func(o *Observation) {
			o.Position = pos(9, 600)
			o.View.Rules[0].Standbys = nil
		}, StopPostgres, ReasonDiverged},
		{"F3 an allotted number made by hand", func(o *Observation) { // pg_rewind would find the same number and nothing to do
			o.Position = cluster.Position{Timeline: 2, LSN: 1000, Parent: 7}
			o.View.Rules[0].Standbys = nil
			stopped(&o.Local.Postgres)
		}, Clone, ReasonRewindImpossible},
		{"F3 on an adopted number", func(o *Observation) { // perhaps another promotion by hand, to the same number
			adopted(o, "n1")
			o.Position = adoptedEnd
			o.View.Rules[0].Standbys = nil
			stopped(&o.Local.Postgres)
		}, Clone, ReasonRewindImpossible},
		{"F3 behind the twin of an adopted timeline", func(o *Observation) { // which pg_rewind would take for a common ancestor
			adopted(o, "n1")
			o.Position = cluster.Position{Timeline: 10, LSN: 1000, Parent: 9}
			o.View.Rules[0].Standbys = nil
			stopped(&o.Local.Postgres)
		}, Clone, ReasonRewindImpossible},
		{"F3 an unknown number, nothing was ever adopted", func(o *Observation) {
			o.Position = cluster.Position{Timeline: 10, LSN: 1000, Parent: 9}
			o.View.Rules[0].Standbys = nil
			stopped(&o.Local.Postgres)
		}, Rewind, ReasonDiverged},
		{"no data, its former life in a rule", editLocal(func(p *cluster.PostgresStatus) {
			*p = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		}), Wait, ReasonInRule},
		{"no data", func(o *Observation) {
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
		}, Clone, ReasonNoData},
		{"V5 rewind broken off", func(o *Observation) {
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataRewinding, State: cluster.PostgresStopped}
			o.View.Rules[0].Standbys = []cluster.Member{member("n2")}
		}, Rewind, ReasonRewindBroken},
		{"V5 seeded by hand, its former life in a rule", editLocal(func(p *cluster.PostgresStatus) {
			*p = cluster.PostgresStatus{Data: cluster.DataUnclaimed, State: cluster.PostgresStopped}
		}), Wait, ReasonInRule},
		{"foreign data", func(o *Observation) {
			o.Refused = "other system identifier"
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataForeign, State: cluster.PostgresStopped}
		}, Wait, ReasonForeignData},
		{"not registered", func(o *Observation) { delete(o.View.Nodes, "n3"); o.View.Rules[0].Standbys = nil }, Register, ReasonNotRegistered},
		{"a job runs", func(o *Observation) { stopped(&o.Local.Postgres); o.Job.Action = Rewind }, Wait, ReasonJob},
		{"failed just now", func(o *Observation) { stopped(&o.Local.Postgres); o.Retry[StartStandby] = testNow + 1 }, Wait, ReasonRetry},
	})
}

func TestBootstrap(t *testing.T) {
	empty := func() *Observation {
		o := taking()
		o.View.SystemID, o.View.Claim, o.View.Key, o.View.Rules, o.View.Forks = "", "", cluster.LeaderKey{}, nil, cluster.Forks{}
		o.View.Nodes = map[cluster.NodeID]cluster.Node{}
		absent := cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		o.Local.Postgres = absent
		for _, n := range []cluster.NodeID{"n1", "n3"} {
			o.TakeOver.Statuses[n] = cluster.NodeStatus{Node: n, Postgres: absent}
		}
		return o
	}
	withData := func(o *Observation, n cluster.NodeID, d cluster.DataState) {
		s := o.TakeOver.Statuses[n]
		s.Postgres.Data = d
		o.TakeOver.Statuses[n] = s
	}
	runNext(t, empty, []nextCase{
		{"claim", func(*Observation) {}, Claim, ReasonFirstStart},
		{"a member has not answered", func(o *Observation) { delete(o.TakeOver.Statuses, "n3") }, Wait, ReasonMembersMissing},
		{"a member has data", func(o *Observation) { withData(o, "n3", cluster.DataUnclaimed) }, Wait, ReasonForeignData},
		{"claimed", func(o *Observation) { o.View.Claim = "n2" }, InitDB, ReasonFirstStart},
		{"another's claim, nothing made", func(o *Observation) { o.View.Claim = "n1" }, Claim, ReasonFirstStart},
		{"another's claim, data made", func(o *Observation) { o.View.Claim = "n1"; withData(o, "n1", cluster.DataOurs) }, Transfer, ReasonClaimant},
		{"made", func(o *Observation) {
			o.View.Claim = "n2"
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", State: cluster.PostgresStopped, Incarnation: "x"}
		}, SetSystemID, ReasonFirstStart},
		{"recorded", func(o *Observation) {
			o.View.Claim, o.View.SystemID = "n2", "7000"
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", State: cluster.PostgresStopped, Incarnation: "x"}
		}, Register, ReasonNotRegistered},
		{"registered", func(o *Observation) {
			o.View.Claim, o.View.SystemID = "n2", "7000"
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", State: cluster.PostgresStopped, Incarnation: "x"}
			n := o.Node
			n.Incarnation = "x"
			o.View.Nodes["n2"] = n
		}, Acquire, ReasonFirstStart},
		{"another node has the data", func(o *Observation) { o.View.Claim, o.View.SystemID = "n1", "7000" }, Transfer, ReasonClaimant},
	})
}
