package pgctl

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// Soft fence (U6, docs/adr/0031): at the fence point the processes of a primary are stopped instead of ended. A stopped
// process acknowledges nothing, so L5 is kept; it goes on only under a live lease of the next term. All that stops and
// continues processes is done by the fencing thread, so that no late SIGSTOP meets a Postgres that goes on.

// freeze is a primary that is frozen since the lease of term ran out. Guarded by mu; its first three fields never change.
type freeze struct {
	term   cluster.Term
	began  cluster.Instant
	killAt cluster.Instant // E - F/2: if anything still runs then, all is killed
	until  cluster.Instant // the grace: then all is killed

	stopped bool            // every process was seen to stand still
	next    cluster.Instant // when the fencing thread looks at it again
	thaw    *thawing        // an order to go on; nil: none
}

// thawing is an order to go on under the lease of term.
type thawing struct {
	term cluster.Term
	done chan error
}

// recheck is how often what is frozen is looked at, at the soonest: a SIGCONT of somebody else's ends it all.
const recheck = 50 * time.Millisecond

// over says why its time is over: something could not be stopped in time, or the grace has passed; empty: it is not.
func (fr *freeze) over(now cluster.Instant) string {
	switch {
	case !fr.stopped && !now.Before(fr.killAt):
		return "not all of it could be stopped in time"
	case !now.Before(fr.until):
		return "no lease within the grace"
	}
	return ""
}

// ringAt is when the timer must ring for a lease with this fence point and for what is frozen, if anything is.
func (fr *freeze) ringAt(point cluster.Instant) cluster.Instant {
	if fr == nil {
		return point
	}
	return min(point, fr.next)
}

// mayFreeze says whether the lease that has just run out leaves something that may be frozen: a primary whose end nobody
// has ordered, while there is time left to kill what cannot be stopped. Called with mu held.
func (g *guardServer) mayFreeze(now cluster.Instant) bool {
	pm := g.pm
	return g.grace > 0 && g.frozen == nil && pm != nil && !pm.exited && (pm.primary || pm.promoted) &&
		pm.orderedBy == nil && !g.quitting && g.spawns == 0 && now.Before(g.lease.End.Add(-g.budget/2))
}

// beginFreeze takes the lease away first, as beginFence does, then stops the postmaster, so that no process joins those
// that the fencing thread stops next. Called with mu held.
func (g *guardServer) beginFreeze(now cluster.Instant) {
	g.frozen = &freeze{term: g.lease.Term, began: now, killAt: g.lease.End.Add(-g.budget / 2), until: now.Add(g.unfedFor(g.grace)), next: now}
	g.refused = max(g.refused, g.lease.Term)
	g.lease, g.budget, g.grace = cluster.Lease{}, 0, 0
	_ = unix.Kill(g.pm.pid, unix.SIGSTOP) // unreaped, so it is ours; an error can only mean that it has ended
}

// dropFrozen forgets what was frozen: it is being ended, or goes on. Called with mu held.
func (g *guardServer) dropFrozen() {
	if fr := g.frozen; fr != nil && fr.thaw != nil {
		fr.thaw.done <- fmt.Errorf("%w: term %d, it is being ended", ErrNotFrozen, fr.term)
	}
	g.frozen = nil
}

// endFrozen ends what is frozen, as a fence of every term up to that of a lease held meanwhile. Called with mu held.
func (g *guardServer) endFrozen(now cluster.Instant, timed bool, why string) *fencing {
	go g.log.Warn("frozen postgres is ended", "term", g.frozen.term, "frozen_for", now.Sub(g.frozen.began), "reason", why)
	return g.beginFence(max(g.frozen.term, g.lease.Term), now, now, timed)
}

// endFrozenByOrder ends what is frozen for an order to stop; nil: nothing is frozen.
func (g *guardServer) endFrozenByOrder(s *guardSession) *fencing {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen == nil {
		return nil
	}
	g.pm.orderedBy = s
	return g.endFrozen(cluster.Boottime(), false, "ordered to stop")
}

// toFreeze is what the fencing thread has to see to; nil: nothing is frozen.
func (g *guardServer) toFreeze() *freeze {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.frozen
}

// tend is the fencing thread's work on what is frozen: stop it, look whether it stands still, let it go on.
func (f *fencer) tend(fr *freeze) {
	f.g.mu.Lock()
	stopped, thaw := fr.stopped, fr.thaw
	f.g.mu.Unlock()
	switch {
	case !stopped:
		f.stop(fr)
	case thaw != nil:
		f.goOn(fr, thaw)
	default:
		f.look(fr)
	}
}

// stop sends SIGSTOP to all, the postmaster first, until two looks in a row find nothing that runs: the first of them
// proves that the postmaster stands still and forks no more backends, the second that none of those it had runs. What
// cannot be stopped in time is killed. A kernel that lists no children shows no postmaster either: then all is killed.
func (f *fencer) stop(fr *freeze) {
	for clean := 0; ; {
		found, running, err := f.sweep.halt()
		if clean++; found == 0 || running > 0 || err != nil {
			clean = 0
		}
		if f.settled(fr, clean) {
			return
		}
		if clean == 0 {
			sleepThread(500 * time.Microsecond) // a signal takes effect when its process is scheduled
		}
	}
}

// settled notes after a look whether a freeze has come to its end: all stands still, or its time is over, or it was
// ended by somebody else.
func (f *fencer) settled(fr *freeze, clean int) bool {
	g := f.g
	g.mu.Lock()
	defer g.mu.Unlock()
	now := cluster.Boottime()
	switch {
	case g.frozen != fr:
		return true
	case clean >= 2 && now.Before(fr.killAt):
		fr.stopped = true
		g.ring(fr, now.Add(recheck))
		go g.push(GuardEvent{Kind: EventFrozen, Term: fr.term, At: fr.began})
		return true
	case !now.Before(fr.killAt):
		g.endFrozen(now, true, f.sweep.ran("not all of it could be stopped in time"))
		return true
	}
	return false
}

// look makes sure that what is frozen still stands still. If anything runs, somebody let it go on who may not, and all is
// ended. A look that takes long, on a machine with very many processes, comes less often.
func (f *fencer) look(fr *freeze) {
	began := cluster.Boottime()
	running, err := f.sweep.running(f.g.target())
	g := f.g
	g.mu.Lock()
	defer g.mu.Unlock()
	now := cluster.Boottime()
	switch {
	case g.frozen != fr:
	case running > 0 || err != nil:
		g.endFrozen(now, true, f.sweep.ran("somebody let it go on"))
	case fr.thaw != nil: // it came meanwhile, and does not wait
		g.ring(fr, now)
	default:
		g.ring(fr, now.Add(max(recheck, 10*now.Sub(began))))
	}
}

// ring sets the timer for the next look at what is frozen. Called with mu held.
func (g *guardServer) ring(fr *freeze, at cluster.Instant) {
	fr.next = min(at, fr.until)
	ring := fr.next
	if g.lease.Term != 0 {
		ring = fr.ringAt(g.lease.End.Add(-g.budget))
	}
	if err := g.timer.set(ring); err != nil {
		panic(err) // see beginFence
	}
}

// thaw orders what was frozen in term from to go on, under the live lease of t. Terms are given once, and this node held
// both: with none between them, nobody else held the key.
func (g *guardServer) thaw(from, t cluster.Term) error {
	order := &thawing{term: t, done: make(chan error, 2)} // whoever ends it meanwhile answers too
	if err := g.orderThaw(from, order); err != nil {
		return err
	}
	return <-order.done
}

func (g *guardServer) orderThaw(from cluster.Term, order *thawing) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	fr := g.frozen
	switch {
	case fr == nil || !fr.stopped || fr.term != from:
		return fmt.Errorf("thaw: %w: want %d", ErrNotFrozen, from)
	case order.term != from+1:
		return fmt.Errorf("thaw: %w: frozen in term %d, want the lease of term %d, not of %d", ErrLeaseRefused, from, from+1, order.term)
	case g.quitting || g.fencing != nil || fr.thaw != nil:
		return fmt.Errorf("thaw: %w: another order is carried out", ErrFrozen)
	}
	fr.thaw = order // the lease is looked at when it is carried out
	g.ring(fr, cluster.Boottime())
	return nil
}

// goOn lets all go on, if the lease is alive still. From the moment that nothing is frozen any more, that lease's own fence
// point is kept as always, by this same thread.
func (f *fencer) goOn(fr *freeze, order *thawing) {
	if err := f.g.release(fr, order); err != nil {
		order.done <- err
		return
	}
	for range thawPasses {
		f.sweep.strike(unix.SIGCONT)
		if left, err := f.sweep.resume(f.g.target()); left == 0 && err == nil {
			break
		}
		if f.g.lapsed() { // nothing goes before the fence: the timer has rung for this thread
			break
		}
		sleepThread(500 * time.Microsecond)
	}
	order.done <- nil
}

// lapsed says whether the lease that is held has passed its fence point.
func (g *guardServer) lapsed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease.Term == 0 || !g.lease.Live(cluster.LeaseParams{Fence: g.budget}, cluster.Boottime())
}

// thawPasses bounds the passes: a process that somebody else stops again and again is left to him.
const thawPasses = 20

// release ends the frozen state under the live lease of the order.
func (g *guardServer) release(fr *freeze, order *thawing) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != fr {
		return fmt.Errorf("thaw: %w: term %d, it is being ended", ErrNotFrozen, fr.term)
	}
	fr.thaw = nil
	if err := g.holds(order.term); err != nil {
		g.ring(fr, cluster.Boottime()) // the order took the timer's ring for itself, and the fence point has come
		return fmt.Errorf("thaw: %w", err)
	}
	g.frozen, g.pm.term = nil, order.term
	if err := g.timer.set(g.lease.End.Add(-g.budget)); err != nil {
		panic(err) // see beginFence
	}
	g.allowFeed()
	return nil
}
