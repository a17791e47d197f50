package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// S4: one event per term when /primary is shown before its rule is settled.
func TestS4ShownUnsettledOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n := c.nodes["n1"]
		at := func(d time.Duration) *decide.Observation {
			o := n.observe()
			o.Now = o.Now.Add(d)
			return o
		}
		look := func(o *decide.Observation) {
			n.publish(o)
			n.noteShown(c.life, o)
			synctest.Wait()
		}
		look(at(0))
		look(at(decide.GateFor / 2))
		if got := c.commands("add_event"); len(got) != 0 || n.gateOpens().IsZero() {
			t.Fatalf("events %v before the second has passed, gate opens at %d", got, n.gateOpens())
		}
		look(at(decide.GateFor))
		look(at(2 * decide.GateFor))
		got := c.commands("add_event")
		if len(got) != 1 {
			t.Fatalf("%d events, want one", len(got))
		}
		if e := got[0].(cluster.AddEvent).Event; e.Type != "shown_unsettled" || e.Term != 3 || !strings.Contains(e.Detail, "not proven") {
			t.Errorf("event %+v", e)
		}
	})
}

// S4: a rule that is changed after it was settled shuts no gate and is no event.
func TestS4NoEventForALaterRule(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n := c.nodes["n1"]
		n.proven = provenRule{4, "run 0"}
		n.publish(n.observe())
		n.proven = provenRule{} // a later rule
		o := n.observe()
		o.Now = o.Now.Add(time.Hour)
		n.publish(o)
		n.noteShown(c.life, o)
		synctest.Wait()
		if got := c.commands("add_event"); len(got) != 0 || !n.gateOpens().IsZero() {
			t.Errorf("events %v for a rule that is changed later", got)
		}
	})
}

// S8: since when a standby denies that it streams is kept while it does, and forgotten when it agrees.
func TestS8DeniedSinceIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n := c.nodes["n1"]
		says := func(streaming bool) cluster.Instant {
			c.set("n2", func(p *cluster.PostgresStatus) { p.Streaming = streaming })
			if _, err := n.peers.look(c.life, "n2", statusFresh); err != nil {
				t.Fatal(err)
			}
			return n.observe().DeniedSince["n2"]
		}
		first, again, agreed := says(false), says(false), says(true)
		if first.IsZero() || again != first || !agreed.IsZero() {
			t.Fatalf("denied since %d, then %d, then %d: want one moment, then none", first, again, agreed)
		}
	})
}
