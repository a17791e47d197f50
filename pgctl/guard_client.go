package pgctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"pgquorum/cluster"
)

// Guard is the agent's end of the guard: one connection, requests with ids, events. Safe for concurrent use.
type Guard struct {
	conn   net.Conn
	log    *slog.Logger
	first  GuardDetail // what hello answered
	events chan GuardEvent

	write sync.Mutex // one line at a time

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan guardAnswer
	grace   time.Duration // what Lease asks for beside the lease
	gone    error         // set once the connection is lost
	closed  bool

	watchdog askedWatchdog
}

// quickCall bounds the calls that never wait for Postgres, when ctx does not bound them sooner.
const quickCall = 2 * time.Second

// newGuard says hello on conn. It owns conn from here on.
func newGuard(ctx context.Context, conn net.Conn, log *slog.Logger) (*Guard, error) {
	g := &Guard{conn: conn, log: log, events: make(chan GuardEvent, 16), waiting: map[uint64]chan guardAnswer{}}
	go g.read()
	a, err := g.quick(ctx, guardRequest{Op: opHello, Version: guardVersion})
	if err == nil && a.Status == nil {
		err = fmt.Errorf("guard hello: answer has no status: %w", ErrGuardVersion)
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	g.first = *a.Status
	return g, nil
}

// Hello is what the guard said of itself when this session began: the live lease with its E, the postmaster, the
// newest event that nobody may have heard.
func (g *Guard) Hello() GuardDetail { return g.first }

// Status is what the guard says of itself now.
func (g *Guard) Status(ctx context.Context) (cluster.GuardStatus, error) {
	d, err := g.Detail(ctx)
	return d.GuardStatus, err
}

// Detail is Status with the lease's E and what only an operator reads.
func (g *Guard) Detail(ctx context.Context) (GuardDetail, error) {
	a, err := g.quick(ctx, guardRequest{Op: opStatus})
	if err != nil {
		return GuardDetail{}, err
	}
	if a.Status == nil {
		return GuardDetail{}, &remoteError{op: opStatus, text: "answer has no status"}
	}
	a.Status.Watchdog = g.watchdogOf(a.Status.Watchdog)
	return *a.Status, nil
}

// Lease arms the guard, or moves E (U2). ErrLeaseRefused: the term is fenced, marked or older than the one held, a fence
// is on its way, or E - F has passed.
func (g *Guard) Lease(ctx context.Context, l cluster.Lease, p cluster.LeaseParams) error {
	g.mu.Lock()
	grace := g.grace
	g.mu.Unlock()
	_, err := g.quick(ctx, guardRequest{Op: opLease, Term: l.Term, RaftTerm: l.RaftTerm, End: l.End, Fence: p.Fence, Grace: grace})
	return err
}

// SoftFence makes every later Lease ask for a soft fence (U6): a primary over which the lease runs out is frozen, for grace
// at most, and then ended. 0, as at first: it is ended at once. A guard of a release that knows no soft fence ends it.
func (g *Guard) SoftFence(grace time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grace = grace
}

// Thaw lets the Postgres that was frozen when the lease of from ran out go on, under the live lease of t, which must be the
// next term, acquired in place (U6). ErrNotFrozen, ErrLeaseRefused; an error leaves it frozen, or ended.
func (g *Guard) Thaw(ctx context.Context, from, t cluster.Term) error {
	_, err := g.call(ctx, guardRequest{Op: opThaw, From: from, Term: t})
	return err
}

// Fence returns nil only when no Postgres here is, or ever becomes again, a primary at a term <= t (U4). Any error means
// "not fenced", also when the guard may still be at it.
func (g *Guard) Fence(ctx context.Context, t cluster.Term) error {
	_, err := g.call(ctx, guardRequest{Op: opFence, Term: t})
	return err
}

// Start starts a postmaster; it returns as soon as the process is there. ErrLeaseRefused, ErrRunning, ErrNoStandby.
func (g *Guard) Start(ctx context.Context, r StartRequest) error {
	_, err := g.call(ctx, guardRequest{Op: opStart, Start: &r})
	return err
}

// Promote checks the lease for t and orders the promotion, as pg_ctl promote does, without waiting for its effect:
// a standby that does not take sessions yet may miss it. ErrLeaseRefused, ErrNotRunning.
func (g *Guard) Promote(ctx context.Context, t cluster.Term) error {
	_, err := g.call(ctx, guardRequest{Op: opPromote, Term: t})
	return err
}

// Stop stops Postgres and returns when every process is reaped; nil too when none ran. A fast stop that misses deadline
// (0: none) goes on as an immediate one; an immediate one that misses deadline (0: 1 s), or the fast one's second
// stage, ends with SIGKILL. The stop goes on when ctx ends.
func (g *Guard) Stop(ctx context.Context, mode StopMode, deadline time.Duration) error {
	_, err := g.call(ctx, guardRequest{Op: opStop, Mode: mode, Deadline: deadline})
	return err
}

// Reload sends SIGHUP to the postmaster. ErrNotRunning.
func (g *Guard) Reload(ctx context.Context) error {
	_, err := g.quick(ctx, guardRequest{Op: opReload})
	return err
}

// Quit ends the guard. ErrRunning while a postmaster runs.
func (g *Guard) Quit(ctx context.Context) error {
	_, err := g.call(ctx, guardRequest{Op: opQuit})
	return err
}

// Events gives what the guard tells unasked. When nobody reads, the newest are kept. Close closes it.
func (g *Guard) Events() <-chan GuardEvent { return g.events }

// Close drops the connection; the guard lives on.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	close(g.events)
	return g.conn.Close()
}

// quick is call with a deadline.
func (g *Guard) quick(ctx context.Context, r guardRequest) (guardAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	return g.call(ctx, r)
}

// call sends r and waits for its answer.
func (g *Guard) call(ctx context.Context, r guardRequest) (guardAnswer, error) {
	wait := make(chan guardAnswer, 1)
	g.mu.Lock()
	if g.gone != nil || g.closed {
		gone := g.gone
		g.mu.Unlock()
		return guardAnswer{}, lostError(r.Op, gone)
	}
	g.next++
	r.ID = g.next
	g.waiting[r.ID] = wait
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.waiting, r.ID)
		g.mu.Unlock()
	}()
	if err := g.send(ctx, r); err != nil {
		return guardAnswer{}, err
	}
	select {
	case a, ok := <-wait:
		if !ok {
			return guardAnswer{}, lostError(r.Op, g.lost())
		}
		if !a.OK {
			return guardAnswer{}, answerError(r.Op, a)
		}
		return a, nil
	case <-ctx.Done():
		return guardAnswer{}, fmt.Errorf("guard %s: no answer: %w", r.Op, ctx.Err())
	}
}

// send writes one line. A line that was cut short would spoil the stream, so a write error ends the connection.
func (g *Guard) send(ctx context.Context, r guardRequest) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("guard %s: encode: %w", r.Op, err)
	}
	g.write.Lock()
	defer g.write.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("guard %s: not sent: %w", r.Op, err)
	}
	end, bounded := ctx.Deadline()
	if !bounded {
		end = time.Now().Add(quickCall) // the socket's deadline, nothing to do with the lease
	}
	err = g.conn.SetWriteDeadline(end)
	if err == nil {
		_, err = g.conn.Write(append(line, '\n'))
	}
	if err != nil {
		g.lose(err)
		return lostError(r.Op, err)
	}
	return nil
}

// read hands out answers and events until the connection ends.
func (g *Guard) read() {
	in := bufio.NewReader(g.conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			g.lose(err)
			return
		}
		var a guardAnswer
		if err := json.Unmarshal(line, &a); err != nil {
			g.lose(fmt.Errorf("guard sent %q: %w", line, err))
			return
		}
		if a.Event != nil {
			g.deliver(*a.Event)
			continue
		}
		g.mu.Lock()
		wait := g.waiting[a.ID]
		delete(g.waiting, a.ID)
		g.mu.Unlock()
		if wait != nil {
			wait <- a
		}
	}
}

// deliver puts an event into the channel, in place of the oldest if it is full.
func (g *Guard) deliver(e GuardEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed {
		select {
		case g.events <- e:
			return
		default:
		}
		select {
		case old := <-g.events:
			g.log.Warn("guard event dropped, nobody reads", "event", old.Kind, "term", old.Term)
		default:
		}
	}
}

// lose ends the connection: whoever waits is told, and so is the reader of Events.
func (g *Guard) lose(cause error) {
	g.mu.Lock()
	if g.gone != nil {
		g.mu.Unlock()
		return
	}
	g.gone = cause
	for id, wait := range g.waiting {
		close(wait)
		delete(g.waiting, id)
	}
	g.mu.Unlock()
	_ = g.conn.Close() // it is lost already
	g.deliver(GuardEvent{Kind: EventGone, Detail: cause.Error(), At: cluster.Boottime()})
}

func (g *Guard) lost() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

// lostError says that op got no answer because the connection is gone (cause) or was closed here (nil).
func lostError(op string, cause error) error {
	if cause == nil {
		cause = net.ErrClosed
	}
	return fmt.Errorf("guard %s: connection lost (%w): %w", op, cause, ErrNoGuard)
}
