package pgctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// F1: a standby whose WAL receiver broke off inside the segment in which a new timeline begins, before the fork, starts
// again; PostgreSQL alone ends with "according to history file".
func TestPieceOfASegment(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, standbys := newCluster(t, 2)
	next, third := standbys[0], standbys[1]
	old.sql("CREATE TABLE t (x int)")
	control, err := old.ControlData(within(t))
	must(t, err)
	for segment := control.SegmentSize; uint64(old.flushed())%segment < segment/4 || uint64(old.flushed())%segment > segment/4*3; {
		old.sql("SELECT pg_logical_emit_message(true, '', repeat('x', 100000))")
	}
	for _, s := range standbys {
		s.catchUp(old)
	}
	cutForPromotion(t, next, third)
	must(t, old.Stop(within(t), StopImmediate, 0))
	must(t, third.Stop(within(t), StopImmediate, 0)) // it will replay the segment again
	before := third.where()
	next.arm(4)
	must(t, next.Promote(within(t), PromoteSpec{Term: 4, Timeline: 2}))
	next.sql("INSERT INTO t VALUES (0)")

	c, err := third.ControlData(within(t))
	must(t, err)
	from, to := next.walFiles(c), third.walFiles(c)
	copyFileTo(t, filepath.Join(from.dir, historyName(2)), filepath.Join(to.dir, historyName(2)))
	h, err := to.readHistory(2)
	must(t, err)
	fork := h.begin()
	piece := filepath.Join(to.dir, to.name(2, fork))
	replayed := max(c.Checkpoint, c.MinRecovery)
	cutAt := (replayed + before.LSN) / 2
	if to.segmentStart(replayed) != to.segmentStart(fork) || before.LSN-replayed < 4*cluster.LSN(to.page) || before.LSN > fork {
		t.Fatalf("recovery begins at %v, WAL ends at %v, the fork is %v: want some WAL of the same segment between", replayed, before.LSN, fork)
	}
	data, err := os.ReadFile(filepath.Join(from.dir, from.name(2, fork)))
	must(t, err)
	clear(data[uint64(cutAt)%to.segment:])
	must(t, os.WriteFile(piece, data, 0o600))

	if got := third.where(); got.LSN != before.LSN {
		t.Fatalf("with the piece its WAL ends at %v, want %v", got.LSN, before.LSN)
	}
	third.startStandby(next.asSource(4))
	eventually(t, 30*time.Second, "third streams timeline 2", func() bool { st := third.look(); return st.Streaming && st.Timeline == 2 })
	if strings.Contains(third.log(), "according to history file") {
		t.Error("PostgreSQL met the piece")
	}
	if _, err := os.Stat(piece + pieceSuffix); err != nil {
		t.Error(err)
	}
	// With WAL of the timeline itself the segment is no piece.
	third.catchUp(next)
	must(t, third.Stop(within(t), StopFast, time.Minute))
	must(t, os.Remove(piece+pieceSuffix))
	third.startStandby(next.asSource(4))
	third.awaitStreaming()
	if _, err := os.Stat(piece + pieceSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a segment with WAL of its own was set aside: %v", err)
	}
}

func copyFileTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o600))
}
