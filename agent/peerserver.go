package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// servePeers answers the other nodes until ctx ends. Who calls has been established by the connection's hello.
func (a *Agent) servePeers(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { answer(w, a.localStatus(a.watch.latest()), nil) })
	mux.HandleFunc("GET /status/fresh", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), a.opt.Heartbeat/8) // a Postgres that hangs is shown as it was
		defer cancel()
		answer(w, a.localStatus(a.watch.refresh(ctx)), nil)
	})
	handle(mux, "POST /promise", a.promise)
	handle(mux, "POST /attest", func(ctx context.Context, q attestRequest) (cluster.Attest, error) {
		return a.raft.Attest(ctx, q.Holder)
	})
	handle(mux, "POST /follow", a.followOrder)
	handle(mux, "POST /handover", a.takeHandover)
	handle(mux, "POST /register", func(ctx context.Context, n cluster.Node) (struct{}, error) {
		_, err := a.raft.Apply(ctx, cluster.Register{Node: n})
		return struct{}{}, err
	})
	handle(mux, "POST /refuse", func(ctx context.Context, c cluster.Refuse) (struct{}, error) {
		_, err := a.raft.Apply(ctx, c)
		return struct{}{}, err
	})
	handle(mux, "POST /event", func(ctx context.Context, e cluster.Event) (struct{}, error) {
		_, err := a.raft.Apply(ctx, cluster.AddEvent{Event: e})
		return struct{}{}, err
	})
	handle(mux, "POST /nudge", a.nudged)
	handle(mux, "POST /switchover", func(ctx context.Context, q cluster.SwitchoverRequest) (cluster.ActionResult, error) {
		return a.switchoverHere(ctx, q), nil
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(a.raft.PeerListener()); err != nil && ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("peer channel: %w", err)
	}
	return nil
}

// handle serves one call: JSON in, JSON out; an error is 409 with its text.
func handle[In, Out any](mux *http.ServeMux, pattern string, f func(context.Context, In) (Out, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPeerAnswer)).Decode(&in); err != nil {
			http.Error(w, "body: "+err.Error(), http.StatusBadRequest)
			return
		}
		out, err := f(r.Context(), in)
		answer(w, out, err)
	})
}

func answer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		return // the caller is gone; it sees a broken answer
	}
}

// nudged makes this node look at the others now. A key's holder that asks a leader for leadership (L9) is looked at for
// the take-over that this leader may be in, so that K3 is decided now and not with the next round.
func (a *Agent) nudged(ctx context.Context, q nudgeRequest) (struct{}, error) {
	select {
	case a.peers.nudge <- struct{}{}:
	default:
	}
	if o := a.observe(); decide.AsksBack(o, q.From) {
		s, err := a.peers.look(ctx, q.From, statusFresh)
		if err != nil {
			return struct{}{}, err
		}
		a.fill(o.Raft.Term, func(t *decide.TakeOver) { t.Statuses[q.From] = s; delete(t.Silent, q.From) })
		a.Wake()
	}
	return struct{}{}, nil
}

// promise is section 6: durable first (V1) and fenced for every older term (U4), then the cut (V2), then the position
// (V3). An error means no promise was given, whatever became durable.
func (a *Agent) promise(ctx context.Context, q promiseRequest) (cluster.Promise, error) {
	ctx, cancel := context.WithTimeout(ctx, promiseLimit)
	defer cancel()
	if err := a.orders.Acquire(ctx, 1); err != nil {
		return cluster.Promise{}, fmt.Errorf("promise of term %d to %s: another promise or order is under way: %w", q.Term, q.From, err)
	}
	defer a.orders.Release(1)
	o := a.observe()
	if no := decide.MayPromise(o, q.Term, q.RaftTerm); no != "" {
		return cluster.Promise{}, fmt.Errorf("promise of term %d to %s refused: %s", q.Term, q.From, no)
	}
	me := cluster.Member{Node: a.opt.Self, Incarnation: o.Local.Postgres.Incarnation}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.pg.Promise(gctx, q.Term, me) })
	g.Go(func() error { return a.opt.Guard.Fence(gctx, q.Term-1) })
	if err := g.Wait(); err != nil {
		return cluster.Promise{}, err
	}
	a.keeper.end(q.Term - 1)
	p := cluster.Promise{Term: q.Term, Member: me, Fenced: true}
	if err := a.pg.Cut(ctx); err != nil {
		return cluster.Promise{}, err
	}
	pos, err := a.pg.Position(ctx)
	if err != nil {
		return cluster.Promise{}, err
	}
	p.Position = pos
	level := slog.LevelInfo
	a.mu.Lock()
	said := givenPromise{q, p}
	if a.lastPromise == said { // asked for again, by who waits for another node
		level = slog.LevelDebug
	}
	a.lastPromise = said
	a.mu.Unlock()
	a.log.Log(ctx, level, "promised", "term", q.Term, "to", q.From, "timeline", pos.Timeline, "lsn", pos.LSN.String(), "fenced", p.Fenced)
	return p, nil
}

// promiseLimit bounds the work of one promise; the taker's own deadline is shorter, and it asks again.
const promiseLimit = 5 * time.Second

// followOrder is the taker's word whom to stream from, ahead of the FSM's own.
func (a *Agent) followOrder(ctx context.Context, q followRequest) (struct{}, error) {
	if err := a.orders.Acquire(ctx, 1); err != nil {
		return struct{}{}, fmt.Errorf("order to follow %s at term %d: another promise or order is under way: %w", q.Source, q.Term, err)
	}
	defer a.orders.Release(1)
	o := a.observe()
	me := cluster.Member{Node: a.opt.Self, Incarnation: o.Local.Postgres.Incarnation}
	if q.RaftTerm < o.Raft.Term || q.Term < o.View.Key.Term || q.Source == a.opt.Self {
		return struct{}{}, fmt.Errorf("order to follow %s at term %d is out of date: raft term %d, key term %d", q.Source, q.Term, o.Raft.Term, o.View.Key.Term)
	}
	if o.Local.Postgres.State != cluster.PostgresRunning || o.Local.Postgres.Role != cluster.RoleStandby {
		return struct{}{}, fmt.Errorf("order to follow %s: no standby runs here", q.Source)
	}
	if q.Term == o.View.Key.Term && q.Source != o.View.Key.Holder {
		return struct{}{}, fmt.Errorf("order to follow %s at term %d: the key names %s", q.Source, q.Term, o.View.Key.Holder)
	}
	if o.View.Forks.Foreign(o.Position) { // F3: once it streamed, nobody could tell any more
		return struct{}{}, fmt.Errorf("order to follow %s: the WAL here is of a timeline %d that was promoted by hand", q.Source, o.Position.Timeline)
	}
	if q.Term < o.Promised { // V1: refused before it is cut off for nothing
		return struct{}{}, fmt.Errorf("order to follow %s at term %d: term %d is promised", q.Source, q.Term, o.Promised)
	}
	if q.CatchUp && q.Term != o.Promised {
		return struct{}{}, fmt.Errorf("order to catch up from %s: it is for term %d, promised is %d", q.Source, q.Term, o.Promised)
	}
	if q.CatchUp { // what was promised is no longer all that is here
		a.mu.Lock()
		a.lastPromise = givenPromise{}
		a.mu.Unlock()
	}
	src := &Source{Node: q.Source, Term: q.Term, Addr: q.Addr, CatchUp: q.CatchUp, Urgent: !q.CatchUp, Timeline: q.Timeline}
	if err := a.mayFollow(ctx, o, q, src, me); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, a.pg.Follow(ctx, src, me)
}

// mayFollow proves that the WAL here is the beginning of what the source of an order has (S6): of the timeline, or of the WAL
// with which the source promised, since where that timeline leaves its parent is not recorded yet. A catch-up is of a node
// that confirms nothing to anybody, and knows the positions.
func (a *Agent) mayFollow(ctx context.Context, o *decide.Observation, q followRequest, src *Source, me cluster.Member) error {
	switch {
	case q.CatchUp:
		return nil
	case !q.Position.Known():
		return a.proveBeginning(ctx, o, src)
	case decide.Follows(o.Local.Postgres, q.Source, q.Timeline): // it has gone over by itself
		return nil
	}
	pos, err := a.sincePromise(ctx, q.Term, me)
	if err != nil {
		return fmt.Errorf("order to follow %s: %w", q.Source, err)
	}
	if !decide.FollowsWithoutRewind(o.View.Forks, pos, q.Position) {
		a.watch.refresh(ctx) // it may have been cut off
		return fmt.Errorf("order to follow %s, whose WAL ends at %s of timeline %d: the WAL here ends at %s of timeline %d and is not the beginning of that",
			q.Source, q.Position.LSN, q.Position.Timeline, pos.LSN, pos.Timeline)
	}
	return nil
}

// sincePromise is where this node's WAL ends: as it was promised for the term, since nothing has streamed after that, or else
// as it is read once nothing streams any more.
func (a *Agent) sincePromise(ctx context.Context, term cluster.Term, me cluster.Member) (cluster.Position, error) {
	a.mu.Lock()
	p := a.lastPromise.p
	a.mu.Unlock()
	if p.Term == term && p.Member == me {
		return p.Position, nil
	}
	if err := a.pg.Cut(ctx); err != nil {
		return cluster.Position{}, err
	}
	return a.pg.Position(ctx)
}

// takeHandover keeps what a former leader had gathered, for the leadership that follows (K6).
func (a *Agent) takeHandover(_ context.Context, q handoverRequest) (struct{}, error) {
	if key := a.raft.View().Key.Term; q.Term <= key {
		return struct{}{}, fmt.Errorf("hand-over for term %d: the key is in term %d already", q.Term, key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger = decide.TakeOver{Term: q.Term, Promises: q.Promises, Came: true, Hops: q.Hops, HandedAt: a.opt.Clock()}
	a.inherited = nil
	if q.Wanted != "" {
		a.inherited = &decide.Request{SwitchoverRequest: cluster.SwitchoverRequest{Candidate: q.Wanted}}
	}
	return struct{}{}, nil
}

// givenPromise is the last promise, which is logged once and says where this node's WAL ends until a catch-up adds to it: who
// asked, and what was promised.
type givenPromise struct {
	to promiseRequest
	p  cluster.Promise
}
