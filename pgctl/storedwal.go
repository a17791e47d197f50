package pgctl

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"

	"pgquorum/cluster"
)

// storedWAL remembers the end of WAL of a directory in which nothing runs: its WAL does not move, and to find the end
// may take long. Whoever asks while it is being looked for waits for the same answer.
type storedWAL struct {
	flight singleflight.Group

	mu   sync.Mutex
	life int // grows when WAL may move again
	key  controlKey
	pos  cluster.Position // zero: not known
}

// forget drops what is remembered and what is being looked for: Postgres is about to be started.
func (s *storedWAL) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
	s.pos = cluster.Position{}
	s.flight.Forget(storedFlight)
}

const storedFlight = "end of WAL"

// storedPosition reads the position from the files alone. With nothing left running it is read once, in the background if
// ctx ends before it is found; a Postgres that lives, or whose processes are not all reaped, may still write.
func (p *Postgres) storedPosition(ctx context.Context) (cluster.Position, error) {
	st, err := p.guard.Load().Status(ctx)
	if err != nil || st.Postmaster != 0 {
		return p.scanPosition(ctx)
	}
	if _, running := p.postmaster(); running { // one that the guard did not start
		return p.scanPosition(ctx)
	}
	key, err := p.presentControl()
	if err != nil {
		return cluster.Position{}, err
	}
	s := &p.stored
	s.mu.Lock()
	life, have, pos := s.life, s.key, s.pos
	s.mu.Unlock()
	if pos.Known() && have == key {
		return pos, nil
	}
	found := s.flight.DoChan(storedFlight, func() (any, error) {
		pos, err := p.scanPosition(context.WithoutCancel(ctx)) // bounded by scanTimeout
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.life == life {
			s.key, s.pos = key, pos
		}
		return pos, nil
	})
	select {
	case r := <-found:
		if r.Err != nil {
			return cluster.Position{}, r.Err
		}
		return r.Val.(cluster.Position), nil
	case <-ctx.Done():
		return cluster.Position{}, context.Cause(ctx)
	}
}

// scanPosition reads the position from the newest place that the control file knows to be valid, the checkpoint's record
// or the point up to which a standby has replayed, to the end of valid WAL.
func (p *Postgres) scanPosition(ctx context.Context) (cluster.Position, error) {
	c, err := p.ControlData(ctx)
	if err != nil {
		return cluster.Position{}, err
	}
	w := p.walFiles(c)
	h, err := w.ownHistory(c)
	if err != nil {
		return cluster.Position{}, err
	}
	end, err := p.walEnd(ctx, w, h, max(c.Checkpoint, c.MinRecovery))
	if err != nil {
		return cluster.Position{}, err
	}
	if end == c.Checkpoint { // where its record begins: at least that one must be there
		return cluster.Position{}, fmt.Errorf("checkpoint record at %v: %w", c.Checkpoint, errNoWAL)
	}
	return h.position(end), nil
}
