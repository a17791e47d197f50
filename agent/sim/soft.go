package sim

import (
	"fmt"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// freeze is a PostgreSQL that the guard has frozen at the fence point (U6).
type freeze struct {
	term    cluster.Term
	until   cluster.Instant // the guard ends it by itself
	stopped bool            // every process is
}

// stuckIn is one in how many freezes a process cannot be stopped in time, so that the guard kills.
const stuckIn = 20

// wake makes the guard look at the clock again.
func (g *guard) wake() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}

// dueLocked is the moment at which the guard acts by itself; zero: there is none.
func (g *guard) dueLocked() cluster.Instant {
	var at cluster.Instant
	if g.frozen != nil {
		at = g.frozen.until
	}
	if point := g.lease.End.Add(-g.budget); g.lease.Term != 0 && (at.IsZero() || point.Before(at)) {
		at = point
	}
	return at
}

// mayFreezeLocked says whether the lease that has just run out leaves a primary behind that can be frozen: nobody has
// ordered its end, and there is time left to kill.
func (g *guard) mayFreezeLocked(now cluster.Instant) bool {
	s := g.h.server
	return g.grace > 0 && g.frozen == nil && s != nil && !s.dead && s.mayBePrimary && s.state != cluster.PostgresStopping &&
		now.Before(g.lease.End.Add(-g.budget/2))
}

// freezeLocked takes the lease away first, and stops PostgreSQL within half of the budget; what cannot be stopped by then
// is killed.
func (g *guard) freezeLocked(now cluster.Instant) {
	f := &freeze{term: g.lease.Term, until: now.Add(g.grace)}
	within := g.budget / 2
	g.lease, g.budget, g.refused, g.frozen = cluster.Lease{}, 0, max(g.refused, f.term), f
	s := g.h.server
	g.h.world.live(func() {
		stop, stuck := g.h.drawWithin(within), g.h.world.intN(stuckIn) == 0
		if stuck {
			stop = within
		}
		if pause(s.ctx, stop) != nil || !g.h.thawed(serviceGuard, g.alive) {
			return // it has ended: died, or whoever ordered that, sees to the rest
		}
		g.h.mu.Lock()
		mine := g.frozen == f && !s.dead
		if mine && !stuck {
			f.stopped = true
			g.h.haltLocked(true)
		}
		g.h.mu.Unlock()
		switch {
		case mine && stuck:
			g.endFrozen()
		case mine:
			g.h.world.count(&g.h.world.froze)
			g.h.world.Did("%s: postgres is frozen in term %d", g.h.Name, f.term)
			g.push(agent.GuardEvent{Kind: agent.GuardFrozen, Detail: fmt.Sprintf("term %d", f.term), At: now})
			g.wake()
		}
	})
}

// endFrozen kills what is frozen, and says whether anything was.
func (g *guard) endFrozen() bool {
	g.h.mu.Lock()
	f := g.frozen
	if f == nil || g.gone {
		g.h.mu.Unlock()
		return false
	}
	done := g.beginLocked(f.term)
	g.h.mu.Unlock()
	<-done
	g.push(agent.GuardEvent{Kind: agent.GuardFenced, Detail: fmt.Sprintf("term %d", f.term), At: g.h.now()})
	return true
}

// thaw lets PostgreSQL go on under the live lease of the next term (U6).
func (g *guard) thaw(from, t cluster.Term) error {
	now := g.h.now()
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	f := g.frozen
	if f == nil || !f.stopped || f.term != from || t != from+1 || g.fencing != nil {
		return fmt.Errorf("guard: not thawed: asked from term %d to %d, frozen %+v", from, t, f)
	}
	if err := g.holdsLocked(t, now); err != nil {
		return err
	}
	g.frozen = nil
	g.h.haltLocked(false)
	g.h.world.count(&g.h.world.thawed)
	g.h.world.Did("%s: postgres goes on in term %d", g.h.Name, t)
	return nil
}

// haltLocked stops PostgreSQL's processes as the guard does, or lets them go on.
func (h *Host) haltLocked(halt bool) {
	h.halted = halt
	h.world.net.Freeze(h.Name, servicePostgres, h.off || h.stillLocked(servicePostgres))
	h.wakeLocked()
}

// stillLocked says whether a process of the host stands still: by a fault, or by its guard's hand.
func (h *Host) stillLocked(s service) bool {
	return h.frozen[s] || s == servicePostgres && h.halted
}

// endOrphans is EndAll (U5): whoever finds a guard dead kills what it has left.
func (h *Host) endOrphans() {
	h.mu.Lock()
	s := h.server
	orphan := h.guard.gone && s != nil
	h.mu.Unlock()
	if orphan {
		s.kill()
	}
}

func (w *World) count(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}

// Frozen counts how often a primary was frozen, and how often one went on.
func (w *World) Frozen() (froze, thawed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.froze, w.thawed
}

// softGrace is how long a primary stays frozen in the model.
func (w *World) softGrace() time.Duration {
	if !w.opt.SoftFence {
		return 0
	}
	return 10 * w.opt.Heartbeat
}
