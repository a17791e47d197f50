package pgctl

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgquorum/cluster"
)

// S3: a primary that is restarted acknowledges no commit before its list is in force, not to the first session that gets in:
// sessions knock from before its start on, and nobody is there to confirm.
func TestCommitsWaitFromTheFirstMomentOn(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := newPrimary(t, nil)
	must(t, n.Stop(within(t), StopFast, time.Minute))
	list := n.FormatSyncNames(cluster.SyncQuorum, 1, []cluster.Member{{Node: "n2", Incarnation: "x"}}, 1)
	const sessions = 8
	var tried, acknowledged atomic.Int64
	var knocking sync.WaitGroup
	ctx, cancel := context.WithTimeout(within(t), 30*time.Second)
	defer cancel()
	for range sessions {
		knocking.Go(func() {
			for ctx.Err() == nil {
				conn, err := n.superuserConn(ctx)
				if err != nil {
					continue // not up yet
				}
				tried.Add(1)
				short, done := context.WithTimeout(ctx, time.Second)
				if _, err := conn.Exec(short, "SELECT pg_logical_emit_message(true, '', 'x')"); err == nil {
					acknowledged.Add(1)
				}
				done()
				closeConn(context.Background(), conn)
				return
			}
		})
	}
	n.arm(2)
	must(t, n.Start(within(t), StartSpec{Primary: true, Term: 2, Settings: Settings{Me: n.me, SyncNames: list}}))
	knocking.Wait()
	if tried.Load() != sessions || acknowledged.Load() != 0 {
		t.Errorf("of %d sessions %d got in, %d commits were acknowledged alone", sessions, tried.Load(), acknowledged.Load())
	}
}
