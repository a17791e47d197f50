package pgctl

import (
	"context"
	"errors"

	"pgquorum/cluster"
)

// askedWatchdog is what a session asked of its guard, and the answer. Guarded by Guard.mu.
type askedWatchdog struct {
	mode cluster.WatchdogMode // empty: nothing was asked
	err  error
}

// SetWatchdog gives the guard the settings of the node's file. They are in force from the next opening of the device on; a
// primary that runs without gets it at once. A guard of a release before knows no watchdog: what Status then says is
// that there is none.
func (g *Guard) SetWatchdog(ctx context.Context, s WatchdogSettings) error {
	_, err := g.quick(ctx, guardRequest{Op: opWatchdog, Watchdog: &s})
	g.mu.Lock()
	g.watchdog = askedWatchdog{s.Mode, err}
	g.mu.Unlock()
	if s.Mode == cluster.WatchdogOff && errors.Is(err, errBadRequest) {
		return nil // a guard that knows none has none
	}
	return err
}

// watchdogOf is what a guard says of its watchdog, or, where it did not take this session's settings, that it has none.
func (g *Guard) watchdogOf(said cluster.WatchdogStatus) cluster.WatchdogStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watchdog.mode == said.Mode || g.watchdog.mode == "" || g.watchdog.mode == cluster.WatchdogOff {
		return said
	}
	said.Mode, said.Problem = g.watchdog.mode, "the running guard did not take its settings"
	if g.watchdog.err != nil {
		said.Problem += ": " + g.watchdog.err.Error()
	}
	return said
}
