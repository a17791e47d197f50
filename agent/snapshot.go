package agent

import (
	"context"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// publish makes what was observed visible to the API.
func (a *Agent) publish(o *decide.Observation) {
	s := &cluster.Snapshot{
		Self: a.opt.Self, View: o.View, Local: o.Local, LocalAt: a.opt.Clock(), Peers: o.Peers,
		Acquired: o.LeaseState != decide.LeaseNone, LoopTurn: a.opt.Clock(),
	}
	if o.View != nil {
		s.KFull = decide.FullFor(o, o.View.Key.Holder)
	}
	a.mu.Lock()
	s.Shutdown = a.hiding
	s.Phase = a.phase
	if a.jobText != "" && o.Job.Action != "" {
		s.Phase += ": " + a.jobText
	}
	s.PhaseTime = a.phases.durations()
	a.gate = a.gate.Next(o)
	s.GateOpen = a.gate.Open(o, s.KFull)
	a.mu.Unlock()
	a.snapshot.Store(s)
}

// noteShown is the event of S4: /primary is shown although the rule of the term is not settled, since the second has
// passed. Once per term; a rule that is changed after it was settled shuts no gate and is no such case.
func (a *Agent) noteShown(ctx context.Context, o *decide.Observation) {
	a.mu.Lock()
	g := a.gate
	due := a.shownTold < g.Term
	a.mu.Unlock()
	if !due {
		return
	}
	missing := decide.ShownUnsettled(o, g, decide.FullFor(o, a.opt.Self))
	if missing == "" {
		return
	}
	a.mu.Lock()
	a.shownTold = g.Term
	a.mu.Unlock()
	a.event(ctx, "shown_unsettled", g.Term, missing)
}

// gateOpens is when the second of S4 ends for a gate that is still shut; zero: there is none.
func (a *Agent) gateOpens() cluster.Instant {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gate.Opens()
}

// phases are the moments of the last take-over that this node had a part in.
type phases struct {
	start cluster.Instant
	last  cluster.Instant
	took  map[string]time.Duration
}

// phaseReset is the pause after which a new mark begins a new take-over.
const phaseReset = 20 * time.Second

// markPhase notes that a part of a take-over ended at t: the metrics and the demo show how long each took.
func (a *Agent) markPhase(name string, t cluster.Instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, again := a.phases.took[name]; again && name == "settled" {
		return // the first rule of the term is part of the take-over, later ones are not
	}
	if a.phases.took == nil || t.Sub(a.phases.last) > phaseReset || name == "noticed" || name == "elected" {
		a.phases = phases{start: t, last: t, took: map[string]time.Duration{}}
	}
	a.phases.took[name] = t.Sub(a.phases.last)
	a.phases.last = t
}

func (p phases) durations() map[string]time.Duration { return copyMap(p.took) }
