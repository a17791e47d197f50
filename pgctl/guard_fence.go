package pgctl

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// orderBudget is how long a fence by order waits after SIGQUIT, at most.
const orderBudget = 100 * time.Millisecond

// fencing is one fence on its way. Its fields but written are fixed from the start.
type fencing struct {
	term   cluster.Term
	began  cluster.Instant
	killAt cluster.Instant // SIGKILL to everything
	timed  bool            // the lease ran out; otherwise ordered
	done   chan struct{}   // closed when all is reaped and written, or could not be written

	written bool // both are durable; valid once done is closed
}

// setLease arms the fence, or moves it (U2). L2: a term that was fenced never lives again.
func (g *guardServer) setLease(l cluster.Lease, budget, grace time.Duration) error {
	if l.Term == 0 || l.End <= 0 || budget <= 0 || grace < 0 {
		return fmt.Errorf("%w: lease of term %d, end %d, fence budget %v, grace %v", errBadRequest, l.Term, l.End, budget, grace)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch late := cluster.Boottime().Sub(l.End.Add(-budget)); {
	case g.quitting:
		return fmt.Errorf("%w: the guard is ending", ErrLeaseRefused)
	case l.Term <= g.refused:
		return fmt.Errorf("%w: term %d, no primary at any term up to %d", ErrLeaseRefused, l.Term, g.refused)
	case g.fencing != nil:
		return fmt.Errorf("%w: term %d, the fence of term %d is under way", ErrLeaseRefused, l.Term, g.fencing.term)
	case l.Term < g.lease.Term:
		return fmt.Errorf("%w: term %d, the lease held is of term %d", ErrLeaseRefused, l.Term, g.lease.Term)
	case late >= 0:
		return fmt.Errorf("%w: term %d, its fence point passed %v ago", ErrLeaseRefused, l.Term, late)
	}
	if err := g.timer.set(g.frozen.ringAt(g.ringAt(l.End.Add(-budget)))); err != nil {
		return err
	}
	g.lease, g.budget, g.grace = l, budget, grace
	return nil
}

// holds says whether the lease of t is alive (U2). Called with mu held.
func (g *guardServer) holds(t cluster.Term) error {
	l := cluster.LeaseParams{Fence: g.budget}
	switch {
	case t == 0 || t != g.lease.Term || t <= g.refused:
		return fmt.Errorf("%w: want a live lease of term %d, have term %d, fenced up to %d", ErrLeaseRefused, t, g.lease.Term, g.refused)
	case !g.lease.Live(l, cluster.Boottime()):
		return fmt.Errorf("%w: the lease of term %d has passed its fence point", ErrLeaseRefused, t)
	}
	return nil
}

// beginFence takes the lease away first, then sends SIGQUIT; the fencing thread sends SIGKILL at killAt. It does no file
// I/O. Called with mu held.
func (g *guardServer) beginFence(t cluster.Term, now, killAt cluster.Instant, timed bool) *fencing {
	g.lease, g.budget, g.grace = cluster.Lease{}, 0, 0
	g.refused = max(g.refused, t)
	g.dropFrozen()
	f := &fencing{term: t, began: now, killAt: killAt, timed: timed, done: make(chan struct{})}
	g.fencing = f
	if g.pm != nil && !g.pm.exited {
		// The pid is ours until the reaper, under mu, has taken its status. An error can only mean "no such process".
		_ = unix.Kill(g.pm.pid, unix.SIGQUIT)
	}
	if err := g.timer.set(killAt); err != nil {
		panic(err) // no timer, no fence: the guard's death ends Postgres as well (U5)
	}
	go g.finish(f)
	return f
}

// fencer is the fencing thread (U3).
type fencer struct {
	g     *guardServer
	sweep *sweeper
}

// newFencer rehearses a fence, so that its code and buffers are in memory when it counts.
func newFencer(g *guardServer) (*fencer, error) {
	s, err := newSweeper()
	if err != nil {
		return nil, err
	}
	s.strike(0)
	if _, err := s.sweep(g.target(), 0); err != nil {
		return nil, err
	}
	if _, _, err := s.halt(); err != nil {
		return nil, err
	}
	if _, err := s.running(g.target()); err != nil {
		return nil, err
	}
	if err := g.timer.set(cluster.Boottime()); err != nil {
		return nil, err
	}
	return &fencer{g: g, sweep: s}, g.timer.wait()
}

// run never ends. Nothing in it touches a file of a disk, allocates much, or waits for another goroutine's I/O.
func (f *fencer) run() {
	runtime.LockOSThread()
	for {
		if err := f.g.timer.wait(); err != nil {
			panic(err) // see beginFence
		}
		if due := f.g.due(cluster.Boottime()); due != nil {
			f.g.killAll(f.sweep, sleepThread, func() bool { return f.g.fencing == due })
		} else if fr := f.g.toFreeze(); fr != nil {
			f.tend(fr)
		}
	}
}

// due looks again at what the timer rang for, since the lease may have moved: it begins a fence whose point has come, and
// gives one whose time for SIGKILL has come.
func (g *guardServer) due(now cluster.Instant) *fencing {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.fencing; f != nil {
		if now.Before(f.killAt) {
			return nil
		}
		return f
	}
	l := cluster.LeaseParams{Fence: g.budget}
	lapsed := g.lease.Term != 0 && !g.lease.Live(l, now)
	switch {
	case g.frozen != nil && lapsed:
		return g.endFrozen(now, true, "the next lease ran out too")
	case g.frozen != nil:
		if why := g.frozen.over(now); why != "" {
			return g.endFrozen(now, true, why)
		}
		if g.lease.Term != 0 { // what is about to go on needs a watchdog that was fed
			g.allowFeed()
		}
	case lapsed && g.mayFreeze(now):
		g.beginFreeze(now)
	case lapsed:
		g.beginFence(g.lease.Term, now, g.lease.End.Add(-g.budget/2), true)
	case g.lease.Term != 0:
		g.allowFeed()
	}
	return nil
}

// killAll sends SIGKILL to all of Postgres, and again after each nap, until nothing is left or until more, called with mu
// held, says that it is over.
func (g *guardServer) killAll(s *sweeper, nap func(time.Duration), more func() bool) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		g.mu.Lock()
		goOn, cg := more(), g.cg
		g.mu.Unlock()
		if !goOn {
			return
		}
		left := 0
		if cg != nil && cg.killAll() != nil {
			left++ // an error here leaves the walk, which is repeated until nothing is left
		}
		s.strike(unix.SIGKILL)
		n, err := s.sweep(g.target(), unix.SIGKILL)
		if left+n == 0 && err == nil {
			return
		}
		nap(pause)
	}
}

// sleepThread is the fencing thread's nap: it waits for no other goroutine.
func sleepThread(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // cut short by a signal: only an earlier sweep
}

// napOrGone is everybody else's nap: over at once when the last child is reaped.
func (g *guardServer) napOrGone(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	_ = g.await(ctx, func() bool { return g.childless }) // whether it is, the caller asks again
}

// fence answers fence(t) (U4): nil only after the lease is zero and refused up to t, every process that could be a primary
// is reaped, and standby.signal and the mark are durable. A standby without a lease goes on running: it can become a
// primary only under a later lease.
func (g *guardServer) fence(t cluster.Term) error {
	g.mu.Lock()
	now := cluster.Boottime()
	if g.lease.Term > t {
		defer g.mu.Unlock()
		return fmt.Errorf("%w: want no primary up to term %d, a lease of term %d is held", ErrNotFenced, t, g.lease.Term)
	}
	if g.frozen != nil && g.frozen.term > t {
		defer g.mu.Unlock()
		return fmt.Errorf("%w: want no primary up to term %d, one is frozen in term %d", ErrNotFenced, t, g.frozen.term)
	}
	g.refused = max(g.refused, t)
	f := g.fencing
	if f == nil && g.mayBePrimary() {
		wait := orderBudget
		if g.budget > 0 {
			wait = min(wait, g.budget/2)
		}
		if g.frozen != nil {
			wait = 0 // what is stopped heeds no SIGQUIT
		}
		f = g.beginFence(t, now, now.Add(wait), false)
	}
	g.mu.Unlock()
	if f != nil {
		<-f.done
		g.mu.Lock()
		written := f.written && f.term >= t && g.marked >= t && !g.mayBePrimary()
		g.mu.Unlock()
		if written {
			return nil
		}
	}
	if err := g.writeFence(t); err != nil {
		return fmt.Errorf("%w: term %d: %w", ErrNotFenced, t, err)
	}
	return nil
}

// mayBePrimary says whether a commit could be acknowledged here. Called with mu held.
func (g *guardServer) mayBePrimary() bool {
	return g.lease.Term != 0 || g.pm != nil && (g.pm.primary || g.pm.promoted)
}

// finish waits until everything is reaped, then writes. It is beside the fencing thread, which must not wait for a disk.
// standby.signal is written last of all, because a Postgres that is just being promoted removes it.
func (g *guardServer) finish(f *fencing) {
	err := g.await(context.Background(), g.nothingLeft)
	if err == nil {
		err = g.writeFence(f.term)
	}
	g.mu.Lock()
	f.written = err == nil
	g.fencing = nil
	g.notify()
	g.mu.Unlock()
	close(f.done)
	if err != nil {
		g.log.Error("fence not durable", "term", f.term, "error", err)
	}
	if f.timed {
		e := GuardEvent{Kind: EventFenced, Term: f.term, At: f.began}
		if err != nil {
			e.Detail = err.Error()
		}
		g.push(e)
	}
}

// writeFence makes "no primary up to t" durable: no Postgres that could be one runs when it writes.
func (g *guardServer) writeFence(t cluster.Term) error {
	g.orders.Lock()
	defer g.orders.Unlock()
	g.mu.Lock()
	newer, idle, marked := g.mayBePrimary(), g.pm == nil, g.marked
	g.mu.Unlock()
	if newer {
		return errors.New("a primary of a later term was started meanwhile")
	}
	if idle {
		if err := g.noStranger(); err != nil {
			return err
		}
	}
	if err := writeStandbySignal(g.opt.DataDir); err != nil {
		return err
	}
	if t > marked {
		if err := writeFenced(g.opt.Dir, t); err != nil {
			return err
		}
	}
	g.mu.Lock()
	g.marked = max(g.marked, t)
	g.mu.Unlock()
	return nil
}

// noStranger makes sure that no Postgres works in PGDATA that this guard did not start (by hand, or by a guard that is
// dead): it cannot be reaped here, so there is no word on it. One that was just killed gets a moment to end.
func (g *guardServer) noStranger() error {
	s, err := newSweeper()
	if err != nil {
		return err
	}
	defer s.close()
	dataDir, err := realPath(g.opt.DataDir)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := s.sweep(target{dataDir: dataDir}, 0)
		if left == 0 && err == nil {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("postgres in %s: %d processes that this guard did not start", dataDir, left), err)
		}
	}
}
