package sim

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How a commit that was confirmed in part before a take-over may be complete only after it.
const (
	LateOnTheWay  = "its confirmation is on the way"
	LateCompleted = "a standby without a promise completes it"
)

// CommitLate takes the key from a primary whose agent and guard stand still, so that nobody ends it, and gives by how much its
// last commit was acknowledged later than the next primary was promoted. The commit's first confirmation was sent before the
// promise of the standby that it came from.
func (w *World) CommitLate(way string) (late time.Duration, err error) {
	p := w.primaryHost()
	if p == nil {
		return 0, errors.New("want a primary")
	}
	var standbys []*Host
	for _, h := range w.Hosts {
		if h != p {
			standbys = append(standbys, h)
		}
	}
	if err := p.awaitAllCounted(len(standbys)); err != nil {
		return 0, err
	}
	has := standbys[len(standbys)-1] // gets the row, and confirms it
	for _, h := range standbys {
		w.net.Set(p.Name, h.Name, h != has, usualDelay)
	}
	p.Freeze(true, serviceAgent, serviceGuard)
	if way == LateOnTheWay {
		w.net.Set(has.Name, p.Name, false, 3*time.Second)
	}
	row, told := w.number(), make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.live(func() { told <- p.Insert(ctx, row) })
	if err := pause(ctx, 20*time.Millisecond); err != nil { // it is on the standby's disk
		return 0, err
	}
	w.net.Set(p.Name, has.Name, true, usualDelay) // no keepalive may find that it has closed the connection
	completes := standbys[0]                      // reaches the primary alone, and promises nothing
	if way == LateCompleted {
		w.Link(p, has, true, usualDelay)
		for _, h := range standbys[1:] {
			w.Link(completes, h, true, usualDelay)
		}
	}
	at, err := w.awaitPromotion(ctx)
	if err != nil {
		return 0, err
	}
	if way == LateCompleted {
		w.net.Set(p.Name, completes.Name, false, usualDelay)
	}
	if err := <-told; err != nil {
		return 0, fmt.Errorf("row %d of %s: %w", row, p.Name, err)
	}
	return time.Since(at), w.Heal()
}

// awaitAllCounted waits until a primary's commits count on any of that many standbys.
func (h *Host) awaitAllCounted(standbys int) error {
	return await(10*time.Second, "not all counted", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := len(h.server.sync.Members); n != standbys {
			return fmt.Errorf("%s waits for some of %d standbys", h.Name, n)
		}
		return nil
	})
}

// awaitPromotion waits until somebody is promoted after the first primary, and says when that was.
func (w *World) awaitPromotion(ctx context.Context) (at time.Time, err error) {
	for {
		w.history.mu.Lock()
		next, there := w.history.primary[w.history.newest]
		w.history.mu.Unlock()
		if there {
			return next.at, nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return at, fmt.Errorf("nobody was promoted: %w", err)
		}
	}
}
