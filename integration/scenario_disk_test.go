//go:build integration

package integration

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"
)

// B2: the primary's disk hangs, PGDATA and raft.data_dir alike, while its network and its processes are well: its
// heartbeats would go on for ever. Another node takes over. When the disk works again the agent ends, so that a supervisor
// may start it, which here the scenario is, and the node rejoins.
func TestPrimaryDiskHangs(t *testing.T) {
	Scenario{
		Options: Options{OwnDisks: true},
		Budgets: Budgets{Direct: 8 * time.Second, HAProxy: 8 * time.Second},
	}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(old.FreezeDisk)
		s.NewPrimary(old)
		s.WaitWrites(s.Load.History.Now())
		shown(s, old, false)
		s.must(old.ThawDisk())
		ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
		defer cancel()
		if err := old.Exited(ctx); err == nil || ctx.Err() != nil {
			s.Fatalf("%s: want its agent to end with an error once its disk works again, have %v", old.Name, err)
		}
		s.must(old.LogContains(ctx, "raft transport closed until the agent is started again"))
		s.must(old.LogContains(ctx, "the agent must be started again"))
		s.Within(settleTime, func() error { // what was killed in a write ends when the write does
			if old.PostgresRuns() {
				return fmt.Errorf("%s: a postgres runs after the fence", old.Name)
			}
			return nil
		})
		if _, err := old.Guard(); err != nil {
			s.Errorf("want the guard to outlive its agent: %v", err)
		}
		s.must(old.Start())
		s.Settled()
		if s.MustPrimary() == old {
			s.Errorf("%s: want a standby when it comes back", old.Name)
		}
		shown(s, old, true)
	})
}

var writableLine = regexp.MustCompile(`(?m)^pgquorum_disk_writable\{[^}]*\} (\d)$`)

// shown holds a node's metric of its disk, and its /primary, against what is so.
func shown(s *Stage, h *Host, writable bool) {
	s.Helper()
	if code, err := s.Code(s.Ctx, h, "/primary"); err != nil || code == http.StatusOK {
		s.Errorf("%s: GET /primary is %d, %v", h.Name, code, err)
	}
	code, text, err := s.call(s.Ctx, http.MethodGet, h, "/metrics", nil)
	s.must(err)
	want := "0"
	if writable {
		want = "1"
	}
	if m := writableLine.FindSubmatch(text); code != http.StatusOK || m == nil || string(m[1]) != want {
		s.Errorf("%s: want pgquorum_disk_writable %s, have %q", h.Name, want, m)
	}
}
