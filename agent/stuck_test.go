package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgquorum/agent/decide"
)

// A leader whose Raft will never take a proposal again ends its agent; guard and Postgres are left as they are (L9).
func TestStuckLeaderEndsItsAgent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		_, ended := c.onDisk(n1)
		c.mu.Lock()
		c.stuck = 3 * fakeHeartbeat
		c.mu.Unlock()
		pass(2 * time.Second)
		if !pending(ended) {
			t.Fatalf("the agent ended while a transfer may be under way: %v", <-ended)
		}
		c.mu.Lock()
		c.stuck++
		c.mu.Unlock()
		pass(time.Second)
		if err := <-ended; !errors.Is(err, ErrRestart) || !strings.Contains(err.Error(), string(decide.ReasonRaftStuck)) {
			t.Errorf("the agent ended with %v", err)
		}
		if c.calls.count("n1 Fence")+c.calls.count("n1 CloseTransport") != 0 {
			t.Errorf("a stuck leader fences nothing: %q", c.calls.all("n1"))
		}
	})
}
