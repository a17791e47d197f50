package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// failures makes a call fail and gives the moments at which it was tried.
func (c *fakeCluster) failures(call string) func() []cluster.Instant {
	var mu sync.Mutex
	var at []cluster.Instant
	c.calls.hook(call, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, c.clock.now())
		return errFake
	})
	return func() []cluster.Instant {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
}

// wantPauses checks that the pauses between tries double from decide.FirstPause to decide.LongestPause, and are not overslept.
func wantPauses(t *testing.T, at []cluster.Instant) {
	t.Helper()
	pause := decide.FirstPause
	for i := 1; i < len(at); i++ {
		if got := at[i].Sub(at[i-1]); got < pause || got > pause+10*time.Millisecond {
			t.Errorf("try %d came after %v, want %v", i+1, got, pause)
		}
		pause = min(2*pause, decide.LongestPause)
	}
}

// An action that fails is tried again by itself, after pauses that grow; the loop wakes when each of them ends. The
// first success ends them.
func TestLoopTriesAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		call string
		edit func(*cluster.PostgresStatus)
	}{
		"in the loop": {"n3 Follow", func(p *cluster.PostgresStatus) { p.Source = "n2" }},
		"as a job":    {"n3 Start", func(p *cluster.PostgresStatus) { p.State, p.Role = cluster.PostgresStopped, cluster.RoleNone }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := c.nodes["n3"]
				tries := c.failures(tt.call)
				c.set("n3", tt.edit)
				c.start(func() { n3.loop(c.life) })
				pass(time.Minute)
				wantPauses(t, tries())
				if n := len(tries()); n < 9 {
					t.Errorf("%d tries in a minute", n)
				}
				c.calls.hook(tt.call, nil)
				pass(decide.LongestPause)
				synctest.Wait()
				c.calls.forget()
				again := c.failures(tt.call)
				c.set("n3", tt.edit)
				pass(time.Second)
				wantPauses(t, again())
				if n := len(again()); n < 4 {
					t.Errorf("%d tries in the second after a success", n)
				}
				c.calls.hook(tt.call, nil)
				pass(decide.LongestPause)
			})
		})
	}
}

// A call that is not carried out because its context ended is tried again like any other.
func TestTriedKeepsTheBook(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := c.nodes["n3"]
		d := decide.Decision{Action: decide.Follow}
		n3.tried(c.life, d, context.Canceled)
		n3.tried(c.life, d, errFake)
		o := n3.observe()
		if left := o.Retry[decide.Follow].Sub(o.Now); o.Failed(decide.Follow) != 2 || left <= decide.FirstPause || left > 2*decide.FirstPause {
			t.Errorf("%d failures, next try in %v", o.Failed(decide.Follow), left)
		}
		if o.Failed(decide.StartStandby) != 0 || !o.Retry[decide.StartStandby].IsZero() {
			t.Error("one action's failures count for another")
		}
		for range 100 {
			n3.tried(c.life, d, errFake)
		}
		if o := n3.observe(); o.Retry[decide.Follow].Sub(o.Now) > decide.LongestPause {
			t.Errorf("the pause has grown to %v", o.Retry[decide.Follow].Sub(o.Now))
		}
		n3.tried(c.life, d, nil)
		if o := n3.observe(); o.Failed(decide.Follow) != 0 || !o.Retry[decide.Follow].IsZero() {
			t.Errorf("after a success: %d failures, next try at %d", o.Failed(decide.Follow), o.Retry[decide.Follow])
		}
	})
}

// One action that changes Postgres runs at a time; a rule is settled beside it.
func TestJobsOneOfAKind(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		var j jobs
		end, ended := make(chan struct{}), make(chan string, 4)
		run := func(a decide.Action) bool {
			return j.start(c.life, decide.Decision{Action: a}, 1, func(context.Context) { <-end; ended <- string(a) }, func() {})
		}
		if !run(decide.Promote) || run(decide.StartStandby) || !run(decide.SettleRule) || run(decide.SettleRule) {
			t.Error("two of a kind were started, or a first one was not")
		}
		if j.current().Action != decide.Promote {
			t.Errorf("current job %+v", j.current())
		}
		close(end)
		j.wait()
		if len(ended) != 2 || j.current().Action != "" || !run(decide.StartStandby) {
			t.Errorf("%d ended, current %+v", len(ended), j.current())
		}
		j.wait()
	})
}
