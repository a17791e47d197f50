//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// onSmallDisks are hosts whose disks are soon full: PostgreSQL keeps little WAL, and takes new segments often.
var onSmallDisks = Options{OwnDisks: true, DiskSize: 1 << 30, Parameters: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB"}}

// B2: the disk of the primary alone is full, WAL, data and raft.data_dir alike. The primary moves once, to a node that has
// room, and stays there, shown without a break (S4); with room again the former primary rejoins.
func TestPrimaryDiskFull(t *testing.T) {
	Scenario{Options: onSmallDisks}.Run(t, built(t), func(s *Stage) {
		old, term := s.MustPrimary(), s.MustTerm()
		s.Fault(old.FillDisk)
		s.writesUntil(func() error { return s.primaryOtherThan(old) }, old)
		moved, now := s.MustPrimary(), s.MustTerm()
		s.Throughout(20*time.Second, func() error {
			p, err := s.Primary(s.Ctx)
			if err == nil && p != moved {
				err = fmt.Errorf("the primary has moved from %s to %s", moved.Name, p.Name)
			}
			return err
		})
		s.WaitWrites(s.Load.History.Now())
		s.alarmed(old, "full")
		if later := s.MustTerm(); later != now || now > term+2 {
			s.Errorf("want one move: term %d, then %d on %s, have %d twenty seconds later", term, now, moved.Name, later)
		}
		s.must(old.FreeDisk())
		s.Settled()
		s.alarmed(old, "")
	})
}

// B2: the disks of all three are full. Nobody serves, which no failover could help; terms do not grow with time. With
// room again the cluster is whole by itself.
func TestAllDisksFull(t *testing.T) {
	Scenario{Options: onSmallDisks}.Run(t, built(t), func(s *Stage) {
		term := s.MustTerm()
		primary := s.MustPrimary()
		s.Fault(func() error {
			var errs []error
			for _, h := range append(s.Others(primary), primary) {
				errs = append(errs, h.FillDisk())
			}
			return errors.Join(errs...)
		})
		s.writesUntil(func() error { return s.down(primary) }, primary)
		s.For(10 * time.Second)
		before := s.highestTerm()
		s.For(30 * time.Second)
		after := s.highestTerm()
		s.Logf("term %d before the disks were full, %d once they were, %d thirty seconds later", term, before, after)
		if before > term+4 || after > before+1 {
			s.Errorf("want the term to stay, have %d, %d, %d", term, before, after)
		}
		for _, h := range s.Nodes() {
			s.must(h.FreeDisk())
		}
		s.Settled()
		for _, h := range s.Nodes() {
			s.alarmed(h, "")
		}
	})
}

// B2: the primary's file system becomes read-only. Another node takes over; the disk is repaired, and the node rejoins.
func TestPrimaryDiskReadOnly(t *testing.T) {
	Scenario{Options: Options{OwnDisks: true}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(old.BreakDisk)
		s.NewPrimary(old)
		s.WaitWrites(s.Load.History.Now())
		s.alarmed(old, "read_only")
		s.must(old.Crash())
		s.must(old.RepairDisk())
		s.must(old.Boot())
		s.Settled()
		s.alarmed(old, "")
	})
}

// B2: PGDATA is on a device of its own, and only that one hangs. Raft could go on, but no commit does.
func TestPrimaryDataDiskHangs(t *testing.T) {
	Scenario{Options: Options{OwnDisks: true, RaftApart: true}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(old.FreezeDisk)
		s.NewPrimary(old)
		s.WaitWrites(s.Load.History.Now())
		s.alarmed(old, "hung")
		s.must(old.ThawDisk())
		ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
		defer cancel()
		if err := old.Exited(ctx); err == nil || ctx.Err() != nil {
			s.Fatalf("%s: want its agent to end with an error once its disk works again, have %v", old.Name, err)
		}
		s.Within(settleTime, func() error {
			if old.PostgresRuns() {
				return fmt.Errorf("%s: a postgres runs after the fence", old.Name)
			}
			return nil
		})
		s.must(old.Start())
		s.Settled()
		s.alarmed(old, "")
	})
}

// writesUntil makes a host's Postgres take segments of WAL until f is content.
func (s *Stage) writesUntil(f func() error, h *Host) {
	s.Helper()
	s.Within(90*time.Second, func() error {
		err := f()
		if err != nil {
			err = errors.Join(err, s.Exec(s.Ctx, h, "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)), pg_switch_wal()"))
		}
		return err
	})
}

func (s *Stage) primaryOtherThan(old *Host) error {
	p, err := s.Primary(s.Ctx)
	if err == nil && p == old {
		err = fmt.Errorf("%s is still the primary", old.Name)
	}
	return err
}

// down says whether a host does not serve.
func (s *Stage) down(h *Host) error {
	if code, err := s.Code(s.Ctx, h, "/primary"); err == nil && code == http.StatusOK {
		return fmt.Errorf("%s serves", h.Name)
	}
	return nil
}

// highestTerm is the voting term as the node that knows most has it.
func (s *Stage) highestTerm() (top uint64) {
	s.Helper()
	for _, h := range s.Nodes() {
		if status, err := s.Status(s.Ctx, h); err == nil {
			top = max(top, status.Pgquorum.Term)
		}
	}
	return top
}

// alarmed waits for a node to show the alarm of the disk of its WAL, in its metrics; empty: none of what needs an answer.
func (s *Stage) alarmed(h *Host, kind string) {
	s.Helper()
	s.Within(settleTime, func() error {
		code, text, err := s.call(s.Ctx, http.MethodGet, h, "/metrics", nil)
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("%s: GET /metrics is %d: %w", h.Name, code, err)
		}
		var have []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, `pgquorum_disk_alarm{disk="wal"`) && strings.HasSuffix(line, "} 1\n") && !strings.Contains(line, `kind="low"`) {
				have = append(have, line)
			}
		}
		if kind == "" && len(have) == 0 || kind != "" && len(have) == 1 && strings.Contains(have[0], `kind="`+kind+`"`) {
			return nil
		}
		return fmt.Errorf("%s: want the alarm %q, have %q", h.Name, kind, have)
	})
}
