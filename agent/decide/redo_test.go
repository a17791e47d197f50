package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

const mib = 1 << 20

// behind makes the peers' WAL end at end, of which each has so many bytes still to replay.
func behind(o *Observation, end cluster.LSN, bytes map[string]uint64) {
	for n, b := range bytes {
		answers(o, n, time.Second, func(p *cluster.PeerView) {
			p.Status.Position.LSN, p.Status.Postgres.Received = end, end
			p.Status.Postgres.Replayed = end - cluster.LSN(b)
		})
	}
}

// crashed is n1 under a live lease, its Postgres gone with so many bytes since redo; n2 and n3 have everything.
func crashed(since uint64) func() *Observation {
	return func() *Observation {
		o := healthy("n1")
		stopped(&o.Local.Postgres)
		o.StoppedSince = o.Now.Add(-10 * time.Millisecond)
		o.Position = pos(2, 1<<40)
		o.Local.Postgres.Redo = 1<<40 - cluster.LSN(since)
		behind(o, 1<<40, map[string]uint64{"n2": 0, "n3": 0})
		return o
	}
}

// C3, ADR 0019: a ready standby at once; else whichever is sooner by the estimate.
func TestC3Revive(t *testing.T) {
	runNext(t, crashed(640*mib), []nextCase{ // a restart takes about 10 s
		{"C3 one is ready: at once", func(*Observation) {}, HandOver, ReasonStandbyReady},
		{"C3 one is ready, one lags", func(o *Observation) { behind(o, 1<<40, map[string]uint64{"n2": 6400 * mib}) }, HandOver, ReasonStandbyReady},
		{"C3 both lag, by less than redo", func(o *Observation) {
			behind(o, 1<<40, map[string]uint64{"n2": 320 * mib, "n3": 320 * mib})
		}, HandOver, ReasonStandbySooner},
		{"C3 both lag, by more than redo", func(o *Observation) {
			behind(o, 1<<40, map[string]uint64{"n2": 6400 * mib, "n3": 6400 * mib})
		}, StartPrimary, ReasonNoStandby},
		{"C3 the ready one may not be promoted, the other has still to receive", func(o *Observation) {
			answers(o, "n2", time.Second, func(p *cluster.PeerView) { p.Status.CanPromote = "its disk is full" })
			behind(o, 1<<40-6400*mib, map[string]uint64{"n3": 0})
		}, StartPrimary, ReasonNoStandby},
		{"C3 redo not known, both lag", func(o *Observation) {
			o.Local.Postgres.Redo = 0
			behind(o, 1<<40, map[string]uint64{"n2": 320 * mib, "n3": 320 * mib})
		}, StartPrimary, ReasonNoStandby},
		{"C3 no restart helps, both lag", func(o *Observation) {
			behind(o, 1<<40, map[string]uint64{"n2": 6400 * mib, "n3": 6400 * mib})
			failed(o, StartPrimary, MaxStarts)
		}, HandOver, ReasonCrashed},
		{"C3 F3 one was promoted by hand: too few standbys", func(o *Observation) {
			answers(o, "n3", time.Second, func(p *cluster.PeerView) { p.Status.Position.Timeline = 77 })
		}, StartPrimary, ReasonNoStandby},
		{"C3 too few standbys answer", func(o *Observation) { o.Peers["n3"] = cluster.PeerView{Err: "no answer"} }, StartPrimary, ReasonNoStandby},
		{"B5 k is 0", func(o *Observation) { count(o, 0, "n2", "n3") }, StartPrimary, ReasonNoStandby},
		{"C3 a data node that is down has more", func(o *Observation) {
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
			answers(o, "n2", time.Second, func(p *cluster.PeerView) { stopped(&p.Status.Postgres); p.Status.Position.LSN = 1<<40 + 1 })
		}, HandOver, ReasonCrashed},
		{"C3 a data node that is down had more, long ago", func(o *Observation) {
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
			answers(o, "n2", ReachableFor+1, func(p *cluster.PeerView) { stopped(&p.Status.Postgres); p.Status.Position.LSN = 1<<40 + 1 })
		}, StartPrimary, ReasonNoStandby},
	})
	runNext(t, crashed(6*mib), []nextCase{ // a restart takes about 0.1 s
		{"C3 one is ready: at once, however short redo is", func(*Observation) {}, HandOver, ReasonStandbyReady},
		{"C3 both lag: a short redo", func(o *Observation) {
			behind(o, 1<<40, map[string]uint64{"n2": 320 * mib, "n3": 320 * mib})
		}, StartPrimary, ReasonNoStandby},
		{"C3 stopped in good order, both lag: no redo at all", func(o *Observation) {
			o.Local.Postgres.Clean, o.Local.Postgres.Redo = true, 0
			behind(o, 1<<40, map[string]uint64{"n2": 64 * mib, "n3": 64 * mib})
		}, StartPrimary, ReasonNoStandby},
	})
}

// C3: the end of this node's WAL is waited for while there is another data node to be compared with, not for ever.
func TestC3EndOfWALUnread(t *testing.T) {
	alone := func(o *Observation) {
		o.Peers["n2"], o.Peers["n3"] = cluster.PeerView{Err: "no answer"}, cluster.PeerView{Err: "no answer"}
	}
	one := func(o *Observation) { o.Peers["n3"] = cluster.PeerView{Err: "no answer"} }
	runNext(t, func() *Observation { o := crashed(64 * mib)(); o.Position = cluster.Position{}; return o }, []nextCase{
		{"a standby is ready: nothing to compare", func(*Observation) {}, HandOver, ReasonStandbyReady},
		{"one answers", one, Wait, ReasonUnread},
		{"one answers, patience is over", func(o *Observation) { one(o); o.StoppedSince = o.Now.Add(-HandOverPatience) }, StartPrimary, ReasonNoStandby},
		{"nobody answers", alone, StartPrimary, ReasonNoStandby},
		{"an arbiter answers", func(o *Observation) {
			alone(o)
			answers(o, "n2", time.Second, func(p *cluster.PeerView) {
				*p = cluster.PeerView{At: p.At}
				p.Status.Postgres.Data = cluster.DataAbsent
			})
		}, StartPrimary, ReasonNoStandby},
	})
}

// Section 11: bytes since redo over the rate.
func TestC3RedoTime(t *testing.T) {
	for _, c := range []struct {
		name  string
		p     cluster.PostgresStatus
		end   cluster.LSN
		want  time.Duration
		known bool
	}{
		{"64 MiB take a second", cluster.PostgresStatus{State: cluster.PostgresStopped, Redo: 1000}, 1000 + 64*mib, time.Second, true},
		{"64 GiB take 17 minutes", cluster.PostgresStatus{State: cluster.PostgresStopped, Redo: 1000}, 1000 + 64<<30, 1024 * time.Second, true},
		{"a checkpoint right at the end", cluster.PostgresStatus{State: cluster.PostgresStopped, Redo: 1000}, 1000, 0, true},
		{"stopped in good order", cluster.PostgresStatus{State: cluster.PostgresStopped, Clean: true}, 0, 0, true},
		{"starting counts from redo", cluster.PostgresStatus{State: cluster.PostgresStarting, Redo: 1000}, 1000 + 64*mib, time.Second, true},
		{"redo not known", cluster.PostgresStatus{State: cluster.PostgresStopped}, 1000, 0, false},
		{"end not known", cluster.PostgresStatus{State: cluster.PostgresStopped, Redo: 1000}, 0, 0, false},
		{"WAL ends before redo", cluster.PostgresStatus{State: cluster.PostgresStopped, Redo: 1000}, 999, 0, false},
	} {
		got, known := redoTime(cluster.NodeStatus{Postgres: c.p, Position: pos(2, c.end)})
		if got != c.want || known != c.known {
			t.Errorf("%s: %v (known %t), want %v (%t)", c.name, got, known, c.want, c.known)
		}
	}
}

// K3: leadership goes back to a holder that lives under its lease and runs as primary, or comes back sooner than another.
// n2 leads, n2 and n3 have everything, the Barrier was just now.
func TestK3HandBack(t *testing.T) {
	holds := func(o *Observation, f func(*cluster.NodeStatus)) {
		s := statusFor("n1")
		s.Position = pos(2, 1<<40)
		f(&s)
		o.TakeOver.Statuses["n1"] = s
	}
	down := func(since uint64) func(*cluster.NodeStatus) {
		return func(s *cluster.NodeStatus) {
			stopped(&s.Postgres)
			s.Postgres.Redo = 1<<40 - cluster.LSN(since)
		}
	}
	lag := func(o *Observation, bytes cluster.LSN) {
		o.Local.Position, o.Local.Postgres.Replayed = pos(2, 1<<40), 1<<40-bytes
		s := o.TakeOver.Statuses["n3"]
		s.Position, s.Postgres.Replayed = pos(2, 1<<40), 1<<40-bytes
		o.TakeOver.Statuses["n3"] = s
	}
	taker := func() *Observation {
		o := taking()
		o.TakeOver.BarrierAt, o.TakeOver.PromisedAt = o.Now, 0
		o.TakeOver.Promises = map[cluster.NodeID]cluster.Promise{}
		return o
	}
	runNext(t, taker, []nextCase{
		{"K3 runs as primary", func(o *Observation) { holds(o, func(*cluster.NodeStatus) {}) }, HandBack, ReasonHolderWell},
		{"K3 has not looked at its postgres yet", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { s.Postgres = cluster.PostgresStatus{} })
		}, HandBack, ReasonHolderWell},
		{"K3 about to be promoted", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { s.Postgres.Role, s.Postgres.Timeline = cluster.RoleStandby, 1 })
		}, HandBack, ReasonHolderWell},
		{"K3 a standby that its acquisition does not promote", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { s.Postgres.Role = cluster.RoleStandby })
			o.View.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, LSN: 500, Term: 2, Node: "n1"}
		}, AskPromises, ReasonPromises},
		{"K3 down, standbys ready", func(o *Observation) { holds(o, down(6*mib)); lag(o, 0) }, AskPromises, ReasonPromises},
		{"K3 down, standbys lag by more than redo", func(o *Observation) { holds(o, down(64*mib)); lag(o, 640*mib) }, HandBack, ReasonHolderSooner},
		{"K3 starting, standbys lag by more than redo", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(64 * mib)(s); s.Postgres.State = cluster.PostgresStarting })
			lag(o, 640*mib)
		}, HandBack, ReasonHolderSooner},
		{"K3 down, standbys lag by less than redo", func(o *Observation) { holds(o, down(6400*mib)); lag(o, 640*mib) }, AskPromises, ReasonPromises},
		{"K3 down, redo not known, standbys lag", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(0)(s); s.Postgres.Redo = 0 })
			lag(o, 640*mib)
		}, AskPromises, ReasonPromises},
		{"K3 down, nobody could take over", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(0)(s); s.Postgres.Redo = 0 })
			delete(o.TakeOver.Statuses, "n3")
		}, HandBack, ReasonHolderSooner},
		{"K3 down, off the key's timeline", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(0)(s); s.Postgres.Timeline = 1 })
			lag(o, 640*mib)
		}, AskPromises, ReasonPromises},
		{"K3 hung", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) {
				s.Postgres.State, s.Postgres.Role = cluster.PostgresHung, cluster.RoleNone
			})
			lag(o, 640*mib)
		}, AskPromises, ReasonPromises},
		{"K3 down, handed back twice", func(o *Observation) {
			holds(o, down(64*mib))
			lag(o, 640*mib)
			o.View.Handbacks = MaxHandbacks
		}, AskPromises, ReasonPromises},
		{"K3 down, its lease is over", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(64 * mib)(s); s.Lease, s.LeaseTerm = 0, 0 })
			lag(o, 640*mib)
		}, AskPromises, ReasonPromises},
		{"K3 down, it has promised the next term", func(o *Observation) {
			holds(o, func(s *cluster.NodeStatus) { down(64 * mib)(s); s.Promised = 4 })
			lag(o, 640*mib)
		}, AskPromises, ReasonPromises},
	})
}

// C3: an operator reads the estimate.
func TestC3Detail(t *testing.T) {
	o := crashed(640 * mib)()
	behind(o, 1<<40, map[string]uint64{"n2": 320 * mib, "n3": 640 * mib})
	if d := Next(o); d.Node != "n2" || !strings.Contains(d.Detail, "n2 in about 5.1s, a restart in about 10s") {
		t.Errorf("to %q: %q", d.Node, d.Detail)
	}
}
