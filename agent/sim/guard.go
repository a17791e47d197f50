package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// guard is the model of one life of the guard (docs/protocol.md section 4, pgctl/GUARD.md): it alone runs PostgreSQL, and
// ends it at the fence point, whether or not the agent lives. Its fields are guarded by the host's mu.
type guard struct {
	h    *Host
	dead chan struct{}
	poke chan struct{}

	gone    bool
	lease   cluster.Lease
	budget  time.Duration
	grace   time.Duration // how long a primary of lease stays frozen; 0: it is never
	frozen  *freeze       // nil: nothing is
	refused cluster.Term
	fencing chan struct{} // closed when the fence on its way is done; nil: none
}

var (
	errNoLease   = errors.New("guard: lease refused")
	errNotFenced = errors.New("guard: not fenced")
	errGuardGone = errors.New("guard: gone")
)

// newGuard starts one; the marks of the former are on disk. Called with h.mu.
func newGuard(h *Host) *guard {
	g := &guard{h: h, dead: make(chan struct{}), poke: make(chan struct{}, 1), refused: h.disk.noPrimary}
	h.world.live(g.run)
	return g
}

// run waits for the fence point.
func (g *guard) run() {
	for {
		g.h.mu.Lock()
		point := g.dueLocked()
		g.h.mu.Unlock()
		wait := time.Hour
		if !point.IsZero() {
			wait = max(0, g.h.untilInstant(point))
		}
		timer := time.NewTimer(wait)
		select {
		case <-g.dead:
			timer.Stop()
			return
		case <-g.poke:
		case <-timer.C:
		}
		timer.Stop()
		if !g.h.thawed(serviceGuard, g.alive) {
			return
		}
		g.fenceIfDue()
	}
}

func (g *guard) alive() bool {
	select {
	case <-g.dead:
		return false
	default:
		return true
	}
}

// fenceIfDue begins the fence of a lease whose point has passed.
func (g *guard) fenceIfDue() {
	now := g.h.now()
	g.h.mu.Lock()
	lapsed := g.lease.Term != 0 && g.fencing == nil && !g.lease.Live(cluster.LeaseParams{Fence: g.budget}, now)
	if lapsed && g.mayFreezeLocked(now) {
		g.freezeLocked(now)
		g.h.mu.Unlock()
		return
	}
	due := lapsed || g.frozen != nil && !now.Before(g.frozen.until)
	term := g.lease.Term
	if g.frozen != nil {
		term = max(term, g.frozen.term)
	}
	var done chan struct{}
	if due {
		done = g.beginLocked(term)
	}
	g.h.mu.Unlock()
	if due {
		<-done
		g.push(agent.GuardEvent{Kind: agent.GuardFenced, Detail: fmt.Sprintf("term %d", term), At: now})
	}
}

// beginLocked takes the lease away, kills within half of the budget, and writes the marks when all is reaped.
func (g *guard) beginLocked(t cluster.Term) chan struct{} {
	within := g.budget / 2
	if within == 0 {
		within = 50 * time.Millisecond
	}
	g.lease, g.budget, g.refused, g.frozen = cluster.Lease{}, 0, max(g.refused, t), nil
	g.h.world.Did("%s: postgres is ended, no primary in term %d", g.h.Name, t)
	done := make(chan struct{})
	g.fencing = done
	s := g.h.server
	g.h.world.live(func() {
		kill := g.h.drawWithin(within)
		_ = pause(context.Background(), kill) // a killer's own time; it has no end but its own
		if s != nil {
			s.kill()
		}
		g.h.change(func() {
			if !g.gone {
				g.h.disk.noPrimary = max(g.h.disk.noPrimary, t)
			}
			g.fencing = nil
			if g.lease.Term == 0 && !g.gone {
				g.h.watchdog = watchdog{}
			}
		})
		close(done)
	})
	return done
}

// push tells the agent; when nobody reads, the newest are kept.
func (g *guard) push(e agent.GuardEvent) {
	for {
		select {
		case g.h.events <- e:
			return
		default:
		}
		select {
		case <-g.h.events:
		default:
		}
	}
}

// setLease arms the guard or moves E (U2).
func (g *guard) setLease(l cluster.Lease, p cluster.LeaseParams, grace time.Duration) error {
	now := g.h.now()
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	switch {
	case g.gone:
		return errGuardGone
	case l.Term == 0, l.Term <= g.refused, l.Term < g.lease.Term, g.fencing != nil, !l.Live(p, now):
		return fmt.Errorf("%w: term %d, refused up to %d, held %d", errNoLease, l.Term, g.refused, g.lease.Term)
	}
	g.lease, g.budget, g.grace = l, p.Fence, g.h.unfedFor(grace, p.TTL)
	g.h.feedLocked(now)
	g.wake()
	g.h.world.armed(g.h.Name, l.Term)
	return nil
}

// holdsLocked says whether the lease of t is alive.
func (g *guard) holdsLocked(t cluster.Term, now cluster.Instant) error {
	if g.gone {
		return errGuardGone
	}
	if t == 0 || g.lease.Term != t || t <= g.refused || !g.lease.Live(cluster.LeaseParams{Fence: g.budget}, now) {
		return fmt.Errorf("%w: want a live lease of term %d, held is %d", errNoLease, t, g.lease.Term)
	}
	return nil
}

// fence answers fence(t) (U4, docs/adr/0010).
func (g *guard) fence(t cluster.Term) error {
	g.h.mu.Lock()
	if g.gone {
		g.h.mu.Unlock()
		return errGuardGone
	}
	if g.lease.Term > t || g.frozen != nil && g.frozen.term > t {
		defer g.h.mu.Unlock()
		return fmt.Errorf("%w: a lease of term %d is held, or what may go on after it", errNotFenced, g.lease.Term)
	}
	g.refused = max(g.refused, t)
	done := g.fencing
	s := g.h.server
	if done == nil && (g.lease.Term != 0 || s != nil && s.mayBePrimary) {
		done = g.beginLocked(t)
	}
	g.h.mu.Unlock()
	if done != nil {
		<-done
	}
	if !g.h.thawed(serviceDisk, g.alive) { // the mark is on it before anybody is told
		return errGuardGone
	}
	var err error
	g.h.change(func() {
		s := g.h.server
		if g.gone || s != nil && s.mayBePrimary || g.lease.Term != 0 {
			err = errNotFenced
			return
		}
		g.h.disk.noPrimary = max(g.h.disk.noPrimary, t)
	})
	return err
}

// died is what the guard says when the postmaster ends without an order: all of it is gone a moment later.
func (g *guard) died() {
	now := g.h.now()
	if g.endFrozen() {
		return
	}
	g.push(agent.GuardEvent{Kind: agent.GuardDied, At: now})
	g.push(agent.GuardEvent{Kind: agent.GuardExited, At: now})
}

// kill ends the guard, and with it all that it runs (U5).
func (g *guard) kill() {
	g.h.mu.Lock()
	if g.gone {
		g.h.mu.Unlock()
		return
	}
	g.gone = true
	g.lease = cluster.Lease{}
	g.h.feedLocked(g.h.instant(g.h.booted)) // the kernel does, when the device is closed without a word
	close(g.dead)
	s := g.h.server
	if g.h.halted { // the parent-death signal waits, as everything does, for whoever ends it: see Host.endOrphans
		s = nil
	}
	g.h.wakeLocked()
	g.h.mu.Unlock()
	if s != nil {
		s.kill()
	}
	g.push(agent.GuardEvent{Kind: agent.GuardGone, At: g.h.now()})
}
