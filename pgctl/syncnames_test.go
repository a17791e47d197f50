package pgctl

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"pgquorum/cluster"
)

// commitsAlone says whether a commit is acknowledged with nobody there to confirm it.
func (n *node) commitsAlone(limit time.Duration) bool {
	n.t.Helper()
	conn, err := n.superuserConn(within(n.t))
	must(n.t, err)
	defer closeConn(context.Background(), conn)
	ctx, cancel := context.WithTimeout(within(n.t), limit)
	defer cancel()
	_, err = conn.Exec(ctx, "SELECT pg_logical_emit_message(true, '', 'x')")
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		n.t.Fatal(err)
	}
	return err == nil
}

// checkpointer freezes the checkpointer, and lets it go on at the end of the test or when told.
func (n *node) freezeCheckpointer() (thaw func()) {
	n.t.Helper()
	pid, err := strconv.Atoi(n.value("SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
	must(n.t, err)
	must(n.t, syscall.Kill(pid, syscall.SIGSTOP))
	thaw = func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			n.t.Error(err)
		}
	}
	n.t.Cleanup(thaw)
	return thaw
}

// S3: from the empty list to a list, a new connection's word is no proof. While the checkpointer has not taken the list
// over, commits are acknowledged alone, and ProveSyncNames must not return. Without its CHECKPOINT this fails.
func TestSyncNamesFromEmpty(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := newPrimary(t, nil)
	list := n.FormatSyncNames(cluster.SyncQuorum, 1, []cluster.Member{{Node: "n2", Incarnation: "x"}}, 1)
	thaw := n.freezeCheckpointer()
	must(t, n.SetSyncNames(within(t), list))
	conn, err := n.waitForSyncNames(within(t), list)
	must(t, err)
	closeConn(within(t), conn)
	if !n.commitsAlone(20 * time.Second) {
		t.Fatal("the trap is not there: a commit waits although the checkpointer is frozen")
	}

	proven := make(chan error, 1)
	var lsn cluster.LSN
	go func() {
		var err error
		lsn, err = n.ProveSyncNames(within(t), list)
		proven <- err
	}()
	// Wait until it asks for the checkpoint, or has returned too early.
	eventually(t, 30*time.Second, "proof waits for a checkpoint", func() bool {
		select {
		case err := <-proven:
			t.Fatalf("proven (%v) while commits are acknowledged alone", err)
		default:
		}
		return n.value("SELECT count(*)::text FROM pg_stat_activity WHERE query = 'CHECKPOINT' AND state = 'active'") == "1"
	})
	if !n.commitsAlone(20 * time.Second) {
		t.Fatal("a commit waits although the checkpointer is frozen")
	}
	before := n.lsn("SELECT pg_current_wal_flush_lsn()::text")
	thaw()
	must(t, <-proven)
	if lsn < before {
		t.Errorf("flush position %v, commits were acknowledged alone up to %v", lsn, before)
	}
	if n.commitsAlone(time.Second) {
		t.Error("a commit is acknowledged alone after the proof")
	}
}

// S3: between lists no checkpoint is needed, nor a second time; after the empty list it is needed again, and so it is
// when nothing is known.
func TestSyncNamesCheckpoints(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := newPrimary(t, nil)
	one, other := `ANY 1 ("a")`, `ANY 1 ("a", "b")`
	checkpoints := func() string {
		return n.value("SELECT checkpoint_lsn::text FROM pg_control_checkpoint()")
	}
	for _, step := range []struct {
		name   string
		list   string
		forget bool
		want   bool
	}{
		{"first list", one, false, true},
		{"list to list", other, false, false},
		{"empty", "", false, false},
		{"list after empty", one, false, true},
		{"the same again", one, false, false},
		{"a new agent", one, true, true},
	} {
		if step.forget {
			n.sync.flag.lost()
		}
		before := checkpoints()
		must(t, n.SetSyncNames(within(t), step.list))
		lsn, err := n.ProveSyncNames(within(t), step.list)
		must(t, err)
		if at := n.lsn("SELECT pg_current_wal_flush_lsn()::text"); lsn == 0 || lsn > at {
			t.Errorf("%s: flush position %v, now %v", step.name, lsn, at)
		}
		if did := checkpoints() != before; did != step.want {
			t.Errorf("%s: checkpoint %v, want %v", step.name, did, step.want)
		}
	}
	ctx, cancel := context.WithTimeout(within(t), 300*time.Millisecond)
	defer cancel()
	if _, err := n.ProveSyncNames(ctx, `ANY 1 ("never")`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a list that is not set: %v", err)
	}
}
