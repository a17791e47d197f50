package pgctl

import (
	"os"
	"path/filepath"
	"pgquorum/cluster"
	"strings"
	"testing"
	"time"
)

// receiverCount counts WAL receivers as the operating system has them.
func (n *node) receiverCount() int {
	n.t.Helper()
	run, ok := n.postmaster()
	if !ok {
		return 0
	}
	list, _, err := receivers(run)
	must(n.t, err)
	count := 0
	for _, c := range list {
		if is, _ := c.isReceiver(); is {
			count++
		}
	}
	return count
}

// senderCount counts the primary's walsenders.
func (n *node) senderCount() string {
	return n.value("SELECT count(*)::text FROM pg_stat_replication")
}

// neverConfirms says that the primary's commits get no confirmation after the cut: a receiver that came back would confirm
// within wal_retrieve_retry_interval (50 ms). One that was asked for before the cut may still be forked, and cannot log in
// (ADR 0009); of one that was ended while it logged in the walsender may show after it, for as long as it takes to find that out.
func neverConfirms(t *testing.T, primary, standby *node) {
	t.Helper()
	eventually(t, 5*time.Second, "primary has seen the receiver go", func() bool { return primary.senderCount() == "0" })
	for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end); {
		if n := primary.value("SELECT count(*)::text FROM pg_stat_replication WHERE flush_lsn IS NOT NULL"); n != "0" {
			t.Fatalf("%s walsenders have confirmations after the cut: %s", n, standby.logs)
		}
	}
	eventually(t, 5*time.Second, "no receiver is left", func() bool { return standby.receiverCount() == 0 })
}

// V2: after the cut the receiver is gone and stays gone, quickly and without a restart, however soon after a Follow it
// comes; the passfile is gone and nothing names a source.
func TestCutEndsReceiver(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	before, _ := s.postmaster()
	quickest := time.Hour
	for round := range 12 {
		primary.flushed()
		began := time.Now()
		must(t, s.Cut(within(t)))
		quickest = min(quickest, time.Since(began))
		st := s.look()
		if st.Streaming || st.Source != "" || st.SourceTerm != 0 {
			t.Fatalf("round %d: status after the cut: %+v", round, st)
		}
		if round%4 == 0 {
			neverConfirms(t, primary, s)
		}
		must(t, s.Follow(within(t), primary.asSource(1), s.me))
		if round%2 == 0 { // the other rounds cut while the receiver is being started
			s.awaitStreaming()
		}
	}
	must(t, s.Cut(within(t)))
	neverConfirms(t, primary, s)
	if left, err := filepath.Glob(filepath.Join(s.opt.GuardDir, passfilePrefix+"*")); err != nil || len(left) != 0 {
		t.Fatalf("passfiles after the cut: %v, %v", left, err)
	}
	if after, _ := s.postmaster(); !after.same(before) {
		t.Logf("restarted on a busy machine: %s", s.logs)
	}
	t.Logf("quickest cut: %v", quickest)
}

// V2: with replay paused the reload alone leaves the receiver streaming and confirming [seen]; the cut does not, and
// leaves the operator's pause as it was.
func TestCutWithReplayPaused(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	s.sql("SELECT pg_wal_replay_pause()")
	eventually(t, 10*time.Second, "replay is paused", func() bool { return s.look().ReplayPaused })
	must(t, s.Follow(within(t), nil, s.me))
	primary.flushed()
	if s.receiverCount() != 1 {
		t.Log("the reload alone has ended the receiver: this version re-reads while it is paused")
	}
	must(t, s.Cut(within(t)))
	end := primary.flushed()
	neverConfirms(t, primary, s)
	if pos := s.where(); pos.LSN > end {
		t.Fatalf("position %v after the cut, primary wrote %v", pos, end)
	}
	if st := s.look(); !st.ReplayPaused && !strings.Contains(s.logs.String(), "restarted") {
		t.Fatalf("the operator's pause is gone: %+v", st)
	}
}

// V2: a startup process in a recovery conflict proves nothing, so Postgres is restarted without a source, keeping every
// byte that was confirmed.
func TestCutInRecoveryConflictRestarts(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	primary.sql("CREATE TABLE held (x int)")
	must(t, s.ApplySettings(within(t), Settings{Me: s.me, Parameters: map[string]string{"max_standby_streaming_delay": "-1"}}))
	at := primary.flushed()
	eventually(t, 10*time.Second, "table is replayed", func() bool { return s.look().Replayed >= at })
	holder, err := s.superuserConn(within(t))
	must(t, err)
	t.Cleanup(func() { closeConn(t.Context(), holder) })
	_, err = holder.Exec(within(t), "BEGIN; SELECT count(*) FROM held")
	must(t, err)
	primary.sql("TRUNCATE held")
	at = primary.flushed()
	eventually(t, 10*time.Second, "replay waits in a conflict", func() bool {
		st := s.look()
		return st.Received >= at && st.Replayed < at &&
			s.value("SELECT wait_event_type FROM pg_stat_activity WHERE backend_type = 'startup'") == "Lock"
	})
	before, _ := s.postmaster()
	must(t, s.Cut(within(t)))
	if after, ok := s.postmaster(); !ok || !after.same(before) {
		t.Fatalf("restarted, though no late receiver could log in: %s", s.logs)
	}
	neverConfirms(t, primary, s)
	s.opt.Replication.Password = "" // now a late one could
	must(t, s.Cut(within(t)))
	if after, ok := s.postmaster(); !ok || after.same(before) {
		t.Fatalf("not restarted: %s", s.logs)
	}
	if pos := s.where(); pos.LSN < at || pos.Timeline != 1 {
		t.Fatalf("position %v, the primary was told of %v", pos, at)
	}
	neverConfirms(t, primary, s)
}

// V2: a cut of a Postgres to which no connection can be had restarts it.
func TestCutWithoutConnectionRestarts(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	at := primary.flushed()
	eventually(t, 10*time.Second, "all is received", func() bool { return s.look().Received >= at })
	s.dropConn(within(t))
	before, _ := s.postmaster()
	must(t, os.Remove(s.socketPath()))
	s.opt.Replication.Password = "" // with one, the passfile is proof enough
	must(t, s.Cut(within(t)))
	if after, ok := s.postmaster(); !ok || after.same(before) {
		t.Fatalf("not restarted: %s", s.logs)
	}
	if pos := s.where(); pos.LSN < at {
		t.Fatalf("position %v, the primary was told of %v", pos, at)
	}
	neverConfirms(t, primary, s)
}

// A stopped Postgres and an absent one are cut by their files alone.
func TestCutStopped(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, s.Stop(within(t), StopFast, time.Minute))
	must(t, s.Cut(within(t)))
	if node, term, timeline := s.readSource(); node != "" || term != 0 || timeline != 0 {
		t.Fatalf("source %s of term %d after the cut", node, term)
	}
	empty := emptyNode(t, "n9", nil)
	must(t, empty.Cut(within(t)))
	must(t, primary.Cut(within(t))) // a holder does not promise: this one was promoted by hand, and must not go on
	eventually(t, 10*time.Second, "the former primary is a standby", func() bool { return primary.look().Role == cluster.RoleStandby })
}
