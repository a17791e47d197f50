package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/cluster"
)

// Watch looks at the world at short intervals until ctx ends: /primary is never 200 on two nodes, terms grow, each
// is one holder's, and what Raft has allotted stays as it is.
func (w *World) Watch(ctx context.Context) {
	seen := map[cluster.Timeline]cluster.Fork{}
	terms := map[*process]cluster.Term{} // a new process reads Raft's log from its beginning
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.look(seen, terms)
		w.lookForTwo()
	}
}

const watchEvery = 5 * time.Millisecond

func (w *World) look(seen map[cluster.Timeline]cluster.Fork, terms map[*process]cluster.Term) {
	var shown []cluster.NodeID
	for _, h := range w.Hosts {
		p := h.agentNow()
		if !p.alive() {
			continue
		}
		s := p.node.Snapshot()
		if s.ServesPrimary(p.node.Lease(), h.now()) {
			shown = append(shown, h.Name)
		}
		v := s.View
		if v.Key.Term < terms[p] {
			w.violated("%s: the key's term went from %d to %d", h.Name, terms[p], v.Key.Term)
		}
		terms[p] = v.Key.Term
		w.named(h.Name, v.Key)
		for t, f := range v.Forks {
			old, known := seen[t]
			switch {
			case !known:
				seen[t] = f
				w.forked(h.Name, f)
			case old.Node != f.Node, old.Term != f.Term, old.Parent != f.Parent, old.LSN != 0 && f.LSN != 0 && old.LSN != f.LSN:
				w.violated("F1: timeline %d was %v and is %v", t, old, f)
			case old.LSN == 0:
				seen[t] = f
			}
		}
	}
	if len(shown) > 1 {
		w.violated("GET /primary is 200 on %v at once", shown)
	}
}

// Converged says what keeps the world from being whole: one primary that holds the key and is shown, everybody else streaming
// from it with nothing missing, the rules settled.
func (w *World) Converged() error { return wholeOf(w.Hosts) }

// wholeOf says the same of some hosts, whatever the others do.
func wholeOf(hosts []*Host) error {
	var primary *Host
	for _, h := range hosts {
		p := h.agentNow()
		if h.isOff() || !p.alive() {
			return fmt.Errorf("%s: no agent", h.Name)
		}
		if p.node.Snapshot().ServesPrimary(p.node.Lease(), h.now()) {
			if primary != nil {
				return fmt.Errorf("%s and %s are both shown as primary", primary.Name, h.Name)
			}
			primary = h
		}
	}
	if primary == nil {
		return errors.New("nobody is shown as primary")
	}
	primary.mu.Lock()
	end, life := primary.disk.wal.end(), primary.disk.incarnation
	primary.mu.Unlock()
	snapshot := primary.agentNow().node.Snapshot()
	view := snapshot.View
	if cur, ok := view.Current(); !ok || cur.K < snapshot.KFull && cur.Mode != cluster.SyncOff {
		return fmt.Errorf("%s: k is %d of %d", primary.Name, cur.K, snapshot.KFull)
	}
	if len(view.Rules) != 1 || view.Key.Member.Incarnation != life {
		return fmt.Errorf("%s: %d rules are recorded, the key is %s's", primary.Name, len(view.Rules), view.Key.Member.Life())
	}
	for _, h := range hosts {
		if h == primary {
			continue
		}
		if err := h.follows(primary, end); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) follows(primary *Host, end cluster.Position) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.server == nil:
		return fmt.Errorf("%s: postgres is down", h.Name)
	case !h.server.recovering || h.server.receiver == nil || !h.server.receiver.streams || h.disk.source == nil || h.disk.source.Node != primary.Name:
		return fmt.Errorf("%s: does not stream from %s", h.Name, primary.Name)
	case h.disk.wal.end().LSN < end.LSN:
		return fmt.Errorf("%s: has %s of %s", h.Name, h.disk.wal.end().LSN, end.LSN)
	}
	return nil
}

// AwaitConverged waits until the world is whole and a commit is acknowledged.
func (w *World) AwaitConverged(limit time.Duration) error {
	return await(limit, "not whole", func() error {
		if err := w.Converged(); err != nil {
			return err
		}
		return w.commits(w.Hosts)
	})
}

// AwaitCommit waits until a commit is acknowledged.
func (w *World) AwaitCommit(limit time.Duration) error {
	return await(limit, "no commit", func() error { return w.commits(w.Hosts) })
}

func await(limit time.Duration, otherwise string, f func() error) error {
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Since(began) > limit {
			return fmt.Errorf("%s after %v: %w", otherwise, limit, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// commits says whether one of some hosts acknowledges a commit.
func (w *World) commits(hosts []*Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, h := range hosts {
		err := h.Insert(ctx, w.number())
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", h.Name, err))
	}
	return errors.Join(errs...)
}

// CheckEnd looks for every acknowledged row on the final primary.
func (w *World) CheckEnd() {
	for _, h := range w.Hosts {
		h.mu.Lock()
		primary := h.server != nil && h.server.lawfulLocked()
		has := h.disk.wal.clone()
		h.mu.Unlock()
		if primary {
			w.history.mu.Lock()
			w.lostIn(h.Name, &has)
			w.history.mu.Unlock()
		}
	}
}

// Write is a client on a host that writes whenever the host's PostgreSQL takes it, until ctx ends: the one whom no cut of
// the network keeps from a former primary.
func (w *World) Write(ctx context.Context, h *Host) {
	for ctx.Err() == nil {
		patience, cancel := context.WithTimeout(ctx, 3*time.Second)
		_ = h.Insert(patience, w.number()) // the history has what was acknowledged; what failed is nobody's concern
		cancel()
		_ = pause(ctx, h.drawWithin(writeEvery)) // the loop's condition looks at ctx
	}
}

const writeEvery = 60 * time.Millisecond
