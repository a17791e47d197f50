package pgctl

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// S6 (ADR 0036): a standby that has more WAL than the new primary had, and was not told to follow its timeline, confirms
// nothing. The same receiver under a name that the list has is counted by PostgreSQL for a commit that it does not have.
func TestS6OldReceiverConfirmsNothing(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, ahead := standbys[0], standbys[1]
	old.sql("CREATE TABLE t (i int)")
	old.sql("SELECT pg_switch_wal()") // the fork lies inside a segment
	old.sql("INSERT INTO t SELECT generate_series(1, 8000)")
	told := old.flushed()
	eventually(t, waitShort, "both have it", func() bool { return next.look().Received >= told && ahead.look().Received >= told })
	must(t, next.Cut(within(t)))
	old.sql("INSERT INTO t SELECT generate_series(1, 1000)")
	told = old.flushed()
	eventually(t, waitShort, "one is ahead", func() bool { return ahead.look().Received >= told })
	must(t, ahead.Cut(within(t)))
	must(t, old.Stop(within(t), StopImmediate, 0))

	must(t, ahead.Follow(within(t), &Source{Node: "n2", Term: 2, Host: "127.0.0.1", Port: next.opt.Port, Timeline: 1}, ahead.me)) // as of an earlier timeline of n2
	next.arm(2)
	must(t, next.SetSyncNames(within(t), next.FormatSyncNames(cluster.SyncQuorum, 1, []cluster.Member{ahead.me}, 2)))
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	if n, a := next.where(), ahead.where(); n.LSN >= a.LSN {
		t.Fatalf("the standby is not ahead: %v, the primary is at %v", a, n)
	}
	conn, err := next.superuserConn(within(t))
	must(t, err)
	defer closeConn(context.Background(), conn)
	acked := make(chan error, 1)
	tries := refusedAtFork(t, ahead)
	go func() {
		_, err := conn.Exec(within(t), "INSERT INTO t VALUES (-1)", pgx.QueryExecModeSimpleProtocol)
		acked <- err
	}()
	eventually(t, 30*time.Second, "the standby has connected again and again", func() bool { return refusedAtFork(t, ahead) >= tries+60 })
	if dup, bad, err := next.Confirmed(within(t), 2, next.lsn("SELECT pg_current_wal_flush_lsn()::text"), []cluster.Member{ahead.me}); err != nil || len(dup)+len(bad) > 0 {
		t.Errorf("confirmed by %v, duplicates %v, %v", dup, bad, err)
	}
	select {
	case err := <-acked:
		t.Fatalf("acknowledged (%v), although nobody has it", err)
	default:
	}

	must(t, next.SetSyncNames(within(t), next.FormatSyncNames(cluster.SyncQuorum, 1, []cluster.Member{ahead.me}, 1)))
	select {
	case err := <-acked:
		must(t, err)
	case <-time.After(30 * time.Second):
		t.Error("under the old name it is not counted either: this test shows nothing any more")
	}
	if has := ahead.value("SELECT count(*)::text FROM t WHERE i = -1"); has != "0" {
		t.Errorf("the standby has the row %s times", has)
	}
}

// refusedAtFork counts how often a standby's WAL receiver came to the end of its timeline.
func refusedAtFork(t *testing.T, n *node) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.opt.GuardDir, "postgres.log"))
	must(t, err)
	return strings.Count(string(text), "replication terminated by primary server")
}
