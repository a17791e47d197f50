package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/cluster"
)

// ErrWrongTimeline is returned when a promotion did not, or could not, make the allotted timeline (F2).
var ErrWrongTimeline = errors.New("not the allotted timeline")

// PromoteSpec says under which term and into which timeline.
type PromoteSpec struct {
	Term     cluster.Term
	Timeline cluster.Timeline // allotted by AcquireLeader (F1)
}

// promotePause is between two looks at a server that is being promoted. Clients do not wait for the agent to see it, and
// the looks take time from the promotion.
const promotePause = 4 * time.Millisecond

// Promote makes the running standby a primary on the allotted timeline and returns when it takes writes: at the end of
// recovery, which comes well before pg_promote would return. ctx bounds the wait. ErrLeaseRefused: the guard has no
// lease for the term (U2). ErrWrongTimeline: PostgreSQL would take, or took, another number; in the second case the
// server is fenced before this returns (F2).
func (p *Postgres) Promote(ctx context.Context, spec PromoteSpec) error {
	p.change.Lock()
	defer p.change.Unlock()
	c, err := p.lastControl(ctx)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	w := p.walFiles(c)
	h, err := w.ownHistory(c)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := w.addPlaceholders(h.tli, spec.Timeline); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := p.guard.Load().Promote(ctx, spec.Term); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return p.checkPromoted(ctx, spec)
}

// checkPromoted waits for the end of recovery and fences a server that came out on another timeline (F2).
func (p *Postgres) checkPromoted(ctx context.Context, spec PromoteSpec) error {
	got, err := p.awaitPromoted(ctx)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if got == spec.Timeline {
		return nil
	}
	err = fmt.Errorf("promote: want timeline %d, have %d: %w", spec.Timeline, got, ErrWrongTimeline)
	p.dropConn(ctx)
	if fenced := p.guard.Load().Fence(ctx, spec.Term); fenced != nil {
		return errors.Join(err, fenced)
	}
	return err
}

// awaitPromoted waits for the end of recovery and gives the timeline into which WAL is inserted from then on. The
// control file is no source: it names the old timeline until the end-of-recovery checkpoint is through.
func (p *Postgres) awaitPromoted(ctx context.Context) (cluster.Timeline, error) {
	for {
		live, err := p.readLive(ctx)
		if err == nil && !live.inRecovery {
			return live.timeline, nil
		}
		if err != nil {
			if gone := p.stillThere(ctx); gone != nil {
				return 0, gone
			}
		}
		if ended := pause(ctx, promotePause); ended != nil {
			return 0, fmt.Errorf("still in recovery (%v): %w", err, ended)
		}
	}
}
