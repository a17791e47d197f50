//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// F3: nobody leads, and somebody promotes the former primary by hand, from which the others still stream: all of them go with it to a
// timeline that nobody allotted, but bear no name for which it waits, so that it acknowledges nothing (ADR 0036). No promise counts
// any more, the nodes wait and say why. An operator lets that one go on with its data: nothing is lost. The others are cloned: nothing tells that they followed, and were
// not promoted by hand themselves.
func TestFollowedByHand(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 2 * time.Minute, HAProxy: 2 * time.Minute}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		others := s.Others(old)
		before := s.LastEvent()
		s.Fault(func() error {
			return s.each(others, func(h *Host) error { return h.Signal(syscall.SIGSTOP, h.Agent) })
		})
		s.Within(settleTime, func() error {
			n, err := s.scan(s.Ctx, old, "SELECT pg_is_in_recovery()::text || (SELECT count(*) FROM pg_stat_replication)")
			if err == nil && n != "true2" {
				err = fmt.Errorf("%s: want it a standby of which two others stream, have %q", old.Name, n)
			}
			return err
		})
		s.must(old.Signal(syscall.SIGSTOP, old.Agent))
		s.must(old.Run(s.Ctx, filepath.Join(lab.PostgresIn, "pg_ctl"), "promote", "-D", old.Data(), "-W"))
		s.Load.WriteInside(old)
		for _, h := range others {
			s.Within(settleTime, func() error {
				if err := s.Exec(s.Ctx, h, "SELECT 1 / count(*) FROM pg_stat_wal_receiver WHERE received_tli = 2"); err != nil {
					return fmt.Errorf("%s: want it on timeline 2, where %s went by hand: %w", h.Name, old.Name, err)
				}
				return nil
			})
		}
		if s.ackedInside(old) == nil {
			s.Errorf("%s was promoted by hand, and has acknowledged a write", old.Name)
		}
		s.must(s.each(s.Nodes(), func(h *Host) error { return h.Signal(syscall.SIGCONT, h.Agent) }))
		s.Within(settleTime, func() error {
			members, err := s.Members(s.Ctx, old)
			if err == nil && !slices.ContainsFunc(members, func(m Member) bool { return strings.Contains(m.Pgquorum.Phase, "somebody has promoted by hand") }) {
				err = fmt.Errorf("nobody says that somebody has promoted by hand: %+v", members)
			}
			return err
		})
		s.must(s.each(s.Nodes(), func(h *Host) error {
			if err := h.Signal(syscall.SIGTERM, h.Agent); err != nil {
				return err
			}
			return h.Exited(s.Ctx)
		}))
		s.must(old.Run(s.Ctx, s.lab.Bin, "recover", old.File(), "--lost", others[0].Name+","+others[1].Name, "--force"))
		for _, h := range others {
			s.must(os.RemoveAll(filepath.Join(h.Raft(), "raft")))
		}
		s.must(s.each(s.Nodes(), (*Host).Start))
		s.Settled()
		if s.MustPrimary() != old {
			s.Errorf("want %s as primary, have %s", old.Name, s.MustPrimary().Name)
		}
		if rewound, cloned := s.CountEvents(before, "rewound"), s.CountEvents(before, "cloned"); rewound != 0 || cloned != 2 {
			s.Errorf("want both others cloned, have %d rewound and %d cloned", rewound, cloned)
		}
	})
}
