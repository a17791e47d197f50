package sim

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// InitDB implements agent.Runner.
func (p postgresPort) InitDB(ctx context.Context, m cluster.Member) (string, error) {
	if err := pause(ctx, p.h.draw(300*time.Millisecond, time.Second)); err != nil {
		return "", err
	}
	err := p.locked(ctx, func(h *Host) error {
		if h.disk.exists {
			return errors.New("data directory is not empty")
		}
		h.disk = disk{exists: true, incarnation: m.Incarnation, clean: true, promise: h.disk.promise, noPrimary: h.disk.noPrimary,
			wal: wal{forks: map[cluster.Timeline]cluster.Fork{}}}
		h.disk.wal.append(1, h.world.number(), 0)
		return nil
	})
	return systemID, err
}

// Claim implements agent.Runner.
func (p postgresPort) Claim(ctx context.Context, m cluster.Member) error {
	return p.locked(ctx, func(h *Host) error {
		if !h.disk.exists || h.disk.incarnation != "" {
			return errors.New("not claimable")
		}
		h.disk.incarnation = m.Incarnation
		return nil
	})
}

// Start implements agent.Runner. When ctx ends the server goes on starting.
func (p postgresPort) Start(ctx context.Context, spec agent.StartSpec) error {
	now := p.h.now()
	var s *server
	err := p.locked(ctx, func(h *Host) (err error) {
		s, err = h.launchLocked(spec, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return p.awaitReady(ctx, s, spec.Primary)
}

// launchLocked checks what pgctl and the guard check (U2, F2, V1), and begins a run.
func (h *Host) launchLocked(spec agent.StartSpec, now cluster.Instant) (*server, error) {
	switch {
	case h.server != nil:
		return nil, errNotStopped
	case !h.disk.exists || h.disk.rewinding || h.busy:
		return nil, errors.New("no data directory to start")
	case h.guard.gone:
		return nil, errGuardGone
	case spec.Primary && spec.Timeline != 0 && h.disk.wal.end().Timeline != spec.Timeline:
		return nil, fmt.Errorf("%w: want %d, recovery would end on %d", errTimeline, spec.Timeline, h.disk.wal.end().Timeline)
	}
	if spec.Primary {
		if err := h.guard.holdsLocked(spec.Term, now); err != nil {
			return nil, err
		}
		h.openWatchdogLocked(now)
		h.disk.source = nil
	} else {
		if err := h.allowedLocked(spec.Source); err != nil {
			return nil, err
		}
		h.setSourceLocked(spec.Source)
	}
	h.disk.sync = spec.Settings.Sync
	recovery := !h.disk.clean
	h.disk.clean = false
	s := newServer(h, spec.Primary)
	h.world.live(func() { s.start(recovery, !spec.Primary) })
	return s, nil
}

// start recovers and opens.
func (s *server) start(recovery, standby bool) {
	took := s.h.draw(40*time.Millisecond, 200*time.Millisecond)
	if recovery {
		took += s.h.draw(20*time.Millisecond, time.Second)
	}
	if pause(s.ctx, took) != nil || !s.h.thawed(servicePostgres, s.alive) {
		return
	}
	s.h.change(func() {
		if s.dead {
			return
		}
		if !standby {
			s.h.disk.wal.append(s.h.disk.wal.end().Timeline, s.h.world.number(), 0)
		}
		s.openLocked(standby)
	})
}

// awaitReady waits until a run takes sessions in its role.
func (p postgresPort) awaitReady(ctx context.Context, s *server, primary bool) error {
	for {
		p.h.mu.Lock()
		ready, changed := s.state == cluster.PostgresRunning && s.recovering != primary, p.h.changed
		dead := s.dead
		p.h.mu.Unlock()
		switch {
		case dead:
			return p.leave(errNotRunning)
		case ready:
			return p.leave(nil)
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

// Promote implements agent.Runner.
func (p postgresPort) Promote(ctx context.Context, t cluster.Term, allotted cluster.Timeline) error {
	now := p.h.now()
	var s *server
	err := p.locked(ctx, func(h *Host) error {
		if s = h.server; s == nil || s.state != cluster.PostgresRunning || !s.recovering {
			return errNotRunning
		}
		if allotted <= h.disk.wal.highest() {
			return fmt.Errorf("%w: %d is taken, the highest here is %d", errTimeline, allotted, h.disk.wal.highest())
		}
		if err := h.guard.holdsLocked(t, now); err != nil {
			return err
		}
		s.mayBePrimary = true
		h.openWatchdogLocked(now)
		h.world.live(func() { s.promote(allotted) })
		return nil
	})
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return p.awaitReady(ctx, s, true)
}

// promote ends recovery on a new timeline.
func (s *server) promote(to cluster.Timeline) {
	if pause(s.ctx, s.h.draw(20*time.Millisecond, 100*time.Millisecond)) != nil || !s.h.thawed(servicePostgres, s.alive) {
		return
	}
	s.h.change(func() {
		if s.dead || !s.recovering {
			return
		}
		if s.receiver != nil {
			s.receiver.stop()
			s.receiver = nil
		}
		s.recovering, s.h.disk.source = false, nil
		s.h.disk.wal.switchTo(to)
		s.h.disk.wal.append(to, s.h.world.number(), 0)
		s.h.world.promoted(s.h.Name, to, &s.h.disk.wal, time.Now())
	})
}

// Stop implements agent.Runner: fast until the deadline, then immediate.
func (p postgresPort) Stop(ctx context.Context, deadline time.Duration) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	s := p.h.running()
	if s == nil || p.h.guardNow().endFrozen() {
		return nil
	}
	if deadline <= 0 {
		deadline = 24 * time.Hour
	}
	stopped := make(chan struct{})
	p.h.world.live(func() { s.stopFast(deadline); close(stopped) })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-stopped:
		return p.leave(nil)
	}
}

// stopFast ends the sessions, lets a primary write its shutdown checkpoint, and waits until the standbys that stream have it.
func (s *server) stopFast(deadline time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, deadline)
	defer cancel()
	var end cluster.LSN
	s.h.change(func() {
		if !s.dead {
			s.state = cluster.PostgresStopping
		}
	})
	if pause(ctx, s.h.draw(10*time.Millisecond, 300*time.Millisecond)) != nil || !s.h.thawed(servicePostgres, s.alive) {
		s.kill()
		return
	}
	s.h.change(func() {
		if !s.dead && !s.recovering {
			end = s.h.disk.wal.append(s.h.disk.wal.end().Timeline, s.h.world.number(), 0).End
		}
	})
	for {
		s.h.mu.Lock()
		waits, changed := false, s.h.changed
		for c := range s.senders {
			waits = waits || c.flushedLocked() < end
		}
		s.h.mu.Unlock()
		if !waits {
			s.finish(true)
			return
		}
		select {
		case <-ctx.Done():
			s.kill()
			return
		case <-changed:
		}
	}
}

// KeepsLife implements agent.Repairer: a host that loses its promises loses the life with them.
func (p postgresPort) KeepsLife(cluster.Incarnation) bool { return true }

// ExpectSystemID implements agent.Repairer: there is one cluster.
func (p postgresPort) ExpectSystemID(string) {}

// CrashRecover implements agent.Repairer.
func (p postgresPort) CrashRecover(ctx context.Context) error {
	return p.working(ctx, 2*time.Second, func(h *Host) error { h.disk.clean = true; return nil })
}

// working does something long with a stopped directory.
func (p postgresPort) working(ctx context.Context, usual time.Duration, f func(h *Host) error) error {
	err := p.locked(ctx, func(h *Host) error {
		if h.server != nil || h.busy {
			return errNotStopped
		}
		h.busy = true
		return nil
	})
	if err != nil {
		return err
	}
	defer p.h.change(func() { p.h.busy = false })
	if err := pause(ctx, p.h.draw(usual/4, usual)); err != nil {
		return err
	}
	return p.locked(ctx, f)
}

// BaseBackup implements agent.Repairer.
func (p postgresPort) BaseBackup(ctx context.Context, s agent.Source, m cluster.Member, progress func(done, total int64)) error {
	progress(0, 1<<20)
	m2, err := p.fetch(ctx, s)
	if err != nil {
		return fmt.Errorf("clone of %s: %w", s.Node, err)
	}
	return p.working(ctx, 2*time.Second, func(h *Host) error {
		if err := h.allowedLocked(&s); err != nil { // V1: a promise was given of the old directory
			return err
		}
		h.disk = disk{exists: true, incarnation: m.Incarnation, clean: true, promise: h.disk.promise, noPrimary: h.disk.noPrimary,
			wal: wal{records: m2.Records, forks: m2.Forks}}
		return nil
	})
}

// Rewind implements agent.Repairer: the own WAL up to the fork, then the source's.
func (p postgresPort) Rewind(ctx context.Context, s agent.Source, fork cluster.Position, m cluster.Member, progress func(string)) error {
	progress("looking for the fork")
	err := p.looked(ctx, func(h *Host) error {
		if !h.disk.rewinding && !h.disk.clean {
			return errors.New("not shut down cleanly")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", s.Node, err)
	}
	from, err := p.fetch(ctx, s)
	if err == nil && !from.Primary {
		err = errors.New("the source is no primary")
	}
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", s.Node, err)
	}
	if err := p.locked(ctx, func(h *Host) error { h.disk.rewinding = true; return nil }); err != nil {
		return err
	}
	return p.working(ctx, 2*time.Second, func(h *Host) error {
		h.disk.rewinding, h.disk.clean, h.disk.incarnation = false, true, m.Incarnation
		h.disk.wal = wal{records: from.Records, forks: from.Forks}
		return nil
	})
}

// fetch copies a source's directory.
func (p postgresPort) fetch(ctx context.Context, s agent.Source) (m walMessage, err error) {
	if m, err = p.ask(ctx, s, startReplication{Copy: true}); err != nil {
		return m, err
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	if m.Forks == nil {
		m.Forks = map[cluster.Timeline]cluster.Fork{}
	}
	return m, nil
}

// ask is one question to another node's PostgreSQL.
func (p postgresPort) ask(ctx context.Context, s agent.Source, q startReplication) (m walMessage, err error) {
	if err := p.enter(ctx); err != nil {
		return m, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := p.h.world.net.Dial(ctx, p.h.Name, s.Node, servicePostgres)
	if err != nil {
		return m, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return m, err
	}
	if err := gob.NewEncoder(c).Encode(q); err != nil {
		return m, err
	}
	err = gob.NewDecoder(c).Decode(&m)
	return m, err
}
