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

// F3: a standby that is cut off is promoted by hand, and the primary moves meanwhile. The number that PostgreSQL took by itself
// is not the one that was allotted, so that the node is not taken for one that has followed: its WAL goes, and it streams again.
func TestPromotedByHandWhileCutOff(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: time.Second, HAProxy: time.Second}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		next, alone := s.Others(p)[0], s.Others(p)[1]
		before := s.LastEvent()
		s.must(s.Net.Cut(alone.Name))
		s.must(alone.Run(s.Ctx, filepath.Join(lab.PostgresIn, "pg_ctl"), "promote", "-D", alone.Data(), "-W"))
		s.Within(settleTime, func() error {
			if _, err := alone.Postmaster(); err == nil {
				return fmt.Errorf("%s was promoted by hand: want its postmaster ended", alone.Name)
			}
			return nil
		})
		s.Fault(func() error { return s.Switchover(p, p, next) })
		s.Within(settleTime, func() error { return s.primaryOtherThan(p) })
		s.must(s.Net.Heal(alone.Name))
		s.Settled()
		if s.MustPrimary() != next {
			s.Errorf("want %s as primary, have %s", next.Name, s.MustPrimary().Name)
		}
		if n := s.CountEvents(before, "rewound", "cloned"); n != 1 {
			s.Errorf("want one rewind or clone, of %s, have %d", alone.Name, n)
		}
	})
}
