//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// stopped ends a host's agent in good order: it hands over, and stops Postgres and the guard.
func stopped(s *Stage, h *Host) {
	s.Helper()
	s.must(h.Signal(syscall.SIGTERM, h.Agent))
	ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
	defer cancel()
	s.must(h.Exited(ctx))
}

// inode tells whether a directory is the same one still.
func inode(s *Stage, path string) uint64 {
	s.Helper()
	info, err := os.Stat(path)
	s.must(err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// identity is PGDATA/pgquorum.id as it stands.
func identity(s *Stage, h *Host) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(h.Data(), "pgquorum.id"))
	s.must(err)
	return string(text)
}

// rejoins starts a host whose Raft store is gone, and holds what comes of it: a member again, on the same directory, with no
// copy made. newLife says whether the data must go on as another incarnation, since its promises are lost.
func rejoins(s *Stage, h *Host, newLife bool) {
	s.Helper()
	since, dir, id := s.LastEvent(), inode(s, h.Data()), identity(s, h)
	s.must(h.Start())
	s.must(h.LogContains(s.Ctx, "not a member yet", "taken in again"))
	s.Settled()
	if n := s.CountEvents(since, "clone", "cloned"); n != 0 || inode(s, h.Data()) != dir {
		s.Errorf("%s: its data was copied again: %d events, directory %d before, %d now", h.Name, n, dir, inode(s, h.Data()))
	}
	if n := s.CountEvents(since, "node_readmitted"); n != 1 {
		s.Errorf("%s: taken in %d times", h.Name, n)
	}
	if now := identity(s, h); (now != id) != newLife {
		s.Errorf("%s: want another incarnation: %t; had %s, has %s", h.Name, newLife, id, now)
	}
}

// A standby loses raft.data_dir, and with it its votes, its log and its promises. It comes back as a new member, on the data
// that it has, as a new life.
func TestStandbyLosesRaftStore(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: time.Second, HAProxy: time.Second}}.Run(t, built(t), func(s *Stage) {
		h := s.Others(s.MustPrimary())[0]
		s.Fault(func() error { return h.Signal(syscall.SIGTERM, h.Agent) })
		s.must(h.Exited(s.Ctx))
		s.must(os.RemoveAll(h.Raft()))
		rejoins(s, h, true)
	})
}

// The primary's host dies and comes back without raft.data_dir: another has taken over, and then takes it in.
func TestPrimaryLosesRaftStore(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 5 * time.Second, HAProxy: 5 * time.Second}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		s.Fault(old.Crash)
		s.must(os.RemoveAll(old.Raft()))
		s.NewPrimary(old)
		s.WaitWrites(s.Load.History.Now())
		s.must(s.Net.Heal(old.Name))
		rejoins(s, old, true)
	})
}

// A page in the middle of a standby's Raft log is overwritten. The agent finds it before Raft does, sets the store aside, and
// joins anew; the promises are where they were, so the life goes on.
func TestDamagedRaftStore(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: time.Second, HAProxy: time.Second}}.Run(t, built(t), func(s *Stage) {
		h := s.Others(s.MustPrimary())[0]
		s.Fault(func() error { return h.Signal(syscall.SIGTERM, h.Agent) })
		s.must(h.Exited(s.Ctx))
		s.must(spoil(filepath.Join(h.Raft(), "raft", "raft.db")))
		rejoins(s, h, false)
		if kept, err := filepath.Glob(filepath.Join(h.Raft(), "raft.damaged-*", "raft.db")); err != nil || len(kept) != 1 {
			s.Errorf("%s: want the damaged store kept, have %v, %v", h.Name, kept, err)
		}
		s.must(h.LogContains(s.Ctx, "raft store is damaged"))
	})
}

// spoil overwrites every page but bbolt's two meta pages.
func spoil(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	noise := make([]byte, info.Size()-8192)
	for i := range noise {
		noise[i] = byte(i*7 + 13)
	}
	if _, err := f.WriteAt(noise, 8192); err != nil {
		return fmt.Errorf("spoil %s: %w", path, err)
	}
	return nil
}

// Two of three hosts are destroyed, one after the other: what is acknowledged in between is on the third alone. An operator
// lets it go on: nothing acknowledged is lost, and the two come back on empty disks as new members.
func TestQuorumLostForGood(t *testing.T) {
	Scenario{Budgets: Budgets{Direct: 2 * time.Minute, HAProxy: 2 * time.Minute}}.Run(t, built(t), func(s *Stage) {
		old := s.MustPrimary()
		first, last := s.Others(old)[0], s.Others(old)[1]
		term := s.MustTerm()
		s.must(first.Crash())
		s.WaitWrites(s.Load.History.Now())
		s.Fault(old.Crash)
		for _, h := range []*Host{first, old} {
			s.must(os.RemoveAll(h.Raft()))
			s.must(os.RemoveAll(h.Data()))
		}
		lost := first.Name + "," + old.Name
		if err := last.Run(s.Ctx, s.lab.Bin, "recover", last.File(), "--lost", lost, "--force"); err == nil {
			s.Fatalf("%s: recovered beside its running agent", last.Name)
		}
		before := shownCluster(s, last)
		stopped(s, last)
		s.must(last.Run(s.Ctx, s.lab.Bin, "recover", last.File(), "--dry-run"))
		if err := last.Run(s.Ctx, s.lab.Bin, "recover", last.File(), "--lost", first.Name, "--force"); err == nil {
			s.Fatalf("%s: recovered although not all that it gives up were named", last.Name)
		}
		if kept, err := filepath.Glob(filepath.Join(last.Raft(), "raft.before-recover-*")); err != nil || len(kept) != 0 {
			s.Fatalf("%s: want nothing done so far, have %v, %v", last.Name, kept, err)
		}
		s.must(last.Run(s.Ctx, s.lab.Bin, "recover", last.File(), "--lost", lost, "--force"))
		s.must(last.Start())
		if p := s.NewPrimary(old); p != last || s.MustTerm() <= term+1 {
			s.Fatalf("want %s as primary of a term far above %d, have %s in %d", last.Name, term, p.Name, s.MustTerm())
		}
		s.WaitWrites(s.Load.History.Now())
		if s.CountEvents(0, "recovered") != 1 {
			s.Errorf("want one event of the recovery")
		}
		for _, h := range []*Host{first, old} {
			s.must(h.Boot())
		}
		s.Settled()
		if after := shownCluster(s, first); after == before || after == "" || after != shownCluster(s, last) {
			s.Errorf("cluster id %q before, %q and %q after", before, after, shownCluster(s, last))
		}
	})
}

// shownCluster is the cluster id that a node's API shows.
func shownCluster(s *Stage, h *Host) string {
	s.Helper()
	status, err := s.Status(s.Ctx, h)
	s.must(err)
	return status.Pgquorum.ClusterID
}
