package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// A node whose promotion failed as often as it is tried is no candidate for a while, longer each time; each term of the
// key has its own tries.
func TestFailedPromotion(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		term := n2.observe().View.Key.Term
		fail := func() { n2.tried(c.life, decide.Decision{Action: decide.Promote, Term: term}, errors.New("no room")) }
		fail()
		if s := n2.observe().Local; s.PromoteAfter != 0 {
			t.Errorf("after one failure: no candidate for %v", s.PromoteAfter)
		}
		fail()
		s := n2.observe().Local
		if s.PromoteAfter.Round(time.Millisecond) != decide.PromotePause || !strings.Contains(s.CanPromote, "its promotion failed: it is no candidate for 2s more") {
			t.Errorf("no candidate for %v: %q", s.PromoteAfter, s.CanPromote)
		}
		if got := n2.observe().Failed(decide.Promote); got != decide.MaxStarts {
			t.Errorf("%d failures in its term", got)
		}
		c.edit(func(v *cluster.View) { v.Key.Term++ })
		if got := n2.observe().Failed(decide.Promote); got != 0 {
			t.Errorf("%d failures in the next term", got)
		}
		n2.tried(c.life, decide.Decision{Action: decide.Promote, Term: term + 1}, errors.New("no room"))
		if got := n2.observe().Failed(decide.Promote); got != 1 {
			t.Errorf("%d failures in the next term, after one", got)
		}
		if o := n2.observe(); o.Local.PromoteAfter != 0 || o.Retry[decide.Promote].Sub(o.Now).Round(time.Millisecond) != decide.FirstPause {
			t.Errorf("after the first failure of the next term: no candidate for %v, the next try in %v", o.Local.PromoteAfter, o.Retry[decide.Promote].Sub(o.Now))
		}
		n2.tried(c.life, decide.Decision{Action: decide.Promote, Term: term + 1}, errors.New("no room"))
		<-time.After(decide.PromotePause)
		if s := n2.observe().Local; s.PromoteAfter != 0 {
			t.Errorf("after %v: no candidate for %v", decide.PromotePause, s.PromoteAfter)
		}
		for range 8 {
			fail()
		}
		if s := n2.observe().Local; s.PromoteAfter.Round(time.Millisecond) != decide.LongestPause {
			t.Errorf("after ten failures: no candidate for %v, want %v", s.PromoteAfter, decide.LongestPause)
		}
		n2.tried(c.life, decide.Decision{Action: decide.Promote, Term: term}, nil)
		if s := n2.observe().Local; s.PromoteAfter != 0 {
			t.Errorf("after a promotion: no candidate for %v", s.PromoteAfter)
		}
	})
}
