package pgctl

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// leavePiece ends what a primary has flushed, and what its standbys have received, in the middle of a record, and cuts them off: the
// WAL writer flushes whole pages first, and the rest 0.2 s later, unless it is stopped.
func leavePiece(t *testing.T, primary *node, standbys ...*node) (end cluster.LSN) {
	t.Helper()
	writer, err := strconv.Atoi(primary.value("SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'walwriter'"))
	must(t, err)
	flushed := func() cluster.LSN { return primary.lsn("SELECT pg_current_wal_flush_lsn()::text") }
	for { // a receiver that is busy with its disk at the cut: Postgres is started anew, and has forgotten what it received
		runs := map[*node]string{}
		for _, s := range standbys {
			must(t, s.Follow(within(t), primary.asSource(1), s.me))
			s.awaitStreaming()
			runs[s] = s.look().StartTime
		}
		eventually(t, 30*time.Second, "a piece of a record has come", func() bool {
			end = flushed()
			switch {
			case end == primary.lsn("SELECT pg_current_wal_insert_lsn()::text"):
				primary.sql("SELECT pg_logical_emit_message(false, '', repeat('x', 30000))")
				return false
			case uint64(end)%8192 != 0:
				return false
			}
			must(t, unix.Kill(writer, unix.SIGSTOP))
			if flushed() == end {
				return true
			}
			must(t, unix.Kill(writer, unix.SIGCONT))
			return false
		})
		eventually(t, 30*time.Second, "the standbys have it", func() bool {
			return !slices.ContainsFunc(standbys, func(s *node) bool { return s.look().Received != end })
		})
		for _, s := range standbys {
			must(t, s.Cut(within(t)))
			eventually(t, 30*time.Second, "the standby runs", func() bool { return s.look().State == cluster.PostgresRunning })
		}
		must(t, unix.Kill(writer, unix.SIGCONT))
		if !slices.ContainsFunc(standbys, func(s *node) bool { return s.look().StartTime != runs[s] }) {
			return end
		}
	}
}

// S6: a walsender keeps what its standby said last while that goes over to the new timeline, or stands still just then. Where a
// piece of a record was the last that the candidate sent, that is past the fork, and PostgreSQL counts it for the first commits
// of the new timeline (ADR 0036): so nobody is told to follow such a candidate before it is promoted.
func TestS6PieceConfirmsCommitsOfTheNewTimeline(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, sibling := standbys[0], standbys[1]
	old.sql("CREATE TABLE t (i int)")
	received := leavePiece(t, old, next, sibling)
	must(t, old.Stop(within(t), StopImmediate, 0))
	if st, at := next.look(), next.where(); st.Received != received || st.Replayed >= received || at.LSN >= received {
		t.Fatalf("received %v, replayed %v, position %v: want a piece up to %v", st.Received, st.Replayed, at, received)
	}

	next.arm(2)
	must(t, next.SetSyncNames(within(t), next.FormatSyncNames(cluster.SyncQuorum, 1, []cluster.Member{sibling.me, {Node: "n4", Incarnation: "b1"}}, 2)))
	must(t, sibling.Follow(within(t), &Source{Node: "n2", Term: 2, Host: "127.0.0.1", Port: next.opt.Port, Timeline: 2}, sibling.me))
	const sender = "SELECT max(flush_lsn)::text FROM pg_stat_replication"
	eventually(t, waitShort, "the sibling has the piece", func() bool { return next.value(sender) == received.String() })
	pid, err := strconv.Atoi(sibling.value("SELECT pid::text FROM pg_stat_wal_receiver"))
	must(t, err)
	must(t, unix.Kill(pid, unix.SIGSTOP))
	defer func() { must(t, unix.Kill(pid, unix.SIGCONT)) }()
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	conn, err := next.superuserConn(within(t))
	must(t, err)
	defer closeConn(context.Background(), conn)
	acked := make(chan error, 1)
	go func() {
		_, err := conn.Exec(within(t), "INSERT INTO t VALUES (-1)", pgx.QueryExecModeSimpleProtocol)
		acked <- err
	}()
	eventually(t, waitShort, "the commit waits", func() bool {
		return next.value("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
	})
	next.sql("SELECT pg_reload_conf()") // until then a walsender that began on a standby is no synchronous one
	word := next.anotherStandby("n4_b1_2")
	eventually(t, waitShort, "acknowledged, as PostgreSQL counts what the sibling said on the former timeline: if not, this test shows nothing any more", func() bool {
		word() // whatever it is, PostgreSQL looks who has what
		select {
		case err := <-acked:
			must(t, err)
			return true
		default:
			return false
		}
	})
}

// anotherStandby streams from a primary on timeline 2 under a name. Its word is that it has flushed none of that.
func (n *node) anotherStandby(name string) (word func()) {
	n.t.Helper()
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s sslmode=disable replication=true", n.opt.Port, n.opt.Replication.Username))
	must(n.t, err)
	cfg.Password, cfg.RuntimeParams["application_name"] = n.opt.Replication.Password, name
	conn, err := pgconn.ConnectConfig(within(n.t), cfg)
	must(n.t, err)
	n.t.Cleanup(func() { closeSender(context.Background(), conn) })
	at := n.lsn("SELECT pg_current_wal_flush_lsn()::text")
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE 2", at)})
	must(n.t, conn.Frontend().Flush())
	eventually(n.t, waitShort, name+" streams", func() bool {
		return n.value("SELECT max(state) FROM pg_stat_replication WHERE application_name = '"+name+"'") == "streaming"
	})
	reply := append([]byte{'r'}, make([]byte, 8+8+8+8+1)...) // written, flushed, applied, the time, and no answer wanted
	binary.BigEndian.PutUint64(reply[9:], 1)                 // 0 would say that it flushes nothing ever
	return func() {
		conn.Frontend().Send(&pgproto3.CopyData{Data: reply})
		must(n.t, conn.Frontend().Flush())
	}
}
