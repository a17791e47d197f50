package pgctl

import (
	"context"
	"fmt"
)

// Checkpoint requests a checkpoint (on a standby a restart point) and waits for its end, on a connection of its own:
// it may take minutes. ctx bounds it.
func (p *Postgres) Checkpoint(ctx context.Context) error {
	conn, err := p.superuserConn(ctx)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer closeConn(ctx, conn)
	return checkpoint(ctx, conn)
}
