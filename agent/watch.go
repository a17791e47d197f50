package agent

import (
	"context"
	"sync"
	"time"

	"pgquorum/cluster"
)

// HealthDeadline is how long the status query may take before Postgres counts as hung (docs/protocol.md section 11).
const HealthDeadline = 2 * time.Second

// How often the local Postgres is looked at where nobody asks: once a second, and sooner while a standby that has just
// started, or changed its source, does not stream yet, so that it is counted as soon as it can be.
const (
	lookEvery     = time.Second
	lookSoon      = 100 * time.Millisecond
	lookSoonAfter = 5 * time.Second // the last change that a look showed
)

// localWatch looks at the local Postgres and its guard, on demand and once a second, apart from the loop: a Postgres
// that hangs must not hang the agent.
type localWatch struct {
	pg    Postgres
	guard Guard
	clock cluster.Clock
	wake  func()

	ask chan struct{}

	mu    sync.Mutex
	last  localView
	moved cluster.Instant // when a look last showed a change
	begun uint64          // looks so far
	done  chan struct{}   // closed and replaced after each look
	quit  func()          // ends the question to Postgres of the look under way; nil: none is asked
}

// localView is one look.
type localView struct {
	postgres cluster.PostgresStatus
	guard    cluster.GuardStatus
	position cluster.Position
	seenMax  cluster.Timeline
	number   uint64          // of the look, from 1
	at       cluster.Instant // when it began
	err      error
}

func newLocalWatch(pg Postgres, guard Guard, clock cluster.Clock, wake func()) *localWatch {
	return &localWatch{pg: pg, guard: guard, clock: clock, wake: wake, ask: make(chan struct{}, 1), done: make(chan struct{})}
}

func (w *localWatch) run(ctx context.Context) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		w.look(ctx)
		timer.Reset(w.pause())
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.ask:
		}
	}
}

// pause is how long the next look may wait.
func (w *localWatch) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.last.postgres
	connects := p.State == cluster.PostgresRunning && p.Role == cluster.RoleStandby && p.Source != "" && !p.Streaming
	if connects && w.clock().Sub(w.moved) < lookSoonAfter {
		return lookSoon
	}
	return lookEvery
}

func (w *localWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, HealthDeadline)
	defer cancel()
	v := w.begin()
	if !w.see(ctx, &v) {
		w.again()
		return
	}
	if v.postgres.State == cluster.PostgresStopped && w.latest().postgres.State != cluster.PostgresStopped {
		w.publish(v) // what may wait for nothing is known; the end of its WAL follows
	}
	v.position = w.position(ctx, v.postgres)
	if seen, err := w.pg.SeenMax(); err == nil {
		v.seenMax = seen
	}
	w.publish(v)
}

// begin counts a look, and gives it.
func (w *localWatch) begin() localView {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	return localView{number: w.begun, at: w.clock()}
}

// see asks Postgres and its guard, beside one another. A Postgres that is frozen (U6) is not waited for: it is as it was
// last seen. It gives false when the look was interrupted, and shows nothing.
func (w *localWatch) see(ctx context.Context, v *localView) bool {
	before := w.latest()
	asking, quit := context.WithCancel(ctx)
	defer quit()
	w.setQuit(quit)
	defer w.setQuit(nil)
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		s, err := w.guard.Status(ctx)
		if err != nil {
			return
		}
		v.guard = s
		if s.Frozen != 0 && before.postgres.State != "" {
			quit()
		}
	}()
	v.postgres, v.err = w.pg.Status(asking)
	interrupted := asking.Err() != nil && ctx.Err() == nil
	<-guarded
	if v.guard.Frozen == 0 {
		return !interrupted
	}
	if before.postgres.State != "" {
		v.postgres, v.err = before.postgres, nil
	}
	v.postgres.State = cluster.PostgresFrozen
	return true
}

func (w *localWatch) setQuit(quit func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quit = quit
}

// interrupt makes the look under way begin anew.
func (w *localWatch) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.quit != nil {
		w.quit()
	}
}

// again asks for a look.
func (w *localWatch) again() {
	select {
	case w.ask <- struct{}{}:
	default:
	}
}

// publish makes a look the newest.
func (w *localWatch) publish(v localView) {
	w.mu.Lock()
	changed := !sameLook(w.last, v)
	w.last = v
	if changed {
		w.moved = w.clock()
	}
	close(w.done)
	w.done = make(chan struct{})
	w.mu.Unlock()
	if changed {
		w.wake()
	}
}

// position is the end of valid WAL as far as it is cheaply known; a promise reads it anew. A stopped directory is read
// once: its WAL does not move.
func (w *localWatch) position(ctx context.Context, p cluster.PostgresStatus) cluster.Position {
	switch {
	case p.State == cluster.PostgresFrozen:
		return w.latest().position
	case p.State == cluster.PostgresRunning && p.Role == cluster.RolePrimary:
		return cluster.Position{Timeline: p.Timeline, LSN: p.Current}
	case p.Data != cluster.DataOurs && p.Data != cluster.DataUnclaimed:
		return cluster.Position{}
	}
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if p.State == cluster.PostgresStopped && last.postgres.State == cluster.PostgresStopped && last.position.Known() && last.postgres.Incarnation == p.Incarnation && last.postgres.Timeline == p.Timeline {
		return last.position
	}
	if p.State == cluster.PostgresRunning && p.Streaming && p.Received >= p.Replayed {
		return cluster.Position{Timeline: p.Timeline, LSN: p.Received}
	}
	// What was streamed last may be a piece of a record: when streaming has ended the position is read once.
	if p.State == cluster.PostgresRunning && !p.Streaming && !last.postgres.Streaming && last.position.Known() && last.postgres.StartTime == p.StartTime &&
		last.postgres.Received == p.Received && last.postgres.Replayed == p.Replayed && last.postgres.Timeline == p.Timeline {
		return last.position
	}
	pos, err := w.pg.Position(ctx)
	if err != nil {
		return cluster.Position{}
	}
	return pos
}

// latest is the newest look.
func (w *localWatch) latest() localView {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// refresh waits for a look that begins after this call, until ctx ends.
func (w *localWatch) refresh(ctx context.Context) localView {
	w.mu.Lock()
	begun := w.begun
	w.mu.Unlock()
	for {
		w.again()
		w.mu.Lock()
		v, done := w.last, w.done
		w.mu.Unlock()
		if v.number > begun {
			return v
		}
		select {
		case <-ctx.Done():
			return v
		case <-done:
		}
	}
}

// sameLook says whether nothing that a decision depends on has changed.
func sameLook(a, b localView) bool {
	p, q := a.postgres, b.postgres
	return p.State == q.State && p.Role == q.Role && p.Timeline == q.Timeline && p.Data == q.Data && p.Streaming == q.Streaming &&
		p.Source == q.Source && a.position.Known() == b.position.Known() && len(p.Replication) == len(q.Replication) && a.guard.Alive == b.guard.Alive &&
		a.guard.NoPrimary == b.guard.NoPrimary && a.guard.Frozen == b.guard.Frozen && a.guard.Postmaster == b.guard.Postmaster && a.guard.Watchdog == b.guard.Watchdog
}

// forget drops the remembered position: Postgres or its directory was changed.
func (w *localWatch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.position = cluster.Position{}
}
