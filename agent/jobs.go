package agent

import (
	"context"
	"sync"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// jobs runs actions that take long beside the loop: one that changes Postgres, and one that settles a sync rule.
type jobs struct {
	mu       sync.Mutex
	running  decide.Job
	settling bool
	wg       sync.WaitGroup
}

// start runs f unless an action of its kind runs already, and after once f's place is free again.
func (j *jobs) start(ctx context.Context, d decide.Decision, now cluster.Instant, f func(context.Context), after func()) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	settle := d.Action == decide.SettleRule
	if settle && j.settling || !settle && j.running.Action != "" {
		return false
	}
	if settle {
		j.settling = true
	} else {
		j.running = decide.Job{Action: d.Action, Reason: d.Reason, Started: now}
	}
	j.wg.Go(func() {
		f(ctx)
		j.done(settle)
		after()
	})
	return true
}

func (j *jobs) done(settle bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if settle {
		j.settling = false
	} else {
		j.running = decide.Job{}
	}
}

// current is the action that changes Postgres now.
func (j *jobs) current() decide.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.running
}

func (j *jobs) wait() { j.wg.Wait() }
