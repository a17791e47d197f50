package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// strayed is n3 with WAL up to 1000 on timeline 2, down after a crash, and in no rule: n2 has left that timeline at 900 for
// timeline 3, and holds the key of term 4. Its agent has heard of the others.
func strayed(c *fakeCluster) *fakeNode {
	c.movesTo("n2", 900)
	n3 := c.nodes["n3"]
	c.set("n3", func(p *cluster.PostgresStatus) {
		p.State, p.Role, p.Streaming, p.Source, p.SourceTerm = cluster.PostgresStopped, cluster.RoleNone, false, "", 0
	})
	for _, n := range []cluster.NodeID{"n1", "n2"} {
		if _, err := n3.peers.look(c.life, n, statusFresh); err != nil {
			c.t.Fatal(err)
		}
	}
	c.calls.forget()
	return n3
}

var backToN2 = decide.Decision{Action: decide.Rewind, Reason: decide.ReasonDiverged, Source: "n2", Term: 4, Detail: "it went on past the fork"}

// U3, B4, F3: crash recovery first, of a directory that needs it; then the rewind, by the recorded fork, as the life that
// the registry has: keeping aside is the rewind's own first step, and shows.
func TestU3RewindInOrder(t *testing.T) {
	t.Parallel()
	const rewound = "n3 Rewind n2 n2:5432 {2 0/384 0} {n3 n3life}"
	for name, tt := range map[string]struct {
		edit func(*cluster.PostgresStatus)
		want []string
	}{
		"after a crash": {func(*cluster.PostgresStatus) {}, []string{"n3 CrashRecover", rewound}},
		"in good order": {func(p *cluster.PostgresStatus) { p.Clean = true }, []string{rewound}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := strayed(c)
				c.set("n3", tt.edit)
				c.calls.forget()
				ends := c.calls.block("n3 Rewind")
				n3.act(c.life, n3.observe(), backToN2)
				if got := c.events("n3"); !slices.Equal(got, []string{"rewind in 4: to n2: it went on past the fork"}) {
					t.Errorf("events while it is rewound: %q", got)
				}
				n3.publish(n3.observe())
				if got := n3.Snapshot().Phase; !strings.HasSuffix(got, "kept aside 2 WAL segments") {
					t.Errorf("phase %q", got)
				}
				ends()
				n3.jobs.wait()
				if got := append(c.calls.all("n3 CrashRecover"), c.calls.all("n3 Rewind")...); !slices.Equal(got, tt.want) || !c.calls.ordered(tt.want...) {
					t.Errorf("calls %q, want %q", c.calls.all("n3"), tt.want)
				}
				if got := c.events("n3"); len(got) != 2 || got[1] != "rewound in 4: to n2" {
					t.Errorf("events %q", got)
				}
			})
		})
	}
}

// V5: a half-rewound directory is not started for a crash recovery, it is rewound again; and a node that the registry has
// no life of gets one.
func TestV5RewindOfWhatIsNobodysLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := strayed(c)
		c.edit(func(v *cluster.View) {
			n := v.Nodes["n3"]
			n.Incarnation = ""
			v.Nodes["n3"] = n
		})
		c.set("n3", func(p *cluster.PostgresStatus) { p.Data, p.Incarnation = cluster.DataRewinding, "" })
		tries(c.life, n3, backToN2)
		if c.calls.count("n3 CrashRecover") != 0 || c.calls.count("n3 Rewind n2") != 1 {
			t.Fatalf("calls %q", c.calls.all("n3"))
		}
		if got := n3.observe().Local.Postgres.Incarnation; got != lifeOf(t, c.calls.all("n3 Rewind")[0]) {
			t.Errorf("life %q, calls %q", got, c.calls.all("n3 Rewind"))
		}
	})
}

// U3: a step that fails ends the try before the next; the next try comes after a growing pause, by no second event of the
// beginning, and a rewind that failed is never told of as done.
func TestRewindThatFails(t *testing.T) {
	t.Parallel()
	for failing, never := range map[string]string{"n3 CrashRecover": "n3 Rewind", "n3 Rewind": "n3 Start"} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := strayed(c)
				c.calls.fail(failing)
				for i, pause := range []time.Duration{decide.FirstPause, 2 * decide.FirstPause} {
					tries(c.life, n3, backToN2)
					o := n3.observe()
					if left := o.Retry[decide.Rewind].Sub(o.Now); o.Failed(decide.Rewind) != i+1 || left > pause || left < pause-time.Millisecond {
						t.Errorf("after try %d: %d failures, the next in %v, want %v", i+1, o.Failed(decide.Rewind), left, pause)
					}
					pass(pause)
				}
				if c.calls.count(failing) != 2 || c.calls.count(never) != 0 || len(c.events("n3")) != 1 {
					t.Errorf("calls %q, events %q", c.calls.all("n3"), c.events("n3"))
				}
				c.calls.hook(failing, func(context.Context) error { return nil })
				tries(c.life, n3, backToN2)
				if o := n3.observe(); o.Failed(decide.Rewind) != 0 || len(c.events("n3")) != 2 {
					t.Errorf("after success: %d failures, events %q", o.Failed(decide.Rewind), c.events("n3"))
				}
			})
		})
	}
}

// Without an address there is nothing to rewind to: the directory is not recovered for it either.
func TestRewindToAnUnknownSource(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := strayed(c)
		c.edit(func(v *cluster.View) { delete(v.Nodes, "n2") })
		tries(c.life, n3, backToN2)
		if n3.observe().Failed(decide.Rewind) != 1 || c.calls.count("n3 CrashRecover")+c.calls.count("n3 Rewind") != 0 || len(c.events("n3")) != 0 {
			t.Errorf("calls %q, events %q", c.calls.all("n3"), c.events("n3"))
		}
	})
}

// An agent that ends breaks the step off that runs, and takes none after it.
func TestRewindEndsWithTheAgent(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"n3 CrashRecover", "n3 Rewind"} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := strayed(c)
				ctx, cancel := context.WithCancel(c.life)
				defer c.calls.block(step)()
				n3.act(ctx, n3.observe(), backToN2)
				synctest.Wait()
				cancel()
				synctest.Wait()
				if got := n3.jobs.current().Action; got != "" || c.calls.count("n3 Rewind") > c.calls.count(step) || len(c.events("n3")) != 1 {
					t.Errorf("job %q, calls %q, events %q", got, c.calls.all("n3"), c.events("n3"))
				}
			})
		})
	}
}

// follows runs n3's loop.
func (c *fakeCluster) follows(n3 *fakeNode) {
	c.start(func() { n3.peers.poll(c.life) })
	c.start(func() { n3.loop(c.life) })
}

// B4, P3, V5: WAL that counts in a rule is not taken back before the holder has taken the node out, as it is asked to; then
// it is rewound to the key's holder, once, and follows it.
func TestB4RewindWaitsUntilTheLifeIsOutOfTheRules(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]cluster.SyncRule{
		"as a standby":                     {ID: 9, Term: 3, Primary: member("n1"), Timeline: 2, Standbys: []cluster.Member{member("n3")}, K: 1, Mode: cluster.SyncQuorum},
		"as the only one with the commits": {ID: 9, Term: 3, Primary: member("n3"), Timeline: 2, Mode: cluster.SyncQuorum},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := strayed(c)
				c.edit(func(v *cluster.View) { v.Rules = append([]cluster.SyncRule{rule}, v.Rules...) })
				c.follows(n3)
				pass(decide.HeldPatience - time.Second)
				if c.calls.count("n3 CrashRecover")+c.calls.count("n3 Rewind")+c.calls.count("n3 BaseBackup")+c.calls.count("n3 Start") != 0 {
					t.Fatalf("it counts in %v: %q", c.current().Rules, c.calls.all("n3"))
				}
				if s, err := c.nodes["n2"].peers.look(c.life, "n3", statusFresh); err != nil || s.WantsOut != member("n3").Incarnation {
					t.Errorf("it asks the holder to take out %q, %v", s.WantsOut, err)
				}
				c.edit(func(v *cluster.View) { v.Rules = v.Rules[1:] })
				pass(5 * time.Second)
				if !c.calls.ordered("n3 CrashRecover", "n3 Rewind n2", "n3 Start standby 4", "n3 Follow n2 4") || c.calls.count("n3 Rewind") != 1 {
					t.Errorf("calls %q", c.calls.all("n3"))
				}
			})
		})
	}
}

// A rewind that cannot be done is given up after MaxRewinds tries, for a copy from the same holder beside the old directory.
func TestB4CloneAfterRewindsThatFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := strayed(c)
		c.calls.fail("n3 Rewind")
		c.calls.hook("n3 BaseBackup", func(context.Context) error {
			n3.pg.edit(func(p *cluster.PostgresStatus) { p.Timeline, n3.pg.pos = 3, cluster.Position{Timeline: 3, LSN: 900} })
			return nil
		})
		c.follows(n3)
		pass(time.Minute)
		if c.calls.count("n3 Rewind") != decide.MaxRewinds || c.calls.count("n3 BaseBackup n2") != 1 || !c.calls.ordered("n3 Rewind", "n3 BaseBackup", "n3 Start standby 4") {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
		if got := c.events("n3"); !slices.Contains(got, "clone in 4: from n2: "+string(decide.ReasonRewindImpossible)) || strings.Contains(strings.Join(got, "\n"), "rewound") {
			t.Errorf("events %q", got)
		}
	})
}

// A key that moves on while a directory recovers for its rewind: nothing else is done to it meanwhile, and in the end it
// follows the holder that there is then.
func TestRewindOutlivesTheTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := strayed(c)
		recovered := c.calls.block("n3 CrashRecover")
		c.follows(n3)
		pass(time.Second)
		c.edit(func(v *cluster.View) {
			v.Key.Holder, v.Key.Member, v.Key.Term, v.Key.Timeline = "n1", member("n1"), 5, 4
			v.Forks[4] = cluster.Fork{Timeline: 4, Parent: 3, LSN: 950, Term: 5, Node: "n1"}
			v.Rules[0].Primary, v.Rules[0].Term, v.Rules[0].Timeline = member("n1"), 5, 4
		})
		c.set("n1", func(p *cluster.PostgresStatus) { p.Timeline = 4 })
		pass(5 * time.Second)
		if got := c.calls.count("n3 CrashRecover") + c.calls.count("n3 Rewind") + c.calls.count("n3 Start"); got != 1 {
			t.Fatalf("while it recovers: %q", c.calls.all("n3"))
		}
		recovered()
		pass(5 * time.Second)
		if p := n3.observe().Local.Postgres; p.Source != "n1" || p.SourceTerm != 5 {
			t.Errorf("it streams from %q at term %d: %q", p.Source, p.SourceTerm, c.calls.all("n3"))
		}
	})
}
