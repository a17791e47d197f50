package agent

import (
	"context"

	"pgquorum/agent/decide"
)

// noteWatchdog says what has become of this node's watchdog. One that is required and cannot be used, or that is open and
// not fed, is an event of the cluster; that an automatic one is not there is a line of the log only.
func (a *Agent) noteWatchdog(ctx context.Context, o *decide.Observation) {
	now := o.Local.Guard.Watchdog
	if !o.Local.Guard.Alive { // it says nothing
		return
	}
	a.mu.Lock()
	before := a.watchdogSaid
	a.watchdogSaid = now
	a.mu.Unlock()
	if now == before {
		return
	}
	a.log.InfoContext(ctx, "watchdog", "mode", now.Mode, "active", now.Active, "timeout", now.Timeout, "problem", now.Problem)
	if now.Problem != "" && now.Problem != before.Problem && (now.Active || now.Missing() != "") {
		a.event(ctx, "watchdog_problem", o.View.Key.Term, now.Problem)
	}
}
