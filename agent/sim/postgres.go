package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// postgresPort is the local PostgreSQL as an agent sees it: what package pgctl does, on the model.
type postgresPort struct{ *process }

var (
	errNotStopped   = errors.New("postmaster runs")
	errNotRunning   = errors.New("postmaster does not run")
	errBelowPromise = errors.New("source is below the promise")
	errNoPosition   = errors.New("position unknown")
	errTimeline     = errors.New("not the allotted timeline")
)

// locked looks at the machine, or changes it, in one step.
func (p postgresPort) locked(ctx context.Context, f func(h *Host) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	var err error
	p.h.change(func() { err = f(p.h) })
	return p.leave(err)
}

// looked is locked for what changes nothing: it wakes nobody.
func (p postgresPort) looked(ctx context.Context, f func(h *Host) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	p.h.mu.Lock()
	err := f(p.h)
	p.h.mu.Unlock()
	return p.leave(err)
}

// answering waits while PostgreSQL is frozen.
func (p postgresPort) answering(ctx context.Context) error {
	return p.await(ctx, func(h *Host) bool { return h.stillLocked(servicePostgres) && h.server != nil })
}

// await waits as long as something is so. f is called with h.mu.
func (p postgresPort) await(ctx context.Context, f func(h *Host) bool) error {
	for {
		p.h.mu.Lock()
		frozen, changed := f(p.h), p.h.changed
		p.h.mu.Unlock()
		if !frozen {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.dead:
			return errDead
		case <-changed:
		}
	}
}

// Status implements agent.Inspector.
func (p postgresPort) Status(ctx context.Context) (st cluster.PostgresStatus, err error) {
	now := p.h.now()
	quick, cancel := context.WithTimeout(ctx, agent.HealthDeadline)
	defer cancel()
	hung := p.answering(quick) != nil
	err = p.looked(ctx, func(h *Host) error {
		d := &h.disk
		st = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		if !d.exists {
			return nil
		}
		st.SystemID, st.Timeline, st.Clean = systemID, d.wal.end().Timeline, d.clean
		switch {
		case d.rewinding:
			st.Data = cluster.DataRewinding
		case d.incarnation == "":
			st.Data = cluster.DataUnclaimed
		default:
			st.Data, st.Incarnation = cluster.DataOurs, d.incarnation
		}
		if d.source != nil {
			st.Source, st.SourceTerm, st.SourceTimeline = d.source.Node, d.source.Term, d.source.Timeline
		}
		if h.server != nil {
			h.server.statusLocked(&st, now)
			if hung {
				st.State = cluster.PostgresHung
			}
		}
		return nil
	})
	return st, err
}

// Position implements agent.Inspector.
func (p postgresPort) Position(ctx context.Context) (pos cluster.Position, err error) {
	if err := p.answering(ctx); err != nil {
		return pos, err
	}
	err = p.looked(ctx, func(h *Host) error {
		if !h.disk.exists || h.disk.rewinding || h.busy {
			return errNoPosition
		}
		pos = h.disk.wal.end()
		return nil
	})
	return pos, err
}

// SeenMax implements agent.Inspector.
func (p postgresPort) SeenMax() (top cluster.Timeline, err error) {
	err = p.looked(context.Background(), func(h *Host) error {
		top = h.disk.wal.highest()
		return nil
	})
	return top, err
}

// ShutdownCheckpoint implements agent.Inspector.
func (p postgresPort) ShutdownCheckpoint(ctx context.Context) (end cluster.LSN, clean bool, err error) {
	err = p.looked(ctx, func(h *Host) error {
		if h.server != nil {
			return errNotStopped
		}
		end, clean = h.disk.wal.end().LSN, h.disk.clean
		return nil
	})
	return end, clean, err
}

// LocalForks implements agent.Inspector.
func (p postgresPort) LocalForks(ctx context.Context) (forks []cluster.Fork, err error) {
	err = p.looked(ctx, func(h *Host) error {
		forks = h.disk.wal.history()
		return nil
	})
	return forks, err
}

// Configure implements agent.Runner.
func (p postgresPort) Configure(ctx context.Context, s agent.Settings) error {
	return p.SetSyncNames(ctx, s.Sync)
}

// allowedLocked is V1.
func (h *Host) allowedLocked(s *agent.Source) error {
	if s == nil {
		return nil
	}
	if s.Term < h.disk.promise {
		return fmt.Errorf("%w: want term %d or later, have %d", errBelowPromise, h.disk.promise, s.Term)
	}
	return nil
}

// Follow implements agent.Follower.
func (p postgresPort) Follow(ctx context.Context, s *agent.Source, _ cluster.Member) error {
	return p.locked(ctx, func(h *Host) error {
		if err := h.allowedLocked(s); err != nil {
			return err
		}
		h.setSourceLocked(s)
		return nil
	})
}

// setSourceLocked writes the standby's file and reloads: a receiver that streams from another ends.
func (h *Host) setSourceLocked(s *agent.Source) {
	former := h.disk.source
	if s != nil {
		c := *s
		c.Urgent = false // only a setting beside it
		s = &c
	}
	h.disk.source = s
	if former != nil && s != nil && *former == *s {
		return
	}
	if h.server != nil && h.server.receiver != nil {
		h.server.receiver.stop()
	}
}

// EaseSource implements agent.Follower.
func (p postgresPort) EaseSource(ctx context.Context) error { return p.enter(ctx) }

// Cut implements agent.Follower: it returns when no receiver writes any more (V2).
func (p postgresPort) Cut(ctx context.Context) error {
	if err := p.locked(ctx, func(h *Host) error { h.setSourceLocked(nil); return nil }); err != nil {
		return err
	}
	for {
		p.h.mu.Lock()
		writes, changed := p.h.server != nil && p.h.server.receiver != nil, p.h.changed
		p.h.mu.Unlock()
		if !writes {
			return p.leave(nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Promise implements agent.Follower: it is durable once the disk takes it.
func (p postgresPort) Promise(ctx context.Context, t cluster.Term, _ cluster.Member) error {
	if err := p.await(ctx, func(h *Host) bool { return h.stillLocked(serviceDisk) }); err != nil {
		return err
	}
	return p.locked(ctx, func(h *Host) error {
		if t < h.disk.promise {
			return fmt.Errorf("term %d is promised", h.disk.promise)
		}
		h.disk.promise = t
		return nil
	})
}

// Promised implements agent.Follower.
func (p postgresPort) Promised() cluster.Term {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	return p.h.disk.promise
}

// EnsureSlots implements agent.Follower: the model's slots keep nothing, WAL goes when a fault takes it.
func (p postgresPort) EnsureSlots(ctx context.Context, _ []cluster.NodeID) error { return p.enter(ctx) }

// AdvanceSlots implements agent.Follower.
func (p postgresPort) AdvanceSlots(ctx context.Context, _ map[cluster.NodeID]cluster.LSN) error {
	return p.enter(ctx)
}

// RemovedWAL implements agent.Follower.
func (p postgresPort) RemovedWAL(ctx context.Context, s agent.Source, from cluster.Position) (string, error) {
	m, err := p.ask(ctx, s, startReplication{Look: true, End: from})
	if err != nil {
		return "", err
	}
	return m.Error, p.leave(nil)
}

// CreateUsers implements agent.Primary.
func (p postgresPort) CreateUsers(ctx context.Context) error { return p.Checkpoint(ctx) }

// Checkpoint implements agent.Primary.
func (p postgresPort) Checkpoint(ctx context.Context) error {
	if err := p.answering(ctx); err != nil {
		return err
	}
	return p.locked(ctx, func(h *Host) error {
		if h.server == nil || !h.server.primaryLocked() {
			return errNotRunning
		}
		h.disk.wal.append(h.disk.wal.end().Timeline, h.world.number(), 0)
		return nil
	})
}

// SetSyncNames implements agent.Primary. A backend sees the list a moment later.
func (p postgresPort) SetSyncNames(ctx context.Context, l agent.SyncList) error {
	l.Members = slices.Clone(l.Members)
	err := p.locked(ctx, func(h *Host) error { h.disk.sync = l; return nil })
	if err != nil {
		return err
	}
	s := p.h.running()
	if s != nil {
		p.h.world.live(func() {
			_ = pause(s.ctx, p.h.drawWithin(10*time.Millisecond)) // the checkpointer reloads in its own time
			p.h.change(func() { s.sync = p.h.disk.sync })
		})
	}
	return nil
}

func (h *Host) running() *server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.server
}

// ProveSyncNames implements agent.Primary.
func (p postgresPort) ProveSyncNames(ctx context.Context, l agent.SyncList) (cluster.LSN, error) {
	for {
		var at cluster.LSN
		proven := false
		if err := p.answering(ctx); err != nil {
			return 0, err
		}
		err := p.looked(ctx, func(h *Host) error {
			if h.server == nil || h.server.state != cluster.PostgresRunning {
				return errNotRunning
			}
			proven, at = sameList(h.server.sync, l), h.disk.wal.end().LSN
			return nil
		})
		if err != nil || proven {
			return at, err
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func sameList(a, b agent.SyncList) bool {
	return a.Mode == b.Mode && a.K == b.K && a.Timeline == b.Timeline && slices.Equal(a.Members, b.Members)
}

// Confirmed implements agent.Primary.
func (p postgresPort) Confirmed(ctx context.Context, t cluster.Timeline, lsn cluster.LSN, ms []cluster.Member) (confirmed []cluster.Member, _ []string, err error) {
	if err := p.answering(ctx); err != nil {
		return nil, nil, err
	}
	now := p.h.now()
	err = p.looked(ctx, func(h *Host) error {
		if h.server == nil {
			return errNotRunning
		}
		for c := range h.server.senders {
			if slices.Contains(ms, c.member) && c.timeline == t && c.flushedLocked() >= lsn && now.Sub(c.replied) <= 2*time.Second {
				confirmed = append(confirmed, c.member)
			}
		}
		return nil
	})
	return confirmed, nil, err
}
