//go:build integration

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// No node reaches another for longer than a lease, so that nobody can take over meanwhile (U6): the primary is frozen,
// goes on in a new term with the same postmaster and the same sessions, and nothing is recovered or rewound. The clients
// reach the primary all the time, so their outage is the cluster's own.
func TestHiccup(t *testing.T) {
	const ttl = 800 * time.Millisecond
	hiccups := []struct {
		name  string
		lasts time.Duration
	}{
		{"1.2 leases", ttl * 12 / 10},
		{"3 s", 3 * time.Second},
		{"6 s", 6 * time.Second},
	}
	for _, tt := range hiccups {
		t.Run(tt.name, func(t *testing.T) {
			budget := tt.lasts + 2500*time.Millisecond // an election takes up to two heartbeat timeouts
			Scenario{Budgets: Budgets{Direct: budget, HAProxy: budget}}.Run(t, built(t), func(s *Stage) {
				p := s.MustPrimary()
				term := s.MustTerm()
				postmaster, err := p.Postmaster()
				s.must(err)
				session := s.openSession(p)
				s.Fault(func() error { return s.apart(p, true) })
				s.For(tt.lasts)
				s.must(s.each(s.Nodes(), func(h *Host) error { return s.Net.Heal(h.Name) }))
				s.Settled()
				s.must(p.LogContains(s.Ctx, "type=thawed"))
				if pid, err := p.Postmaster(); err != nil || pid != postmaster || s.MustPrimary() != p {
					s.Errorf("%s: want postmaster %d still, have %d, %v", p.Name, postmaster, pid, err)
				}
				if now := s.MustTerm(); now == term {
					s.Errorf("want a new term after a lease that ran out, have %d still", now)
				}
				s.sameSession(session)
			})
		})
	}
}

// The primary alone is cut off until another has taken over: what was frozen is ended, and the node follows.
func TestHiccupTooLong(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 4 * time.Second, HAProxy: 4 * time.Second}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Load.WriteInside(old)
		s.Within(settleTime, func() error { return s.ackedInside(old) })
		s.Fault(func() error { return s.apart(old, false) })
		s.must(old.LogContains(s.Ctx, "guard event", "kind=frozen"))
		frozen := s.Load.History.Now()
		s.NewPrimary(old)
		s.must(s.Net.Heal(old.Name))
		healed := s.Load.History.Now()
		s.Settled()
		if s.MustPrimary() == old {
			s.Errorf("%s: want a standby when it is healed", old.Name)
		}
		for _, w := range AckedBy(s.Load.History.Writes(), old.Name, frozen) {
			if w.Start < healed {
				s.Errorf("U6: %s acknowledged write %d, begun %s after it was frozen", old.Name, w.ID, w.Start-frozen)
			}
		}
	})
}

// apart cuts the primary off from the other nodes, or all nodes from each other; the clients still reach everybody.
func (s *Stage) apart(p *Host, all bool) error {
	nodes := s.Nodes()
	for i, a := range nodes {
		for _, b := range nodes[i+1:] {
			if !all && a != p && b != p {
				continue
			}
			if err := s.Net.CutBetween(a.Name, b.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// openSession begins a client's session on a node, with something in it that only this session has.
func (s *Stage) openSession(h *Host) *pgx.Conn {
	s.Helper()
	conn, err := connect(s.Ctx, s.client, dsn("app", "", h.Addr, 5432))
	s.must(err)
	s.Cleanup(func() { _ = conn.Close(s.Ctx) })
	_, err = conn.Exec(s.Ctx, "CREATE TEMP TABLE mine AS SELECT pg_backend_pid() AS pid")
	s.must(err)
	return conn
}

// sameSession makes sure that a session is the one that was opened, and writes.
func (s *Stage) sameSession(conn *pgx.Conn) {
	s.Helper()
	var same bool
	err := conn.QueryRow(s.Ctx, "SELECT pid = pg_backend_pid() FROM mine").Scan(&same)
	if err == nil && !same {
		err = fmt.Errorf("it is another backend's")
	}
	if err == nil {
		_, err = conn.Exec(s.Ctx, "CREATE TABLE IF NOT EXISTS survived (pid int)")
	}
	if err != nil {
		s.Errorf("session over the hiccup: %v", err)
	}
}
