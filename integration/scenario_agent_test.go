//go:build integration

package integration

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// pauseTime is how long an agent is stopped: a minute in full runs, long past every timeout anyway.
func pauseTime() time.Duration {
	if os.Getenv("PGQUORUM_FULL") == "1" {
		return time.Minute
	}
	return 15 * time.Second
}

// The agent is stopped (SIGSTOP), alone or with its guard, and goes on much later. Alone: the guard fences. With its
// guard: nobody fences in time, but no commit can be confirmed any more. In both cases not one commit is acknowledged
// that is not on the final primary, which the checks of every scenario see.
func TestAgentPaused(t *testing.T) {
	pauses := []struct {
		name string
		who  func(h *Host) []func() (int, error)
	}{
		{"agent", func(h *Host) []func() (int, error) { return []func() (int, error){h.Agent} }},
		{"agent and guard", func(h *Host) []func() (int, error) { return []func() (int, error){h.Agent, h.Guard} }},
	}
	for _, tt := range pauses {
		t.Run(tt.name, func(t *testing.T) {
			Scenario{Budgets: Budgets{Direct: 3 * time.Second, HAProxy: 3 * time.Second}}.Run(t, built(t), func(s *Stage) {
				old := s.MustPrimary()
				s.Load.WriteInside(old)
				s.Within(settleTime, func() error { return s.ackedInside(old) })
				s.Fault(func() error { return old.Signal(syscall.SIGSTOP, tt.who(old)...) })
				began := s.Load.History.Now()
				s.NewPrimary(old)
				s.For(pauseTime() - (s.Load.History.Now() - began))
				s.must(old.Signal(syscall.SIGCONT, tt.who(old)...))
				s.Settled()
			})
		})
	}
}

// The agent is killed and back at once. Where the lease held (L9: the term is the same), Postgres never noticed; where it
// did not, it is as if the host had crashed.
func TestAgentRestarted(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 100 * time.Millisecond, HAProxy: 600 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		term := s.MustTerm()
		postmaster, err := p.Postmaster()
		s.must(err)
		s.Fault(func() error {
			if err := p.Signal(syscall.SIGKILL, p.Agent); err != nil {
				return err
			}
			_ = p.Exited(s.Ctx) // it was killed: the error is what was asked for
			return p.Start()
		})
		s.Settled()
		if now := s.MustTerm(); now != term {
			s.Logf("the lease did not hold: term %d, then %d", term, now)
			return
		}
		if pid, err := p.Postmaster(); err != nil || pid != postmaster || s.MustPrimary() != p {
			s.Errorf("%s held its lease: want postmaster %d still, have %d, %v", p.Name, postmaster, pid, err)
		}
	})
}

// The agent of a standby is killed and back at once on a host that nobody reaches, while the other standby's host is gone. It knows
// of no other node then. What its PostgreSQL keeps and asks for stays as it was: the slots with the WAL of who is away, and the
// list, by which a promotion by hand would acknowledge nothing.
func TestAgentRestartedWhileCutOff(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		alone, gone := s.Others(p)[0], s.Others(p)[1]
		s.must(gone.Crash())
		for _, h := range []*Host{p, gone} {
			s.must(s.Net.CutBetween(alone.Name, h.Name))
		}
		const kept = `SELECT current_setting('synchronous_standby_names') || ' ' ||
			coalesce((SELECT string_agg(slot_name || ' ' || coalesce(restart_lsn::text, 'none'), ', ' ORDER BY slot_name) FROM pg_replication_slots), 'no slots')`
		before, err := s.scan(s.Ctx, alone, kept)
		s.must(err)
		s.must(alone.Signal(syscall.SIGKILL, alone.Agent))
		_ = alone.Exited(s.Ctx) // it was killed: the error is what was asked for
		s.must(alone.Start())
		s.Within(settleTime, func() error {
			_, err := s.Status(s.Ctx, alone)
			return err
		})
		s.For(5 * time.Second) // some rounds of its upkeep
		if now, err := s.scan(s.Ctx, alone, kept); err != nil || now != before {
			s.Errorf("%s: its agent was restarted: want list and slots as before, %q; have %q, %v", alone.Name, before, now, err)
		}
		s.must(s.Net.Heal(alone.Name))
		s.must(gone.Boot())
		s.Settled()
	})
}

// The agent is killed and stays away: the guard fences when the lease ends, and another node takes over.
func TestAgentKilled(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 3 * time.Second, HAProxy: 3 * time.Second}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(func() error { return old.Signal(syscall.SIGKILL, old.Agent) })
		_ = old.Exited(s.Ctx)
		s.NewPrimary(old)
		s.must(old.Start())
		s.Settled()
	})
}

// SIGTERM hands over first, then stops Postgres and the guard.
func TestAgentTerminated(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 300 * time.Millisecond, HAProxy: 600 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(func() error { return old.Signal(syscall.SIGTERM, old.Agent) })
		s.must(old.Exited(s.Ctx))
		s.Within(5*time.Second, func() error {
			pids, err := pidsOf(old.cgroup)
			if err == nil && len(pids) > 0 {
				err = fmt.Errorf("%s: want nothing left after SIGTERM, have %v", old.Name, pids)
			}
			return err
		})
		s.NewPrimary(old)
		s.must(old.Start())
		s.Settled()
	})
}
