package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// F2: placeholders make PostgreSQL take the allotted number, and a running standby passes them by as no children.
func TestPromoteTakesAllottedTimeline(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	cutForPromotion(t, next, third)
	next.arm(4)
	began := time.Now()
	must(t, next.Promote(within(t), PromoteSpec{Term: 4, Timeline: 5}))
	t.Logf("promoted in %v", time.Since(began))
	next.sql("CREATE TABLE t (x int)") // it takes writes
	if st := next.look(); st.Timeline != 5 || st.Role != "primary" || next.where().Timeline != 5 {
		t.Fatalf("after the promotion: %+v", st)
	}
	must(t, third.Follow(within(t), next.asSource(4), third.me))
	eventually(t, 20*time.Second, "third follows to timeline 5", func() bool { st := third.look(); return st.Streaming && st.Timeline == 5 })

	// It fetched the placeholders below 5 and starts with them; one above it would keep it from starting.
	must(t, third.Stop(within(t), StopFast, time.Minute))
	dir := filepath.Join(third.opt.DataDir, "pg_wal")
	must(t, os.WriteFile(filepath.Join(dir, historyName(6)), []byte(placeholderText), 0o600))
	third.startStandby(next.asSource(4))
	third.awaitStreaming()
	for number, want := range map[cluster.Timeline]bool{3: true, 4: true, 5: true, 6: false} {
		if _, err := os.Stat(filepath.Join(dir, historyName(number))); (err == nil) != want {
			t.Errorf("history file of %d: there %v, want %v", number, err == nil, want)
		}
	}
	must(t, old.Stop(within(t), StopImmediate, 0))
}

// F2: a running standby that gets placeholders streams on, since they are no children of its timeline.
func TestRunningStandbyRejectsPlaceholder(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	c, err := s.ControlData(within(t))
	must(t, err)
	must(t, s.walFiles(c).addPlaceholders(1, 4))
	before, _ := s.postmaster()
	must(t, s.Follow(within(t), nil, s.me)) // it looks for new timelines when streaming ends
	eventually(t, 10*time.Second, "standby has looked at the placeholders", func() bool {
		return strings.Contains(s.log(), "new timeline 3 is not a child of database system timeline 1")
	})
	must(t, s.Follow(within(t), primary.asSource(1), s.me))
	s.awaitStreaming()
	at := primary.flushed()
	eventually(t, 10*time.Second, "standby replays", func() bool { return s.look().Replayed >= at })
	if after, _ := s.postmaster(); !after.same(before) || s.look().Timeline != 1 {
		t.Fatalf("standby did not live on: %+v", s.look())
	}
}

// F2: a number whose history file is there already, or that is not above the node's own, is refused before anything is
// done; U2: without a lease the guard refuses.
func TestPromoteRefused(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	_, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, s.Cut(within(t)))
	if err := s.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}); !errors.Is(err, ErrLeaseRefused) {
		t.Fatalf("without a lease: %v", err)
	}
	s.arm(2)
	if err := s.Promote(within(t), PromoteSpec{Term: 2, Timeline: 1}); !errors.Is(err, ErrWrongTimeline) {
		t.Fatalf("own number: %v", err)
	}
	path := filepath.Join(s.opt.DataDir, "pg_wal", historyName(2))
	must(t, os.WriteFile(path, []byte(placeholderText), 0o600))
	if err := s.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}); !errors.Is(err, ErrWrongTimeline) {
		t.Fatalf("taken number: %v", err)
	}
	if st := s.look(); st.Role != "standby" {
		t.Fatalf("promoted all the same: %+v", st)
	}
}

// F2: if the number differs after the promotion, the node is fenced.
func TestPromoteWrongNumberFences(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	_, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, s.Cut(within(t)))
	s.arm(2)
	// Someone promotes by hand between the check and the order; the server is then on 2 when 3 was allotted.
	must(t, s.guard.Load().Promote(within(t), 2))
	eventually(t, 20*time.Second, "promoted by hand", func() bool { return s.look().Role == "primary" })
	if got, err := s.awaitPromoted(within(t)); err != nil || got != 2 {
		t.Fatalf("timeline %d, %v", got, err)
	}
	if err := s.checkPromoted(within(t), PromoteSpec{Term: 2, Timeline: 3}); !errors.Is(err, ErrWrongTimeline) {
		t.Fatalf("wrong number: %v", err)
	}
	if _, running := s.postmaster(); running {
		t.Fatal("not fenced")
	}
	if _, err := os.Stat(filepath.Join(s.opt.DataDir, standbySignal)); err != nil {
		t.Fatalf("standby.signal: %v", err)
	}
}

// F2: a standby from an old timeline fetches a history file for each number up to its source's, also from one that was
// cloned since and has the newest alone.
func TestPlaceholdersBelowTheOwnTimeline(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	_, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	cutForPromotion(t, next, third)
	next.arm(2)
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 3}))
	must(t, next.Stop(within(t), StopFast, time.Minute))
	must(t, os.Remove(filepath.Join(next.opt.DataDir, "pg_wal", historyName(2)))) // as pg_basebackup leaves it out
	next.startStandby(nil)
	eventually(t, 20*time.Second, "next runs", func() bool { return next.look().State == cluster.PostgresRunning })
	next.arm(3)
	must(t, next.Promote(within(t), PromoteSpec{Term: 3, Timeline: 5}))
	must(t, third.Promise(within(t), 3, third.me))
	must(t, third.Follow(within(t), next.asSource(3), third.me))
	eventually(t, 30*time.Second, "third streams timeline 5", func() bool { st := third.look(); return st.Streaming && st.Timeline == 5 })
}
