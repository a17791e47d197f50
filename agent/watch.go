package agent

import (
	"context"
	"sync"
	"time"

	"pgquorum/cluster"
)

// HealthDeadline is how long the status query may take before Postgres counts as hung (docs/protocol.md section 11).
const HealthDeadline = 2 * time.Second

// localWatch looks at the local Postgres and its guard, on demand and once a second, apart from the loop: a Postgres
// that hangs must not hang the agent.
type localWatch struct {
	pg    Postgres
	guard Guard
	wake  func()

	ask chan struct{}

	mu    sync.Mutex
	last  localView
	begun uint64        // looks so far
	done  chan struct{} // closed and replaced after each look
}

// localView is one look.
type localView struct {
	postgres cluster.PostgresStatus
	guard    cluster.GuardStatus
	position cluster.Position
	seenMax  cluster.Timeline
	number   uint64 // of the look, from 1
	err      error
}

func newLocalWatch(pg Postgres, guard Guard, wake func()) *localWatch {
	return &localWatch{pg: pg, guard: guard, wake: wake, ask: make(chan struct{}, 1), done: make(chan struct{})}
}

func (w *localWatch) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.ask:
		}
	}
}

func (w *localWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, HealthDeadline)
	defer cancel()
	v := localView{number: w.begin()}
	v.postgres, v.err = w.pg.Status(ctx)
	if s, err := w.guard.Status(ctx); err == nil {
		v.guard = s
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

// begin counts a look.
func (w *localWatch) begin() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	return w.begun
}

// publish makes a look the newest.
func (w *localWatch) publish(v localView) {
	w.mu.Lock()
	changed := !sameLook(w.last, v)
	w.last = v
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
	if p.State == cluster.PostgresRunning && !p.Streaming && last.position.Known() && last.postgres.StartTime == p.StartTime &&
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
		select {
		case w.ask <- struct{}{}:
		default:
		}
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
		a.guard.NoPrimary == b.guard.NoPrimary && a.guard.Postmaster == b.guard.Postmaster && a.guard.Watchdog == b.guard.Watchdog
}

// forget drops the remembered position: Postgres or its directory was changed.
func (w *localWatch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.position = cluster.Position{}
}
