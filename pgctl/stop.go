package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Stop stops Postgres through the guard and returns when every process of it is reaped: fast, and after deadline
// immediate, and then by SIGKILL. It changes no file and no role. A stopped Postgres is no error.
func (p *Postgres) Stop(ctx context.Context, mode StopMode, deadline time.Duration) error {
	p.change.Lock()
	defer p.change.Unlock()
	return p.stopLocked(ctx, mode, deadline)
}

func (p *Postgres) stopLocked(ctx context.Context, mode StopMode, deadline time.Duration) error {
	p.dropConn(ctx)
	if err := p.guard.Load().Stop(ctx, mode, deadline); err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("stop %s: %w", mode, err)
	}
	return nil
}
