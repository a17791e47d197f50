package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/cluster"
)

// A look that began before refresh was called does not count, not even one of the same instant: an action that has just
// changed Postgres would be decided on again, at once and for ever.
func TestRefreshLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		calls := &fakeCalls{}
		pg := &fakePostgres{self: "n1", calls: calls, st: fakeStatus("n1")}
		w := newLocalWatch(pg, &fakeLocalGuard{self: "n1", calls: calls, pg: pg}, (&fakeClock{begin: time.Now()}).now, func() {})
		go w.run(ctx)
		for _, state := range []cluster.PostgresState{cluster.PostgresRunning, cluster.PostgresStopping, cluster.PostgresStopped} {
			pg.edit(func(p *cluster.PostgresStatus) { p.State = state })
			if got := w.refresh(ctx).postgres.State; got != state {
				t.Errorf("refresh saw %s, want %s", got, state)
			}
		}
	})
}

// V3: what was streamed last may be a piece of a record, so the position is read anew once streaming has ended, and then kept.
func TestV3PositionIsReadWhenStreamingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		calls := &fakeCalls{}
		pg := &fakePostgres{self: "n2", calls: calls, st: fakeStatus("n2"), pos: cluster.Position{Timeline: 2, LSN: 900}}
		w := newLocalWatch(pg, &fakeLocalGuard{self: "n2", calls: calls, pg: pg}, (&fakeClock{begin: time.Now()}).now, func() {})
		go w.run(ctx)
		if got := w.refresh(ctx).position.LSN; got != 1000 {
			t.Fatalf("streaming: position %v, want the received 1000", got)
		}
		pg.edit(func(p *cluster.PostgresStatus) { p.Streaming = false })
		for range 3 {
			if got := w.refresh(ctx).position.LSN; got != 900 {
				t.Fatalf("cut: position %v, want the 900 of what is on disk", got)
			}
		}
		if n := calls.count("n2 Position"); n != 1 {
			t.Errorf("the position was read %d times, want once", n)
		}
	})
}
