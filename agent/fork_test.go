package agent

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// unrecorded is n1 as the primary of timeline 2 whose fork is not recorded yet; its history file knows it.
func unrecorded(c *fakeCluster) *fakeNode {
	n1 := c.holds()
	c.edit(func(v *cluster.View) { v.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, Term: 3, Node: "n1"} })
	n1.pg.knows(cluster.Fork{Timeline: 2, Parent: 1, LSN: 500})
	return n1
}

// knows makes a history file say so.
func (p *fakePostgres) knows(forks ...cluster.Fork) {
	p.edit(func(*cluster.PostgresStatus) { p.forks = forks })
}

func recordFork(ctx context.Context, n *fakeNode) error {
	return n.recordFork(ctx, n.observe(), decide.Decision{Action: decide.RecordFork})
}

// F1, F3: recorded is what was allotted, has no LSN yet and left the timeline that it was allotted from; nothing else is
// proposed, whatever a history file says. Without the fork of the key's timeline the action has not done its work.
func TestF1RecordForkOfWhatWasAllotted(t *testing.T) {
	t.Parallel()
	two, three := cluster.RecordFork{Timeline: 2, Parent: 1, LSN: 500}, cluster.RecordFork{Timeline: 3, Parent: 2, LSN: 700}
	for name, tt := range map[string]struct {
		forks []cluster.Fork
		edit  func(*cluster.View)
		want  []cluster.Command
		done  bool
	}{
		"the key's timeline": {[]cluster.Fork{{Timeline: 2, Parent: 1, LSN: 500}}, nil, []cluster.Command{two}, true},
		"an older one, too": {[]cluster.Fork{{Timeline: 3, Parent: 2, LSN: 700}, {Timeline: 2, Parent: 1, LSN: 500}}, func(v *cluster.View) {
			v.Forks[3], v.Key.Timeline = cluster.Fork{Timeline: 3, Parent: 2, Term: 4}, 3
		}, []cluster.Command{three, two}, true},
		"an older one is recorded": {[]cluster.Fork{{Timeline: 2, Parent: 1, LSN: 500}, {Timeline: 3, Parent: 2, LSN: 700}}, func(v *cluster.View) {
			v.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, LSN: 500, Term: 3}
			v.Forks[3], v.Key.Timeline = cluster.Fork{Timeline: 3, Parent: 2, Term: 4}, 3
		}, []cluster.Command{three}, true},
		"only an older one": {[]cluster.Fork{{Timeline: 2, Parent: 1, LSN: 500}}, func(v *cluster.View) {
			v.Forks[3], v.Key.Timeline = cluster.Fork{Timeline: 3, Parent: 2, Term: 4}, 3
		}, []cluster.Command{two}, false},
		"never allotted (F3)": {[]cluster.Fork{{Timeline: 5, Parent: 2, LSN: 900}, {Timeline: 2, Parent: 1, LSN: 500}}, nil, []cluster.Command{two}, true},
		"of another parent":   {[]cluster.Fork{{Timeline: 2, Parent: 9, LSN: 500}}, nil, nil, false},
		"no history file":     {nil, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := unrecorded(c)
				n1.pg.knows(tt.forks...)
				if tt.edit != nil {
					c.edit(tt.edit)
				}
				err := recordFork(c.life, n1)
				if got := c.commands("record_fork"); (err == nil) != tt.done || !slices.Equal(got, tt.want) {
					t.Errorf("error %v, recorded %+v, want %+v", err, got, tt.want)
				}
			})
		})
	}
}

// F1: a step that fails, or that the state machine refuses, is the action's error, and nothing is proposed after it.
func TestF1RecordForkThatFails(t *testing.T) {
	t.Parallel()
	for failing, proposals := range map[string]int{"n1 LocalForks": 0, "n1 Apply record_fork": 1} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := unrecorded(c)
				c.edit(func(v *cluster.View) { v.Forks[3] = cluster.Fork{Timeline: 3, Parent: 2, Term: 3} })
				n1.pg.knows(cluster.Fork{Timeline: 2, Parent: 1, LSN: 500}, cluster.Fork{Timeline: 3, Parent: 2, LSN: 700})
				c.calls.fail(failing)
				if err := recordFork(c.life, n1); err == nil || c.calls.count("n1 Apply record_fork") != proposals || c.current().Forks[2].LSN != 0 {
					t.Errorf("error %v, calls %q, forks %v", err, c.calls.all("n1"), c.current().Forks)
				}
			})
		})
	}
}

// F1: the loop itself carries it out, so that a disk or a Raft that hangs must not hold it for long; nor does an agent that
// ends wait for either.
func TestF1RecordForkIsBounded(t *testing.T) {
	t.Parallel()
	for _, hangs := range []string{"n1 LocalForks", "n1 Apply record_fork"} {
		t.Run(hangs, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1 := unrecorded(c)
				defer c.calls.block(hangs)()
				begin := time.Now()
				if err := outcome(t, background(func() error { return recordFork(c.life, n1) })); err == nil || time.Since(begin) != applyLimit {
					t.Errorf("error %v after %v", err, time.Since(begin))
				}
				ctx, cancel := context.WithCancel(c.life)
				done := background(func() error { return recordFork(ctx, n1) })
				cancel()
				if synctest.Wait(); pending(done) {
					t.Error("still at it after the agent's end")
				}
				if err := outcome(t, done); err == nil {
					t.Error("no error")
				}
			})
		})
	}
}

// F1, S4: the loop records the fork after growing pauses, until it stands, and then no more. A key that has moved on
// meanwhile makes it another's business.
func TestF1RecordForkIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := unrecorded(c)
		n1.pg.confirm(nil, "n2", "n3")
		c.calls.fail("n1 Apply record_fork")
		c.run("n1")
		tried := 0
		for _, pause := range []time.Duration{0, decide.FirstPause, 2 * decide.FirstPause, 4 * decide.FirstPause} {
			pass(pause + time.Millisecond)
			if tried++; c.calls.count("n1 Apply record_fork") != tried {
				t.Fatalf("%d tries after a pause of %v, want %d", c.calls.count("n1 Apply record_fork"), pause, tried)
			}
		}
		c.calls.hook("n1 Apply record_fork", func(context.Context) error { return nil })
		pass(5 * time.Second)
		if got := c.calls.count("n1 Apply record_fork"); got != tried+1 || c.current().Forks[2].LSN != 500 || n1.observe().Failed(decide.RecordFork) != 0 {
			t.Errorf("%d tries, forks %v", got, c.current().Forks)
		}
		c.edit(func(v *cluster.View) {
			v.Key.Holder, v.Key.Term, v.Key.Timeline = "n2", 4, 3
			v.Forks[3] = cluster.Fork{Timeline: 3, Parent: 2, Term: 4, Node: "n2"}
		})
		c.lead("n2")
		pass(5 * time.Second)
		if got := c.calls.count("n1 Apply record_fork"); got != tried+1 {
			t.Errorf("%d tries for another's timeline", got-tried-1)
		}
	})
}
