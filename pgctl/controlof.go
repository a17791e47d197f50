package pgctl

import (
	"context"
	"fmt"
)

// standbySettings are the settings in the control file that a standby's must not be lower than, by their label there.
// Source: CheckRequiredParameterValues, src/backend/access/transam/xlogrecovery.c, PostgreSQL 15.
var standbySettings = map[string]string{
	"max_connections setting":      "max_connections",
	"max_worker_processes setting": "max_worker_processes",
	"max_wal_senders setting":      "max_wal_senders",
	"max_prepared_xacts setting":   "max_prepared_transactions",
	"max_locks_per_xact setting":   "max_locks_per_transaction",
}

// controlOf is ControlData of another directory than PGDATA, such as one that is still being made beside it.
func (p *Postgres) controlOf(ctx context.Context, dir string) (*ControlData, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	out, err := p.run(ctx, "pg_controldata", "-D", dir)
	if err != nil {
		return nil, err
	}
	c, err := parseControlData(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}
