package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// promoteByHand is pg_ctl promote on a standby, a few times over if somebody makes it a standby again in between: PostgreSQL
// takes the first number after its own of which it has no history file, and nobody asks the guard. It says whether there was
// a standby to promote. Whoever does that works around pgquorum (docs/protocol.md, A7): the list of a standby asks for
// confirmations that nobody gives, but not where its agent has just started and knows no other member yet. What is to be held
// is that nobody takes its WAL for the cluster's (F3).
func (h *Host) promoteByHand(times int) bool {
	if h.isFollowed() {
		return false
	}
	done := false
	h.change(func() {
		s := h.server
		if s == nil || s.dead || s.state != cluster.PostgresRunning || !s.recovering || s.mayBePrimary || h.stillLocked(servicePostgres) {
			return
		}
		if s.receiver != nil {
			s.receiver.stop()
			s.receiver = nil
		}
		s.recovering, s.byHand, h.disk.source = false, true, nil
		for range times {
			h.world.Did("%s is promoted by hand to timeline %d", h.Name, h.disk.wal.switchByHand(h.world.number()))
		}
		done = true
	})
	return done
}

// isFollowed says whether others stream from a node: all that follow would go with it to the timeline that nobody allotted, as
// PostgreSQL does. Nobody's promise counts then, and the cluster waits for a person (pgquorum recover; TestFollowedByHand in
// integration), which is nothing to be played here. An order to follow may be under way at that moment: WaitsForAPerson.
func (h *Host) isFollowed() bool {
	for _, other := range h.world.Hosts {
		other.mu.Lock()
		from := other.disk.source
		other.mu.Unlock()
		if other != h && from != nil && from.Node == h.Name {
			return true
		}
	}
	return false
}

// WaitsForAPerson says whether what somebody promoted by hand was followed by others, so that what all hosts have together
// settles no recorded rule, and an agent tells the operator that.
func (w *World) WaitsForAPerson() bool {
	v := viewOf(w.Hosts)
	if v == nil {
		return false
	}
	on := map[cluster.Timeline]int{}
	followed, told := false, false
	for _, h := range w.Hosts {
		h.mu.Lock()
		tip := h.disk.wal.end()
		h.mu.Unlock()
		if byHand(v, tip) {
			on[tip.Timeline]++
			followed = followed || on[tip.Timeline] > 1
		}
		if p := h.agentNow(); p.alive() {
			phase := p.node.Snapshot().Phase
			told = told || strings.Contains(phase, string(decide.ReasonNoCandidate)) && strings.Contains(phase, "promoted by hand")
		}
	}
	missing := w.missingTo(w.Hosts)
	return followed && told && missing != "" && missing != noQuorum
}

// FollowedByHand leaves what there is when a node was promoted by hand and all the others went along: WAL of one timeline that
// nobody allotted.
func (w *World) FollowedByHand() error {
	for _, h := range w.Hosts {
		h.Crash()
	}
	row := w.number()
	var errs []error
	for _, h := range w.Hosts {
		h.change(func() { h.disk.wal.switchByHand(row) })
		errs = append(errs, h.Boot())
	}
	return errors.Join(errs...)
}

// switchByHand begins the timeline that PostgreSQL takes by itself.
func (w *wal) switchByHand(number int64) cluster.Timeline {
	to := w.end().Timeline + 1
	for {
		if _, taken := w.forks[to]; !taken {
			break
		}
		to++
	}
	w.switchTo(to)
	w.append(to, number, 0)
	return to
}

// promotingByHand spends what may be lost: until its WAL is rewound, what the node had before counts for nobody either.
func promotingByHand(w *World, h *Host) func() error {
	if !h.isOff() && w.spend(h) {
		h.promoteByHand(1 + w.intN(3))
	}
	return nothing
}

// ofThree gives the primary and the two standbys of a world of three hosts.
func (w *World) ofThree() (p, first, second *Host, err error) {
	if p = w.primaryHost(); p == nil || len(w.Hosts) != 3 {
		return nil, nil, nil, errors.New("want a primary and two standbys")
	}
	for _, h := range w.Hosts {
		if h != p {
			first, second = second, h
		}
	}
	return p, first, second, nil
}

// PromoteByHandWhileCutOff cuts a standby off, promotes it by hand as often as is said, lets the others' primary move, and
// heals the network. The number that the standby has come to may be the one that was allotted meanwhile.
func (w *World) PromoteByHandWhileCutOff(times int) error {
	p, next, alone, err := w.ofThree()
	if err != nil {
		return err
	}
	w.Isolate(alone, true, true)
	if !alone.promoteByHand(times) {
		return fmt.Errorf("%s is no standby", alone.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if got := p.Switchover(ctx, next.Name); w.primaryHost() != next {
		return fmt.Errorf("switchover to %s: %d %s", next.Name, got.Code, got.Text)
	}
	return w.Heal()
}

// PromoteByHandAfterItsPromise cuts a standby off as soon as it has promised for a switchover, so that it knows nothing of the
// next term and runs on without a source. It is promoted by hand twice, to the number that was allotted meanwhile. Healed, the
// primary moves back, and then to that standby, under load all the time.
func (w *World) PromoteByHandAfterItsPromise() error {
	p, next, alone, err := w.ofThree()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, h := range w.Hosts {
		w.live(func() { w.Write(ctx, h) })
	}
	cut := make(chan error, 1)
	w.live(func() {
		cut <- w.awaitPromise(ctx, alone)
		w.Isolate(alone, true, true)
	})
	if got := p.Switchover(ctx, next.Name); w.primaryHost() != next {
		return fmt.Errorf("switchover to %s: %d %s", next.Name, got.Code, got.Text)
	}
	if err := <-cut; err != nil {
		return err
	}
	for range 2 {
		if err := await(time.Minute, "not promoted by hand", func() error {
			if !alone.promoteByHand(1) {
				return errNotRunning
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if err := await(time.Minute, "it was not ended", func() error {
		alone.mu.Lock()
		defer alone.mu.Unlock()
		if alone.server != nil && alone.server.byHand {
			return fmt.Errorf("%s takes writes", alone.Name)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := w.Heal(); err != nil {
		return err
	}
	w.Did("back to %s: %v", p.Name, next.Switchover(ctx, p.Name))
	if err := w.AwaitConverged(time.Minute); err != nil {
		return err
	}
	w.Did("to %s: %v", alone.Name, p.Switchover(ctx, alone.Name))
	return nil
}

// awaitPromise waits until a standby has promised its second term.
func (w *World) awaitPromise(ctx context.Context, h *Host) error {
	for {
		h.mu.Lock()
		promised := h.disk.promise
		h.mu.Unlock()
		if promised >= 2 {
			return nil
		}
		if err := pause(ctx, 50*time.Microsecond); err != nil {
			return fmt.Errorf("%s promised nothing: %w", h.Name, err)
		}
	}
}
