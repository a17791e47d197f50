package agent

import (
	"maps"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// observe gathers one observation from memory: what the watchers, Raft, the keeper and the peers last said.
func (a *Agent) observe() *decide.Observation {
	local := a.watch.latest()
	lease, state := a.keeper.current()
	raft, barrier := a.raft.Status(), a.raft.BarrierTerm() // before the view: a barrier says that the view after it is no older
	o := &decide.Observation{
		Now: a.opt.Clock(), Self: a.opt.Self, Node: a.opt.Node, View: a.raft.View(), Raft: raft,
		Voters: a.raft.Configs(), Members: a.opt.Members,
		Barrier: raft.State == cluster.RaftLeader && barrier == raft.Term,
		Lease:   lease, LeaseState: state, Lapsed: a.keeper.lapsed(), Answers: a.answers(raft.Term), SoftFence: a.opt.SoftFence,
		Local: a.localStatus(local), LookedAt: local.at, Position: local.position, Promised: a.pg.Promised(),
		Applicants: a.raft.Applicants(),
		Peers:      a.peers.views(), Began: a.began, Heartbeat: a.opt.Heartbeat, Lease0: a.opt.Lease,
		Job: a.jobs.current(), UseRewind: a.opt.UseRewind, Refused: refused(local.postgres, a.raft.View()),
	}
	o.HolderHeard = a.raft.Heard(o.View.Key.Holder)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turnLedger(o)
	o.TakeOver = copyLedger(a.ledger)
	o.Retry, o.Failures = maps.Clone(a.retry), maps.Clone(a.failures)
	if a.request != nil {
		o.Request = &decide.Request{SwitchoverRequest: a.request.SwitchoverRequest, Reason: a.request.reason, Leaving: a.stopping}
	} else if a.inherited != nil {
		r := *a.inherited
		r.Leaving = a.stopping
		o.Request = &r
	} else if a.stopping {
		o.Request = &decide.Request{Reason: "the agent is stopping", Leaving: true}
	}
	o.Settled = a.settledIn != settledKey{} && a.settledIn == settledKey{o.Raft.Term, o.View.Key.Term}
	o.DiskFenced, o.TransportClosed = a.isolated.fenced, a.isolated.closed
	o.Resume = a.resuming != 0 && a.resuming == o.View.Key.Term
	cur, recorded := o.View.Current()
	o.RuleProven = recorded && a.proven == provenRule{cur.ID, o.Local.Postgres.StartTime}
	o.Removed = a.stillRemoved(o)
	a.since(o)
	return o
}

// answers is the end that a lease would have by the answers of a Raft term (L1); zero: no quorum has answered in it.
func (a *Agent) answers(raftTerm uint64) cluster.Instant {
	r, end, ok := a.raft.LeaseEnd(a.raft.View().Key.Lease.TTL)
	if !ok || r != raftTerm {
		return 0
	}
	return end
}

// turnLedger starts a new ledger when the Raft term or the key's term has moved. Promises that came with leadership
// are kept for their term (K6).
func (a *Agent) turnLedger(o *decide.Observation) {
	next := o.View.Key.Term + 1
	leads := o.Raft.State == cluster.RaftLeader
	if a.ledger.Term == next && (!leads || a.ledger.RaftTerm == o.Raft.Term) {
		return
	}
	fresh := decide.TakeOver{Term: next, Began: o.Now}
	if a.ledger.Term != next {
		a.inherited = nil // what was asked of an earlier take-over is done or void
	} else {
		fresh.Promises, fresh.Hops, fresh.HandedAt = a.ledger.Promises, a.ledger.Hops, a.ledger.HandedAt
		fresh.Came = a.ledger.Came
	}
	if leads {
		fresh.RaftTerm = o.Raft.Term
	}
	a.ledger = fresh
}

// since keeps the moment from which something has lasted.
func (a *Agent) since(o *decide.Observation) {
	mark := func(at *cluster.Instant, lasts bool) cluster.Instant {
		switch {
		case !lasts:
			*at = 0
		case at.IsZero():
			*at = o.Now
		}
		return *at
	}
	p := o.Local.Postgres
	primary := p.State == cluster.PostgresRunning && p.Role == cluster.RolePrimary
	a.sinceFull(o, mark)
	o.StoppedSince = mark(&a.stopped, p.State == cluster.PostgresStopped)
	if here := (heldMark{term: o.View.Key.Term, life: o.View.Nodes[o.Self].Incarnation}); a.held.term != here.term || a.held.life != here.life {
		a.held = here
	}
	o.HeldSince = a.held.since
	o.HeldSince = mark(&a.held.since, decide.Held(o))
	o.DeniedSince = a.deniedSince(o, primary)
	o.StandbyLackingSince = mark(&a.lacking, primary && decide.Unable(o))
	o.TakeOver.Away = a.awaySince(o)
}

// awaySince keeps since when each node that promised cannot be had (C2).
func (a *Agent) awaySince(o *decide.Observation) map[cluster.NodeID]decide.Away {
	now := map[cluster.NodeID]decide.Away{}
	for n := range o.TakeOver.Promises {
		how := decide.AwayNow(o, n)
		switch before := a.away[n]; {
		case how == "":
		case before.How == how:
			now[n] = before
		default:
			now[n] = decide.Away{How: how, Since: o.Now}
		}
	}
	a.away = now
	return now
}

// sinceFull keeps what B2 asks of a disk that fills: since when it is short of space, how often Postgres has ended since,
// and how long this node has held the key. It comes before StoppedSince is marked.
func (a *Agent) sinceFull(o *decide.Observation, mark func(*cluster.Instant, bool) cluster.Instant) {
	lacks := decide.Short(o.Local) != ""
	o.ShortSince = mark(&a.short, lacks)
	switch {
	case !lacks:
		a.fullStops = 0
	case o.Local.Postgres.State != cluster.PostgresStopped:
		a.ranFull = true
	case a.ranFull || a.fullStops == 0:
		a.ranFull = false
		a.fullStops++
	}
	o.FullStops = a.fullStops
	k := o.View.Key
	if k.Term != a.holdsIn {
		a.holdsIn, a.holdsFrom = k.Term, 0
	}
	o.HoldsSince = mark(&a.holdsFrom, k.Holder == o.Self && !k.Released)
}

// deniedSince keeps since when each node has said that it does not stream from this primary (S8).
func (a *Agent) deniedSince(o *decide.Observation, primary bool) map[cluster.NodeID]cluster.Instant {
	now := map[cluster.NodeID]cluster.Instant{}
	if primary {
		for _, n := range decide.Denied(o) {
			now[n] = o.Now
			if at, before := a.denied[n]; before {
				now[n] = at
			}
		}
	}
	a.denied = now
	return now
}

// settle tells Raft whether this leader may change the membership (L6).
func (a *Agent) settle(o *decide.Observation) {
	here := settledKey{o.Raft.Term, o.View.Key.Term}
	a.mu.Lock()
	before := a.settledIn
	now := settledKey{}
	if decide.KeySettled(o, before == here) {
		now = here
	}
	a.settledIn = now
	a.mu.Unlock()
	if now != before {
		a.raft.SetSettledTerm(now.raft)
	}
}

func copyLedger(t decide.TakeOver) decide.TakeOver {
	t.Statuses, t.Silent = copyMap(t.Statuses), copyMap(t.Silent)
	t.Promises, t.NoPromise, t.Attests = copyMap(t.Promises), copyMap(t.NoPromise), copyMap(t.Attests)
	return t
}

func copyMap[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// localStatus is this node's answer to a status call.
func (a *Agent) localStatus(l localView) cluster.NodeStatus {
	view, raft := a.raft.View(), a.raft.Status()
	lease, state := a.keeper.current()
	s := cluster.NodeStatus{
		Node: a.opt.Self, UID: a.opt.Node.UID, Version: a.opt.Node.Version, Raft: raft, Index: view.Index, KeyTerm: view.Key.Term,
		Promised: a.pg.Promised(), Postgres: l.postgres, Position: l.position, SeenMax: l.seenMax, Guard: l.guard,
		Disks: a.disk.statuses(),
	}
	s.DiskFault = decide.DiskFault(s.Disks)
	if l.err != nil && s.Postgres.DataDetail == "" {
		s.Postgres.DataDetail = l.err.Error()
	}
	if state == decide.LeaseLive && lease.Term == view.Key.Term {
		s.LeaseTerm, s.Lease = lease.Term, max(0, lease.FencePoint(view.Key.Lease).Sub(a.opt.Clock()))
	}
	a.mu.Lock()
	s.WantsOut, s.Phase = a.wantsOut, a.phase
	s.Stopping = a.stopping
	s.PromoteAfter = decide.NoCandidateFor(a.failures[decide.Promote], a.retry[decide.Promote], a.opt.Clock())
	a.mu.Unlock()
	s.CanPromote = decide.CannotPromote(s, a.opt.Node.Tags)
	return s
}

// refused says why the data directory is left alone.
func refused(p cluster.PostgresStatus, view *cluster.View) string {
	return decide.RefusedData(p, view.SystemID)
}
