package pgctl

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgquorum/cluster"
)

// V3: the end of WAL that is computed from the files is the primary's own, whatever the lengths of the records, over
// pages, segments and switches.
func TestWALEndMatchesFlushLSN(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	random := rand.New(rand.NewPCG(1, 2))
	c, err := n.ControlData(within(t))
	must(t, err)
	w, h := n.walFiles(c), history{tli: 1}
	from := c.Checkpoint
	conn, err := n.superuserConn(within(t))
	must(t, err)
	t.Cleanup(func() { closeConn(t.Context(), conn) })
	ask := func(sql string, args ...any) (lsn cluster.LSN) {
		var text string
		must(t, conn.QueryRow(within(t), sql, args...).Scan(&text))
		lsn, err := cluster.ParseLSN(text)
		must(t, err)
		return lsn
	}
	compared, borders := 0, 0
	for range 400 {
		length := random.IntN([]int{8, 200, 9000, 40000}[random.IntN(4)])
		ask("SELECT pg_logical_emit_message(true, 'x', repeat('y', $1))::text", length)
		if random.IntN(10) == 0 {
			ask("SELECT pg_switch_wal()::text")
		}
		flushed, inserted := ask("SELECT pg_current_wal_flush_lsn()::text"), ask("SELECT pg_current_wal_insert_lsn()::text")
		end, err := n.walEnd(within(t), w, h, from)
		must(t, err)
		if ask("SELECT pg_current_wal_insert_lsn()::text") != inserted {
			continue // something else wrote meanwhile
		}
		compared++
		// Inserted but not flushed WAL may or may not be in the file.
		if end < flushed || end > inserted {
			t.Fatalf("from %v: end %v, server flushed %v and inserted %v", from, end, flushed, inserted)
		}
		if uint64(end)%w.page == 0 {
			borders++
		}
		if random.IntN(3) == 0 {
			from = end
		}
	}
	if compared < 300 {
		t.Fatalf("only %d comparisons", compared)
	}
	t.Logf("%d compared, %d at a page's border", compared, borders)
}

// V3: lines that a user has smuggled into pg_waldump's output by the prefix of a message are not taken for records.
func TestWALEndIgnoresForgedLines(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	c, err := n.ControlData(within(t))
	must(t, err)
	forged := "x\nrmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: F/01500718, prev %s, desc: NOOP\n"
	at := n.flushed()
	n.sql("SELECT pg_logical_emit_message(true, $1, 'y')", fmt.Sprintf(forged, at))
	end, err := n.walEnd(within(t), n.walFiles(c), history{tli: 1}, c.Checkpoint)
	must(t, err)
	if flushed := n.flushed(); end <= at || end > flushed {
		t.Fatalf("end %v, want it after %v and not after %v", end, at, flushed)
	}
}

// V3: a stopped primary's position is where it stopped, in good order or not, and the shutdown checkpoint's end is it.
func TestPositionOfStoppedPrimary(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	for _, mode := range []StopMode{StopFast, StopImmediate, StopFast} {
		running := n.flushed()
		if pos := n.where(); pos.Timeline != 1 || pos.LSN < running {
			t.Fatalf("running: position %v, flushed %v", pos, running)
		}
		must(t, n.Stop(within(t), mode, time.Minute))
		began := time.Now()
		pos := n.where()
		took := time.Since(began)
		lsn, clean, err := n.ShutdownCheckpoint(within(t))
		must(t, err)
		switch {
		case pos.Timeline != 1 || pos.LSN < running:
			t.Fatalf("%s: position %v, flushed before %v", mode, pos, running)
		case clean != (mode == StopFast):
			t.Fatalf("%s: clean %v", mode, clean)
		case clean && pos.LSN != lsn:
			t.Fatalf("%s: position %v, end of the shutdown checkpoint %v", mode, pos, lsn)
		case n.look().Clean != clean:
			t.Fatalf("%s: status says clean %v", mode, !clean)
		}
		t.Logf("%s: position in %v", mode, took)
		n.startPrimary(1)
	}
}

// V3: a standby's position has all that its primary was told of: streaming, after a restart without a source (when
// pg_last_wal_receive_lsn is NULL), and with replay paused or behind.
func TestPositionOfStandby(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 6 {
		if round%2 == 1 {
			s.sql("SELECT pg_wal_replay_pause()")
		}
		for range 20 {
			primary.sql("SELECT pg_logical_emit_message(true, 'x', repeat('y', $1))", random.IntN(9000))
		}
		if round%3 == 2 {
			primary.sql("SELECT pg_switch_wal()")
		}
		told := primary.flushed()
		eventually(t, 10*time.Second, "standby has flushed", func() bool {
			return primary.value("SELECT coalesce(max(flush_lsn) >= $1::pg_lsn, false)::text FROM pg_stat_replication", told.String()) == "true"
		})
		check := func(when string) {
			t.Helper()
			if pos := s.where(); pos.Timeline != 1 || pos.LSN < told {
				t.Fatalf("round %d, %s: position %v, primary was told of %v", round, when, pos, told)
			}
		}
		check("streaming")
		must(t, s.Cut(within(t)))
		check("cut")
		end := primary.flushed()
		if pos := s.where(); pos.LSN >= end {
			t.Fatalf("round %d: position %v after the cut, the primary is at %v only", round, pos, end)
		}
		p := s.foundAtStart()
		s.setFound(foundWAL{}) // as after a restart of the agent
		check("cut, nothing known of the start")
		s.setFound(p)
		must(t, s.Stop(within(t), []StopMode{StopFast, StopImmediate}[round%2], time.Minute))
		check("stopped")
		s.startStandby(nil)
		if got := s.value("SELECT pg_last_wal_receive_lsn()::text"); got != "" {
			t.Fatalf("pg_last_wal_receive_lsn %s after a restart without a source", got)
		}
		check("restarted without a source")
		must(t, s.Follow(within(t), primary.asSource(1), s.me))
		s.awaitStreaming()
		check("streaming again")
	}
}

// V4: the timeline is that of the LSN in the node's own history. A node that has gone past a fork stays on its timeline,
// though it has the history file of the other; one that follows is on the new one before its control file says so.
func TestPositionTimelineIsOwnHistory(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	must(t, next.Cut(within(t)))
	old.flushed() // third goes past the fork
	ahead := old.flushed()
	eventually(t, 10*time.Second, "third has flushed", func() bool { return third.look().Received >= ahead })
	next.arm(2)
	fork := next.where()
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	if pos := next.where(); pos.Timeline != 2 || pos.LSN <= fork.LSN {
		t.Fatalf("new primary: position %v, fork %v", pos, fork)
	}
	if fork.Parent != 0 {
		t.Fatalf("fork %+v: the first timeline has no parent", fork)
	}
	must(t, third.Promise(within(t), 2, third.me))
	must(t, third.Follow(within(t), next.asSource(2), third.me))
	eventually(t, 20*time.Second, "third has fetched the new history", func() bool {
		_, err := os.Stat(filepath.Join(third.opt.DataDir, "pg_wal", historyName(2)))
		return err == nil
	})
	if pos := third.where(); pos.Timeline != 1 || pos.LSN < ahead {
		t.Fatalf("gone past the fork: position %v, want timeline 1 at or after %v", pos, ahead)
	}
	// The old primary has nothing past the fork once it is rolled back; a copy of the new primary's standby stands in.
	must(t, third.Stop(within(t), StopFast, time.Minute))
	forks, err := next.LocalForks(within(t))
	must(t, err)
	if len(forks) != 1 || forks[0].Timeline != 2 || forks[0].Parent != 1 || forks[0].LSN != fork.LSN {
		t.Fatalf("forks %+v, want 1 -> 2 at %v", forks, fork)
	}
	must(t, second(old.SeenMax()))
	if top, err := next.SeenMax(); err != nil || top != 2 {
		t.Fatalf("highest number %d, %v, want 2", top, err)
	}
	must(t, next.Stop(within(t), StopFast, time.Minute))
	if pos := next.where(); pos.Timeline != 2 || pos.Parent != 1 {
		t.Fatalf("stopped on its new timeline: position %+v, want timeline 2 from 1", pos)
	}
}

// V3, V4: a follower that moves to the new timeline has, on the way and after it, no position below what it confirmed.
func TestPositionAcrossTimelines(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	told := old.flushed()
	eventually(t, 10*time.Second, "both have flushed", func() bool { return next.look().Received >= told && third.look().Received >= told })
	cutForPromotion(t, next, third)
	next.arm(2)
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	must(t, third.Follow(within(t), next.asSource(2), third.me))
	eventually(t, 20*time.Second, "third streams timeline 2", func() bool {
		if pos := third.where(); pos.LSN < told {
			t.Fatalf("position %v on the way, %v was confirmed", pos, told)
		}
		st := third.look()
		return st.Streaming && st.Timeline == 2
	})
	end := next.flushed()
	eventually(t, 10*time.Second, "third has flushed", func() bool { return third.look().Received >= end })
	for _, when := range []string{"streaming", "cut", "stopped"} {
		switch when {
		case "cut":
			must(t, third.Cut(within(t)))
		case "stopped":
			must(t, third.Stop(within(t), StopImmediate, 0))
		}
		if pos := third.where(); pos.Timeline != 2 || pos.LSN < end {
			t.Fatalf("%s: position %v, want timeline 2 at or after %v", when, pos, end)
		}
	}
}

// V3: PostgreSQL sets the receiver's LSN back to the beginning of a segment when it asks for WAL of another timeline, and
// leaves it there if the source refuses. The position does not go back with it.
func TestPositionAfterReceiverReset(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	for range 3 { // well past what was found at the start
		old.sql("SELECT pg_logical_emit_message(true, 'x', repeat('y', 900000))")
	}
	told := old.flushed()
	eventually(t, 10*time.Second, "both have flushed", func() bool { return next.look().Received >= told && third.look().Received >= told })
	cutForPromotion(t, next, third)
	next.arm(2)
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	next.sql("SELECT pg_drop_replication_slot('n3')")
	must(t, third.Follow(within(t), next.asSource(2), third.me))
	eventually(t, 20*time.Second, "the receiver's LSN is set back", func() bool {
		return third.lsn("SELECT pg_last_wal_receive_lsn()::text") < told
	})
	if pos := third.where(); pos.LSN < told {
		t.Fatalf("position %v, %v was confirmed", pos, told)
	}
	must(t, third.Cut(within(t)))
	if pos := third.where(); pos.LSN < told || pos.Timeline != 1 {
		t.Fatalf("position %v after the cut, %v was confirmed on timeline 1", pos, told)
	}
}

// V3: a record of which only the beginning has come is no WAL to build on: a promotion leaves the timeline before it, so a
// position past that would make every standby which has the same bytes look diverged.
func TestPositionLeavesOutAPieceOfARecord(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	received := leavePiece(t, primary, s)
	pos := s.where()
	if is := s.lsn("SELECT pg_last_wal_receive_lsn()::text"); is != received || pos.LSN >= received {
		t.Fatalf("position %v, received %v: want a piece up to %v", pos, is, received)
	}
	s.arm(2)
	must(t, s.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	forks, err := s.LocalForks(within(t))
	must(t, err)
	if len(forks) != 1 || forks[0].LSN != pos.LSN {
		t.Fatalf("position %v with WAL received up to %v: the promotion left the timeline at %+v", pos, received, forks)
	}
}
