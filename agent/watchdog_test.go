package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/cluster"
)

// A watchdog that is required and cannot be used is an event, once; then the node says why it is no candidate.
func TestWatchdogProblemIsTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		dog    cluster.WatchdogStatus
		events int
		cannot string
	}{
		{"required", cluster.WatchdogStatus{Mode: cluster.WatchdogRequired, Problem: "no device"}, 1, "its watchdog is required and cannot be used: no device"},
		{"automatic", cluster.WatchdogStatus{Mode: cluster.WatchdogAutomatic, Problem: "no device"}, 0, ""},
		{"open and not fed", cluster.WatchdogStatus{Mode: cluster.WatchdogAutomatic, Active: true, Problem: "feed: input/output error"}, 1, ""},
		{"open", cluster.WatchdogStatus{Mode: cluster.WatchdogRequired, Active: true, Timeout: 5 * time.Second}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := c.nodes["n3"]
				c.start(func() { n3.loop(c.life) })
				pass(time.Second)
				n3.guard.mu.Lock()
				n3.guard.dog = tt.dog
				n3.guard.mu.Unlock()
				n3.watch.refresh(c.life) // the change alone wakes the loop
				synctest.Wait()
				pass(5 * time.Second)
				got := c.commands("add_event")
				if len(got) != tt.events {
					t.Fatalf("%d events, want %d: %v", len(got), tt.events, got)
				}
				if tt.events == 1 {
					if e := got[0].(cluster.AddEvent).Event; e.Type != "watchdog_problem" || e.Node != "n3" || e.Detail != tt.dog.Problem {
						t.Errorf("event %+v", e)
					}
				}
				if why := n3.Snapshot().Local.CanPromote; why != tt.cannot {
					t.Errorf("cannot promote: %q, want %q", why, tt.cannot)
				}
				if phase := n3.Snapshot().Phase; strings.Contains(phase, "watchdog") {
					t.Errorf("phase %q of a standby that follows", phase)
				}
			})
		})
	}
}
