//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// A switchover can be asked of any node: of the one that has no part in it, of the candidate, of the primary. The old
// primary comes back as a standby without a rewind, and the third node follows without a restart.
func TestSwitchover(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 300 * time.Millisecond, HAProxy: 600 * time.Millisecond}}.Run(t, built(t), func(s *Stage) {
		for _, asked := range []string{"third", "candidate", "primary"} {
			old := s.MustPrimary()
			candidate, third := s.Others(old)[0], s.Others(old)[1]
			postmaster, err := third.Postmaster()
			s.must(err)
			events := s.LastEvent()
			of := map[string]*Host{"third": third, "candidate": candidate, "primary": old}[asked]
			s.Fault(func() error { return s.Switchover(of, old, candidate) })
			s.Settled()
			if p := s.MustPrimary(); p != candidate {
				s.Errorf("asked of the %s: want %s as primary, have %s", asked, candidate.Name, p.Name)
			}
			if n := s.CountEvents(events, "rewind", "clone"); n > 0 {
				s.Errorf("asked of the %s: want a standby without a rewind, have %d rewinds or clones", asked, n)
			}
			if pid, err := third.Postmaster(); err != nil || pid != postmaster {
				s.Errorf("asked of the %s: %s: want postmaster %d still, have %d, %v", asked, third.Name, postmaster, pid, err)
			}
		}
	})
}

// A request that names a leader of former times, or a candidate that is none, is refused and changes nothing.
func TestSwitchoverRefused(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		other := s.Others(p)[0]
		term := s.MustTerm()
		for _, request := range []map[string]string{
			{"leader": other.Name},
			{"leader": p.Name, "candidate": p.Name},
			{"leader": p.Name, "candidate": "n9"},
			{},
		} {
			code, text, err := s.Post(s.Ctx, other, "/switchover", request)
			if err != nil || code == http.StatusOK || text == "" {
				s.Errorf("%v: want a refusal with a reason, have %d %q, %v", request, code, text, err)
			}
		}
		if now := s.MustTerm(); now != term || s.MustPrimary() != p {
			s.Errorf("want %s in term %d still, have %s in %d", p.Name, term, s.MustPrimary().Name, now)
		}
	})
}

// Switchover asks one node to move the primary to another.
func (s *Stage) Switchover(asked, leader, candidate *Host) error {
	code, text, err := s.Post(s.Ctx, asked, "/switchover", map[string]string{"leader": leader.Name, "candidate": candidate.Name})
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("switchover from %s to %s, asked of %s: %d %s", leader.Name, candidate.Name, asked.Name, code, text)
	}
	return err
}
