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

// A standby that has just started or changed its source is looked at every 100 ms until it streams, for five seconds; all
// others once a second.
func TestLooksSoonUntilItStreams(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*cluster.PostgresStatus)
		want time.Duration // from a change on
		then time.Duration // five seconds later
	}{
		{"a standby that does not stream yet", func(p *cluster.PostgresStatus) { p.Streaming = false }, lookSoon, lookEvery},
		{"one that streams", func(p *cluster.PostgresStatus) {}, lookEvery, lookEvery},
		{"one that is to stream from nobody", func(p *cluster.PostgresStatus) { p.Streaming, p.Source = false, "" }, lookEvery, lookEvery},
		{"a primary", func(p *cluster.PostgresStatus) { p.Streaming, p.Role = false, cluster.RolePrimary }, lookEvery, lookEvery},
		{"one that is down", func(p *cluster.PostgresStatus) { p.Streaming, p.State = false, cluster.PostgresStopped }, lookEvery, lookEvery},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancel(t.Context())
				defer end()
				calls := &fakeCalls{}
				pg := &fakePostgres{self: "n2", calls: calls, st: fakeStatus("n2"), pos: cluster.Position{Timeline: 2, LSN: 900}}
				c.edit(&pg.st)
				w := newLocalWatch(pg, &fakeLocalGuard{self: "n2", calls: calls, pg: pg}, (&fakeClock{begin: time.Now()}).now, func() {})
				go w.run(ctx)
				synctest.Wait()
				first := w.latest()
				if got := next(ctx, w).at.Sub(first.at).Round(time.Millisecond); got != c.want {
					t.Errorf("after a change: looked at again after %v, want %v", got, c.want)
				}
				<-time.After(lookSoonAfter)
				synctest.Wait()
				late := w.latest()
				if got := next(ctx, w).at.Sub(late.at).Round(time.Millisecond); got != c.then {
					t.Errorf("five seconds later: looked at again after %v, want %v", got, c.then)
				}
			})
		})
	}
}

// next waits for the next look without asking for one.
func next(ctx context.Context, w *localWatch) localView {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-done:
	}
	return w.latest()
}
