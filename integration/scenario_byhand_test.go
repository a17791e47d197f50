//go:build integration

package integration

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// F3: somebody promotes a standby by hand. It acknowledges nothing, since its list asks for confirmations that nobody gives; it
// is stopped, brought back to the cluster's history and streams again. The primary and its clients notice nothing.
func TestPromotedByHand(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 500 * time.Millisecond, HAProxy: 500 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		term := s.MustTerm()
		standby := s.Others(p)[0]
		before := s.LastEvent()
		s.Load.WriteInside(standby)
		s.Fault(func() error {
			return standby.Run(s.Ctx, filepath.Join(lab.PostgresIn, "pg_ctl"), "promote", "-D", standby.Data(), "-W")
		})
		s.Within(settleTime, func() error {
			if s.CountEvents(before, "fenced") == 0 {
				return fmt.Errorf("%s was promoted by hand: want it fenced", standby.Name)
			}
			return nil
		})
		s.Settled()
		if now := s.MustTerm(); s.MustPrimary() != p || now != term {
			s.Errorf("want %s in term %d still, have %s in %d", p.Name, term, s.MustPrimary().Name, now)
		}
	})
}
