package agent

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// emptied is n3 without data, its former life in no rule; its agent has heard of the others.
func emptied(c *fakeCluster) *fakeNode {
	c.edit(func(v *cluster.View) { v.Rules[0].Standbys = []cluster.Member{member("n2")} })
	return lostData(c)
}

// lostData is n3 without data, its former life still counted.
func lostData(c *fakeCluster) *fakeNode {
	n3 := c.nodes["n3"]
	n3.pg.pos = cluster.Position{}
	c.set("n3", func(p *cluster.PostgresStatus) {
		*p = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
	})
	for _, n := range []cluster.NodeID{"n1", "n2"} {
		if _, err := n3.peers.look(c.life, n, statusFresh); err != nil {
			c.t.Fatal(err)
		}
	}
	c.calls.forget()
	return n3
}

var fromN1 = decide.Decision{Action: decide.Clone, Reason: decide.ReasonNoData, Source: "n1", Term: 3}

// events are those that a node has had recorded, each as its type, its term and its detail.
func (c *fakeCluster) events(id cluster.NodeID) (list []string) {
	synctest.Wait()
	for _, cmd := range c.commands("add_event") {
		if e := cmd.(cluster.AddEvent).Event; e.Node == id {
			list = append(list, fmt.Sprintf("%s in %d: %s", e.Type, e.Term, e.Detail))
		}
	}
	return list
}

// tries carries a decision out as the loop does, and waits for the job's end.
func tries(ctx context.Context, n *fakeNode, d decide.Decision) {
	n.act(ctx, n.observe(), d)
	n.jobs.wait()
	synctest.Wait()
}

// lifeOf is the incarnation that a call to make n3's data was given.
func lifeOf(t *testing.T, call string) cluster.Incarnation {
	t.Helper()
	found := regexp.MustCompile(`\{n3 ([0-9a-f]{8})\}$`).FindStringSubmatch(call)
	if found == nil {
		t.Fatalf("%q names no new life of n3", call)
	}
	return cluster.Incarnation(found[1])
}

// V5: the copy's source must be of this cluster, which is said before the copy; the copy is a new life, of this node; it is
// told of before and after.
func TestV5CloneIsANewLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		copied := c.calls.block("n3 BaseBackup")
		n3.act(c.life, n3.observe(), fromN1)
		if got := c.events("n3"); !slices.Equal(got, []string{"clone in 3: from n1: no data directory"}) {
			t.Errorf("events while it is copied: %q", got)
		}
		n3.publish(n3.observe())
		if got := n3.Snapshot().Phase; !strings.HasSuffix(got, "clone from n1: 3 of 7 MiB") {
			t.Errorf("phase %q", got)
		}
		copied()
		n3.jobs.wait()
		if got := c.events("n3"); len(got) != 2 || got[1] != "cloned in 3: from n1" {
			t.Errorf("events %q", got)
		}
		if !c.calls.ordered("n3 ExpectSystemID 7000", "n3 BaseBackup n1 n1:5432 {n3 ") {
			t.Errorf("calls %q", c.calls.all("n3"))
		}
		first := lifeOf(t, c.calls.all("n3 BaseBackup")[0])
		tries(c.life, n3, fromN1)
		if second := lifeOf(t, c.calls.all("n3 BaseBackup")[1]); first == second {
			t.Errorf("two copies are the same life %q", first)
		}
	})
}

// V5: what the copy is becomes known by the registry, not by the copying: until then nobody counts on it.
func TestV5CloneRegistersNothingItself(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		tries(c.life, n3, fromN1)
		if c.calls.count("n1 Apply register") != 0 || c.current().Nodes["n3"].Incarnation != member("n3").Incarnation {
			t.Errorf("calls %q", c.calls.all(""))
		}
		if d := decide.Next(n3.observe()); d.Action != decide.Register {
			t.Errorf("next is %q because %q", d.Action, d.Reason)
		}
	})
}

// A clone that fails is tried again after a growing pause, by a single event of its beginning, and never told of as done.
func TestCloneThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		c.calls.fail("n3 BaseBackup")
		for i, pause := range []time.Duration{decide.FirstPause, 2 * decide.FirstPause, 4 * decide.FirstPause} {
			tries(c.life, n3, fromN1)
			o := n3.observe()
			if left := o.Retry[decide.Clone].Sub(o.Now); o.Failed(decide.Clone) != i+1 || left > pause || left < pause-time.Millisecond {
				t.Errorf("after try %d: %d failures, the next in %v, want %v", i+1, o.Failed(decide.Clone), left, pause)
			}
			if d := decide.Next(o); d.Action != decide.Wait || d.Reason != decide.ReasonRetry {
				t.Errorf("after try %d the next action is %q because %q", i+1, d.Action, d.Reason)
			}
			pass(pause)
		}
		if got := c.events("n3"); !slices.Equal(got, []string{"clone in 3: from n1: no data directory"}) {
			t.Errorf("events %q", got)
		}
		c.calls.hook("n3 BaseBackup", func(context.Context) error { return nil })
		tries(c.life, n3, fromN1)
		o := n3.observe()
		if o.Failed(decide.Clone) != 0 || len(c.events("n3")) != 2 {
			t.Errorf("after success: %d failures, events %q", o.Failed(decide.Clone), c.events("n3"))
		}
		if left := o.Retry[decide.Clone].Sub(o.Now); left < decide.LongestPause-time.Millisecond {
			t.Errorf("after success it may be repeated in %v", left)
		}
	})
}

// Without an address there is nothing to copy from: nothing is touched, and no event says that it was.
func TestCloneFromAnUnknownSource(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*cluster.View){
		"not in the registry": func(v *cluster.View) { delete(v.Nodes, "n1") },
		"no address": func(v *cluster.View) {
			n := v.Nodes["n1"]
			n.PostgresAddr = ""
			v.Nodes["n1"] = n
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := emptied(c)
				c.edit(edit)
				tries(c.life, n3, fromN1)
				if n3.observe().Failed(decide.Clone) != 1 || c.calls.count("n3 BaseBackup") != 0 || len(c.events("n3")) != 0 {
					t.Errorf("calls %q, events %q", c.calls.all("n3"), c.events("n3"))
				}
			})
		})
	}
}

// An agent that ends breaks its clone off, and does not tell of it as done.
func TestCloneEndsWithTheAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		ctx, cancel := context.WithCancel(c.life)
		defer c.calls.block("n3 BaseBackup")()
		n3.act(ctx, n3.observe(), fromN1)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if o := n3.observe(); o.Job.Action != "" || o.Local.Postgres.Data != cluster.DataAbsent || len(c.events("n3")) != 1 {
			t.Errorf("job %q, data %s, events %q", o.Job.Action, o.Local.Postgres.Data, c.events("n3"))
		}
	})
}

// B4, V5, S8: data that counts in a rule is not replaced before the holder has taken it out, as it is asked to; then it is
// copied once, registered, and started.
func TestB4CloneWaitsUntilTheLifeIsOutOfTheRules(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := lostData(c)
		c.start(func() { n3.peers.poll(c.life) })
		c.start(func() { n3.loop(c.life) })
		pass(10 * time.Second)
		if c.calls.count("n3 BaseBackup") != 0 {
			t.Fatalf("the former life counts in %v: %q", c.current().Rules, c.calls.all("n3"))
		}
		if s, err := c.nodes["n1"].peers.look(c.life, "n3", statusFresh); err != nil || s.WantsOut != member("n3").Incarnation {
			t.Errorf("it asks the holder to take out %q, %v", s.WantsOut, err)
		}
		c.edit(func(v *cluster.View) { v.Rules[0].Standbys = []cluster.Member{member("n2")} })
		pass(5 * time.Second)
		if !c.calls.ordered("n3 ExpectSystemID", "n3 BaseBackup n1", "n1 Apply register", "n3 Start standby 3") || c.calls.count("n3 BaseBackup") != 1 {
			t.Errorf("calls %q", c.calls.all(""))
		}
		if got := c.current().Nodes["n3"].Incarnation; got != lifeOf(t, c.calls.all("n3 BaseBackup")[0]) {
			t.Errorf("registered life %q, calls %q", got, c.calls.all("n3 BaseBackup"))
		}
	})
}

// A key that moves on while the copy runs changes nothing in it: nothing else is done to the directory meanwhile. What was
// copied then follows the new holder.
func TestCloneOutlivesTheTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		copied := c.calls.block("n3 BaseBackup")
		c.start(func() { n3.peers.poll(c.life) })
		c.start(func() { n3.loop(c.life) })
		pass(time.Second)
		c.movesTo("n2", 1000)
		pass(5 * time.Second)
		if got := c.calls.count("n3 BaseBackup") + c.calls.count("n3 Start"); got != 1 {
			t.Fatalf("while it is copied: %q", c.calls.all("n3"))
		}
		n3.pg.edit(func(p *cluster.PostgresStatus) { p.Timeline, n3.pg.pos = 2, cluster.Position{Timeline: 2, LSN: 1000} })
		copied()
		pass(5 * time.Second)
		if !c.calls.ordered("n3 BaseBackup n1", "n1 Apply register", "n3 Start standby 4", "n3 Follow n2 4") || c.calls.count("n3 BaseBackup") != 1 {
			t.Errorf("calls %q", c.calls.all(""))
		}
	})
}

// movesTo makes a node the primary of timeline 3 in term 4, which left timeline 2 at fork; n1 leads Raft still.
func (c *fakeCluster) movesTo(id cluster.NodeID, fork cluster.LSN) {
	c.edit(func(v *cluster.View) {
		v.Key.Holder, v.Key.Member, v.Key.Term, v.Key.Timeline = id, member(id), 4, 3
		v.Forks[3] = cluster.Fork{Timeline: 3, Parent: 2, LSN: fork, Term: 4, Node: id}
		v.Rules = []cluster.SyncRule{{ID: 10, Term: 4, Primary: member(id), Timeline: 3, Mode: cluster.SyncQuorum}}
	})
	c.set(id, func(p *cluster.PostgresStatus) {
		p.Role, p.Timeline, p.Current, p.Streaming, p.Source, p.SourceTerm = cluster.RolePrimary, 3, fork, false, "", 0
	})
}

// A job's progress is of that job alone, and rewinds that failed are nothing against the copy that came after them.
func TestCloneLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := emptied(c)
		n3.mu.Lock()
		n3.failures[decide.Rewind] = decide.Failures{InARow: decide.MaxRewinds}
		n3.mu.Unlock()
		tries(c.life, n3, fromN1)
		if got := n3.observe().Failed(decide.Rewind); got != 0 {
			t.Errorf("%d failed rewinds are remembered", got)
		}
		defer c.calls.block("n3 Start")()
		n3.act(c.life, n3.observe(), decide.Decision{Action: decide.StartStandby, Reason: decide.ReasonStopped, Source: "n1", Term: 3})
		synctest.Wait()
		n3.publish(n3.observe())
		if got := n3.Snapshot().Phase; strings.Contains(got, "clone") {
			t.Errorf("phase %q while it starts", got)
		}
	})
}
