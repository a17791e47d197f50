package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

const refusedSegment = "requested WAL segment 000000020000000000000001 has already been removed"

// dry is n3, cut off from the stream by its source, in no rule, with upkeep at work.
func dry(c *fakeCluster) *fakeNode {
	c.edit(func(v *cluster.View) { v.Rules[0].Standbys = []cluster.Member{member("n2")} })
	n3 := c.nodes["n3"]
	c.set("n3", func(p *cluster.PostgresStatus) { p.Streaming = false })
	c.start(func() { n3.upkeep(c.life) })
	return n3
}

// What is asked, of whom and when: after a while without a stream, the holder, for the end of this node's own WAL.
func TestRemovedWALIsAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n3 := dry(c)
		pass(decide.RemovedPatience - time.Second)
		if asked := c.calls.all("n3 RemovedWAL"); len(asked) != 0 {
			t.Errorf("asked too early: %q", asked)
		}
		pass(2 * standbyRounds * upkeepEvery)
		asked := c.calls.all("n3 RemovedWAL")
		if len(asked) == 0 || asked[0] != "n3 RemovedWAL n1 3 {2 0/3E8 0}" {
			t.Fatalf("asked %q", asked)
		}
		if got := n3.observe().Removed; got != "" {
			t.Errorf("the source has it, yet: %q", got)
		}
	})
}

func TestRemovedWALIsNotAskedFor(t *testing.T) {
	for name, edit := range map[string]func(c *fakeCluster){
		"streams":      func(c *fakeCluster) { c.set("n3", func(p *cluster.PostgresStatus) { p.Streaming = true }) },
		"other source": func(c *fakeCluster) { c.set("n3", func(p *cluster.PostgresStatus) { p.Source = "n2" }) },
		"older term":   func(c *fakeCluster) { c.set("n3", func(p *cluster.PostgresStatus) { p.SourceTerm = 2 }) },
		"key released": func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Released = true }) },
		"promised above": func(c *fakeCluster) {
			c.nodes["n3"].pg.edit(func(*cluster.PostgresStatus) { c.nodes["n3"].pg.promised = 4 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				dry(c)
				edit(c)
				pass(4 * standbyRounds * upkeepEvery)
				if asked := c.calls.all("n3 RemovedWAL"); len(asked) != 0 {
					t.Errorf("asked %q", asked)
				}
			})
		})
	}
}

// The refusal lasts through the stop, and ends with the term, with a stream, or with this life of the data. A source that
// cannot be asked has refused nothing.
func TestRemovedWALIsOfOneTermAndLife(t *testing.T) {
	for name, tt := range map[string]struct {
		edit  func(c *fakeCluster)
		still bool
	}{
		"nothing":  {func(*fakeCluster) {}, true},
		"stopped":  {func(c *fakeCluster) { c.set("n3", stopLocal) }, true},
		"streams":  {func(c *fakeCluster) { c.set("n3", func(p *cluster.PostgresStatus) { p.Streaming = true }) }, false},
		"new term": {func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Term++ }) }, false},
		"another life": {func(c *fakeCluster) {
			c.set("n3", func(p *cluster.PostgresStatus) { p.Incarnation = "other" })
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n3 := dry(c)
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.refusal = refusedSegment })
				c.calls.fail("n3 RemovedWAL")
				pass(3 * standbyRounds * upkeepEvery)
				if got := n3.observe().Removed; got != "" || c.calls.count("n3 RemovedWAL") == 0 {
					t.Fatalf("not answered, yet %q", got)
				}
				c.calls.hook("n3 RemovedWAL", nil)
				pass(2 * standbyRounds * upkeepEvery)
				if got := n3.observe().Removed; got != "n1: "+refusedSegment {
					t.Fatalf("removed %q", got)
				}
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.refusal = "" })
				tt.edit(c)
				synctest.Wait()
				if got := n3.observe().Removed; (got != "") != tt.still {
					t.Errorf("removed %q", got)
				}
			})
		})
	}
}

func stopLocal(p *cluster.PostgresStatus) {
	p.State, p.Role = cluster.PostgresStopped, cluster.RoleNone
}

// A lost slot is made anew within a round of thorough upkeep, also when neither nodes nor Postgres have changed.
func TestSlotsAreLookedAtAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		for _, id := range []cluster.NodeID{"n1", "n3"} {
			c.start(func() { c.nodes[id].upkeep(c.life) })
		}
		pass(time.Second / 2)
		c.calls.forget()
		pass(2 * standbyRounds * upkeepEvery)
		for _, id := range []cluster.NodeID{"n1", "n3"} {
			if n := c.calls.count(string(id) + " EnsureSlots"); n != 2 {
				t.Errorf("%s: %d looks at the slots in two rounds", id, n)
			}
		}
	})
}
