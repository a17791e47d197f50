//go:build integration

package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// Raft leadership goes elsewhere while Postgres is well: the drill that SIGUSR2 asks for. The primary stays, in the same
// term and the same postmaster, and leadership comes back to it (K3): an election is not a failover.
func TestLeadershipMoved(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 100 * time.Millisecond, HAProxy: 100 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		term := s.MustTerm()
		postmaster, err := p.Postmaster()
		s.must(err)
		s.Fault(func() error { return p.Signal(syscall.SIGUSR2, p.Agent) })
		s.must(p.LogContains(s.Ctx, "drill: leadership is given away", "error=<nil>"))
		s.Within(settleTime, func() error {
			status, err := s.Status(s.Ctx, p)
			if err == nil && status.Pgquorum.Raft.State != "leader" {
				err = fmt.Errorf("%s: want raft leadership back, it is %s", p.Name, status.Pgquorum.Raft.State)
			}
			return err
		})
		s.Settled()
		if now := s.MustTerm(); now != term {
			s.Errorf("want term %d still, have %d", term, now)
		}
		if pid, err := p.Postmaster(); err != nil || pid != postmaster || s.MustPrimary() != p {
			s.Errorf("%s: want postmaster %d still, have %d, %v", p.Name, postmaster, pid, err)
		}
	})
}
