package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// L9: a returned holder asks the leader that there is, which looks at it at once; one that does not answer is stood against.
func TestL9AskTheLeaderFirst(t *testing.T) {
	for _, state := range []string{"answers", netDead, netHung} {
		t.Run("leader "+state, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.lead("n2")
				n1, n2 := c.nodes["n1"], c.nodes["n2"]
				n1.keeper.continues(3, n1.Now().Add(700*time.Millisecond))
				if state != "answers" {
					c.net.set("n2", state)
				}
				n1.regain(c.life)
				synctest.Wait()
				campaigned := c.calls.count("n1 Campaign")
				if state != "answers" {
					if campaigned != 1 {
						t.Fatalf("stood for election %d times, want once", campaigned)
					}
					return
				}
				seen, looked := n2.observe().TakeOver.Statuses["n1"]
				if campaigned != 0 || !looked || seen.LeaseTerm != 3 || seen.Lease <= 0 {
					t.Fatalf("stood for election %d times; the leader has seen %+v (%t)", campaigned, seen, looked)
				}
			})
		})
	}
}

// L9: a nudge by anybody but the holder fills no take-over's book.
func TestL9AnOrdinaryNudge(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("n2")
		if !c.nodes["n3"].askLeader(c.life, "n2") {
			t.Fatal("the leader did not answer")
		}
		if got := c.nodes["n2"].observe().TakeOver.Statuses; len(got) != 0 {
			t.Fatalf("looked at %v", got)
		}
	})
}
