package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgquorum/agent/decide"
)

// A cluster that waits for a node, perhaps for days, fills no log: what is asked again, and answered as before, is told once.
func TestWaitingIsLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		var log bytes.Buffer
		c.failed()
		n2, n3 := c.nodes["n2"], c.nodes["n3"]
		n2.log = slog.New(slog.NewTextHandler(&log, nil))
		n3.log = n2.log
		asks := decide.Decision{Action: decide.AskPromises, Reason: decide.ReasonNoCandidate, Detail: "waiting for n1", Term: 4}
		for range 10 {
			n2.note(c.life, n2.observe(), asks)
			if _, err := askPromise(c); err != nil {
				t.Fatal(err)
			}
			waits := asks
			waits.Action = decide.Wait
			n2.note(c.life, n2.observe(), waits)
			pass(time.Second)
		}
		for what, want := range map[string]int{"msg=promised": 1, "msg=\"action chosen\"": 1, "waiting for n1": 1} {
			if got := strings.Count(log.String(), what); got != want {
				t.Errorf("%q is logged %d times, want %d:\n%s", what, got, want, &log)
			}
		}
		asks.Detail = "waiting for n1 and n3"
		n2.note(c.life, n2.observe(), asks)
		if !strings.Contains(log.String(), "n1 and n3") {
			t.Errorf("nothing says that another is waited for:\n%s", &log)
		}
	})
}
