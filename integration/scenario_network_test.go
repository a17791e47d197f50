//go:build integration

package integration

import (
	"testing"
	"time"
)

// The primary's network is cut while a client on its own host keeps writing to it. The old primary acknowledges nothing
// after its lease; healed, it rewinds and streams without a person.
func TestPrimaryCut(t *testing.T) {
	for _, tt := range crashTimes {
		t.Run(tt.heartbeat.String(), func(t *testing.T) {
			Scenario{Options: Options{Heartbeat: tt.heartbeat}, Budgets: tt.budgets}.Run(t, built(t), func(s *Stage) {
				old := s.MustPrimary()
				s.Load.WriteInside(old)
				s.Within(settleTime, func() error { return s.ackedInside(old) })
				s.Fault(func() error { return s.Net.Cut(old.Name) })
				cut := s.Load.History.Now()
				s.NewPrimary(old)
				s.For(2 * tt.heartbeat)
				s.must(s.Net.Heal(old.Name))
				healed := s.Load.History.Now()
				s.Settled()
				if s.MustPrimary() == old {
					s.Errorf("%s: want a standby when it is healed", old.Name)
				}
				for _, w := range AckedBy(s.Load.History.Writes(), old.Name, cut+tt.heartbeat*8/10) {
					if w.Start < healed {
						s.Errorf("L5: %s acknowledged write %d, begun %s after the cut", old.Name, w.ID, w.Start-cut)
					}
				}
			})
		})
	}
}

// The primary and one of the two others cannot hear each other; both hear the third. Nothing needs to change.
func TestCutFromOneOther(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 100 * time.Millisecond, HAProxy: 100 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		term := s.MustTerm()
		other := s.Others(p)[0]
		s.Fault(func() error { return s.Net.CutBetween(p.Name, other.Name) })
		s.For(10 * time.Second)
		if now := s.MustTerm(); now != term || s.MustPrimary() != p {
			s.Errorf("want %s in term %d still, have %s in %d", p.Name, term, s.MustPrimary().Name, now)
		}
		s.must(s.Net.Heal(other.Name))
		s.Settled()
	})
}

// The primary's network works in one direction only. The cluster settles within 10 s, with one change of term at most,
// and stays settled; healed, it is whole again.
func TestOneWayCut(t *testing.T) {
	cuts := []struct {
		name string
		cut  func(n *Network, port string) error
	}{
		{"in", (*Network).CutIn},
		{"out", (*Network).CutOut},
	}
	for _, tt := range cuts {
		t.Run(tt.name, func(t *testing.T) {
			Scenario{Budgets: Budgets{Direct: 3 * time.Second, HAProxy: 3 * time.Second}}.Run(t, built(t), func(s *Stage) {
				old := s.MustPrimary()
				term := s.MustTerm()
				s.Fault(func() error { return tt.cut(s.Net, old.Name) })
				s.Within(10*time.Second, func() error { return s.Converged(s.Ctx, s.Others(old)...) })
				s.For(5 * time.Second)
				if now := s.MustTerm(); now > term+1 {
					s.Errorf("want one change of term at most, from %d, have %d", term, now)
				}
				s.must(s.Net.Heal(old.Name))
				s.Settled()
			})
		})
	}
}

// Two of three nodes are lost: the last one serves reads, through HAProxy too, and takes no writes. When they come back
// nothing is lost.
func TestQuorumLost(t *testing.T) {
	lost := []struct {
		name    string
		primary bool // the primary is the one that stays
	}{
		{"the primary stays", true},
		{"a standby stays", false},
	}
	for _, tt := range lost {
		t.Run(tt.name, func(t *testing.T) {
			Scenario{}.Run(t, built(t), func(s *Stage) {
				last := s.MustPrimary()
				if !tt.primary {
					last = s.Others(last)[0]
				}
				s.Fault(func() error { return s.each(s.Others(last), (*Host).Crash) })
				s.Within(settleTime, func() error { return s.readOnly(last) })
				fenced := s.Load.History.Now()
				s.For(3 * time.Second)
				s.must(s.readOnly(last))
				if acked := AckedBy(s.Load.History.Writes(), last.Name, fenced); len(acked) > 0 {
					s.Errorf("%s acknowledged %d writes without a quorum", last.Name, len(acked))
				}
				s.must(s.each(s.Others(last), (*Host).Boot))
				s.Settled()
			})
		})
	}
}
