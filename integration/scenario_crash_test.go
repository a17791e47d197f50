//go:build integration

package integration

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The postmaster dies, the agent lives: the guard is its parent and knows at once.
func TestPostmasterKilled(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 300 * time.Millisecond, HAProxy: 600 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		s.Fault(func() error { return p.Signal(syscall.SIGKILL, p.Postmaster) })
		s.Settled()
	})
}

// The primary's host loses power. It comes back by itself when it is started again.
func TestHostCrash(t *testing.T) {
	for _, tt := range crashTimes {
		t.Run(tt.heartbeat.String(), func(t *testing.T) {
			Scenario{Options: Options{Heartbeat: tt.heartbeat}, Budgets: tt.budgets}.Run(t, built(t), func(s *Stage) {
				old := s.MustPrimary()
				s.Fault(old.Crash)
				s.NewPrimary(old)
				s.must(old.Boot())
				s.Settled()
				if s.MustPrimary() == old {
					s.Errorf("%s: want a standby when it comes back", old.Name)
				}
			})
		})
	}
}

// crashTimes are the budgets of whatever is noticed by silence only.
var crashTimes = []struct {
	heartbeat time.Duration
	budgets   Budgets
}{
	{time.Second, Budgets{Direct: 3 * time.Second, HAProxy: 3 * time.Second}},
	{300 * time.Millisecond, Budgets{Direct: 1200 * time.Millisecond, HAProxy: 1200 * time.Millisecond}},
}

// All hosts lose power at once: nothing is lost, and there is one primary again.
func TestAllHostsCrash(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		s.Fault(func() error { return s.each(s.Nodes(), (*Host).Crash) })
		s.must(s.each(s.Nodes(), (*Host).Boot))
		s.Settled()
	})
}

// The new primary is killed too, while the failover to it runs.
func TestKilledDuringFailover(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		first := s.MustPrimary()
		s.Fault(first.Crash)
		second := s.Promoting(first)
		s.must(second.Crash())
		s.must(s.each([]*Host{first, second}, (*Host).Boot))
		s.Settled()
	})
}

// The old primary is killed again while it is rewound: no stuck state, no half-rewound directory in service.
func TestKilledDuringRewind(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Load.WriteInside(old)
		s.Within(settleTime, func() error { return s.ackedInside(old) })
		s.Fault(func() error { return s.Net.Cut(old.Name) })
		s.For(300 * time.Millisecond) // a client inside writes WAL that nobody confirms: this is what must be rewound
		s.must(old.Crash())
		s.NewPrimary(old)
		events := s.LastEvent()
		s.must(old.Boot())
		s.Within(settleTime, func() error { return s.rewinding(old, events) })
		s.must(old.Crash())
		s.must(old.Boot())
		s.Settled()
	})
}

// A standby's trouble is nobody else's: writes go on, and it rejoins.
func TestStandby(t *testing.T) {
	faults := []struct {
		name       string
		begin      func(s *Stage, h *Host) error
		mend       func(s *Stage, h *Host) error
		downBefore time.Duration
	}{
		{"killed", func(_ *Stage, h *Host) error { return h.Crash() }, func(_ *Stage, h *Host) error { return h.Boot() }, 5 * time.Second},
		{"cut", func(s *Stage, h *Host) error { return s.Net.Cut(h.Name) }, func(s *Stage, h *Host) error { return s.Net.Heal(h.Name) }, 5 * time.Second},
		{"stopped", func(_ *Stage, h *Host) error { return h.Signal(syscall.SIGTERM, h.Agent) }, restart, 5 * time.Second},
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			Scenario{Budgets: Budgets{Direct: 100 * time.Millisecond, HAProxy: 100 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
				p := s.MustPrimary()
				term := s.MustTerm()
				standby := s.Others(p)[0]
				s.Fault(func() error { return tt.begin(s, standby) })
				s.WaitWrites(s.Load.History.Now())
				s.For(tt.downBefore)
				s.WaitWrites(s.Load.History.Now())
				s.must(tt.mend(s, standby))
				s.Settled()
				if now := s.MustTerm(); s.MustPrimary() != p || now != term {
					s.Errorf("want %s in term %d still, have %s in %d", p.Name, term, s.MustPrimary().Name, now)
				}
			})
		})
	}
}

// A standby that was away for longer than its slot may keep WAL is cloned anew, beside its old directory, and streams; the
// other standby and the clients notice nothing.
func TestStandbyLeftBehind(t *testing.T) {
	few := Options{Parameters: map[string]string{"max_slot_wal_keep_size": "16MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}}
	Scenario{Options: few}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		events := s.LastEvent()
		standby := s.Others(p)[0]
		s.must(standby.Signal(syscall.SIGTERM, standby.Agent))
		s.must(standby.Exited(s.Ctx))
		for range 12 {
			s.must(s.Exec(s.Ctx, p, "SELECT pg_logical_emit_message(false, '', 'x'), pg_switch_wal()"))
			s.must(s.Exec(s.Ctx, p, "CHECKPOINT"))
		}
		s.must(standby.Start())
		s.Within(settleTime, func() error {
			if n := s.CountEvents(events, "cloned"); n != 1 {
				return fmt.Errorf("want %s cloned once, have %d events", standby.Name, n)
			}
			return nil
		})
		s.Settled()
		if kept, err := filepath.Glob(standby.Data() + ".replaced-*"); len(kept) != 1 {
			s.Errorf("want the old directory of %s kept, have %v, %v", standby.Name, kept, err)
		}
		if now := s.MustPrimary(); now != p {
			s.Errorf("want %s primary still, have %s", p.Name, now.Name)
		}
	})
}

// restart waits for the end of an agent that was told to stop, and starts it again.
func restart(s *Stage, h *Host) error {
	if err := h.Exited(s.Ctx); err != nil {
		return err
	}
	return h.Start()
}
