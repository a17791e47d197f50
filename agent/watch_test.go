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
