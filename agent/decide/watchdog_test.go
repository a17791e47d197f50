package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// noDevice is a node whose file requires a watchdog that is not there.
func noDevice(s *cluster.NodeStatus) {
	s.Guard.Watchdog = cluster.WatchdogStatus{Mode: cluster.WatchdogRequired, Problem: "/dev/watchdog: no such file"}
	s.CanPromote = CannotPromote(*s, cluster.Tags{})
}

// watched makes the key record a watchdog of 6 s: with ttl 800 ms, F 100 ms and 1 % that is W = 6.835 s.
func watched(o *Observation) { o.View.Key.Lease.Watchdog = 6 * time.Second }

func barrierAgo(d time.Duration) func(*Observation) {
	return func(o *Observation) { watched(o); o.TakeOver.BarrierAt = testNow.Add(-d) }
}

func attestedAges(d time.Duration) func(*Observation) {
	return func(o *Observation) {
		watched(o)
		o.TakeOver.BarrierAt = testNow
		for _, n := range []cluster.NodeID{"n2", "n3"} {
			o.TakeOver.Attests[n] = cluster.Attest{Voter: n, Holder: "n1", RaftTerm: 8, Age: d}
		}
	}
}

// Section 11: a taker waits until the recorded watchdog has fired, by attests or since its Barrier, unless it knows better.
func TestWatchdogIsWaitedFor(t *testing.T) {
	runNext(t, taking, []nextCase{
		{"the lease alone is over", barrierAgo(2 * time.Second), Wait, ReasonLeaseNotOver},
		{"wd since the barrier, and the time up to the last feeding is not over", barrierAgo(6200 * time.Millisecond), Wait, ReasonLeaseNotOver},
		{"a moment before", barrierAgo(6834 * time.Millisecond), Wait, ReasonLeaseNotOver},
		{"it has fired", barrierAgo(6836 * time.Millisecond), Acquire, ReasonBestCandidate},
		{"attested for the lease alone", attestedAges(2 * time.Second), Wait, ReasonLeaseNotOver},
		{"attested for the watchdog too", attestedAges(6836 * time.Millisecond), Acquire, ReasonBestCandidate},
		{"released", func(o *Observation) { watched(o); o.TakeOver.BarrierAt = testNow; o.View.Key.Released = true }, Acquire, ReasonBestCandidate},
		{"fenced", func(o *Observation) {
			watched(o)
			o.TakeOver.BarrierAt = testNow
			o.TakeOver.Promises["n1"] = promised("n1", 4, pos(2, 900))
		}, Acquire, ReasonBestCandidate},
	})
}

// In mode required no node without its watchdog becomes a primary, in whatever way.
func TestWatchdogIsRequired(t *testing.T) {
	o := taking()
	noDevice(&o.Local)
	o.Lease0.Watchdog = 6 * time.Second
	if d := Next(o); d.Action != Transfer || d.Node != "n3" {
		t.Errorf("a taker without it: %+v, want leadership given to n3", d)
	}
	o = taking()
	o.Lease0.Watchdog = 6 * time.Second
	if d := Next(o); d.Action != Acquire || d.Acquire.Lease.Watchdog != 6*time.Second {
		t.Errorf("a taker with it: %+v, want an acquisition that records it", d)
	}
	o = taking()
	noDevice(&o.Local)
	s := o.TakeOver.Statuses["n3"]
	noDevice(&s)
	o.TakeOver.Statuses["n3"] = s
	o.Now = o.TakeOver.PromisedAt
	if d := Next(o); d.Action != Wait || !strings.Contains(d.Detail, "n3: its watchdog is required and cannot be used: /dev/watchdog: no such file") {
		t.Errorf("nobody has it: %+v, want a wait that says why", d)
	}
	runNext(t, func() *Observation { o := healthy("n1"); noDevice(&o.Local); return o }, []nextCase{
		{"a primary goes on", func(*Observation) {}, None, ""},
		{"acquired, not yet promoted", func(o *Observation) {
			o.Local.Postgres.Role, o.Local.Postgres.Timeline = cluster.RoleStandby, 1
		}, HandOver, ReasonNoWatchdog},
		{"crashed, no standby ready", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
		}, HandOver, ReasonNoWatchdog},
		{"a switchover that did not come to pass", func(o *Observation) { stopped(&o.Local.Postgres); o.Resume = true }, HandOver, ReasonNoWatchdog},
		{"automatic: restarted all the same", func(o *Observation) {
			stopped(&o.Local.Postgres)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
			o.Local.Guard.Watchdog.Mode = cluster.WatchdogAutomatic
		}, StartPrimary, ReasonNoStandby},
	})
	runNext(t, func() *Observation {
		o := taking()
		o.View.Key, o.View.Claim, o.View.Rules = cluster.LeaderKey{}, "n2", nil
		stopped(&o.Local.Postgres)
		return o
	}, []nextCase{
		{"the first term", func(*Observation) {}, Acquire, ReasonFirstStart},
		{"the first term, without it: nothing is started meanwhile", func(o *Observation) { noDevice(&o.Local) }, Wait, ReasonNoWatchdog},
		{"no leader yet: nothing is started meanwhile", func(o *Observation) { o.Raft.State = cluster.RaftFollower }, None, ""},
	})
}
