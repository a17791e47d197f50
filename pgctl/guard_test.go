package pgctl

import "testing"

// TestGuard runs the guard, as a process of its own, with real Postgres. Each case has its own PGDATA, a copy of one
// template.
func TestGuard(t *testing.T) {
	t.Parallel()
	template := makeTemplate(t)
	cases := []struct {
		name string
		run  func(t *testing.T, template string)
	}{
		{"U3 L5 a primary is ended by E without its agent", fencePrimary},
		{"U3 L5 a frozen agent's primary is ended by E", fenceFrozenAgent},
		{"U3 L5 a frozen postmaster is killed by E, by descendants", fenceFrozenPostmaster},
		{"U3 L5 a frozen postmaster is killed by E, by cgroup", fenceFrozenPostmasterCgroup},
		{"U2 a standby under an armed lease is fenced", fenceStandby},
		{"U2 a renewed lease keeps the primary, cheaply", renewedLease},
		{"L6 a lowered E is obeyed", loweredLease},
		{"U3 orphan backends are ended before the event", orphanBackends},
		{"U4 fenced is durable", fencedDurable},
		{"U4 a fence order ends a primary and what it must not end stays", fenceOrders},
		{"U4 a fence order does not wait for a stop", fenceDuringStop},
		{"U4 no word on a postgres that is not the guard's", fenceStranger},
		{"U2 starts that are refused", refusedStarts},
		{"U2 promotion needs the lease", promotion},
		{"U5 a killed guard takes postgres along", killedGuard},
		{"U5 EndAll ends what a killed guard left, by directory", endAllByDirectory},
		{"U5 EndAll ends what a killed guard left, by cgroup", endAllByCgroup},
		{"U1 the newest session wins and sees the lease", sessions},
		{"U1 containment is what the machine permits", containments},
		{"watchdog fed while the lease lives, disarmed when all is reaped", watchdogLife},
		{"watchdog of a postgres that does not end", watchdogFrozenPostmaster},
		{"watchdog of a hand-over", watchdogHandOver},
		{"watchdog of a standby under an armed lease", watchdogPromotion},
		{"watchdog of a killed guard runs on", watchdogKilledGuard},
		{"watchdog of a guard that stands still is not fed", watchdogFrozenGuard},
		{"watchdog of a guard whose fencing thread stands still is not fed", watchdogUnscheduled},
		{"watchdog required: no primary without it", watchdogRequired},
		{"watchdog that cannot be stopped and does not fit", watchdogUnfit},
		{"watchdog longer than recorded: no primary", watchdogTooLong},
		{"watchdog automatic: a primary all the same", watchdogAutomatic},
		{"watchdog that cannot be stopped is fed while nothing can be a primary", watchdogEndless},
		{"watchdog of a running primary", watchdogLater},
		{"stop in stages", stops},
		{"exits that were ordered make no event", orderedExit},
		{"PGDATA swapped between starts", swapped},
		{"quit, second guard, end on SIGTERM", endings},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, template)
		})
	}
}
