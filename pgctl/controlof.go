package pgctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// errControlChecksum is returned for a pg_control that must not be believed.
var errControlChecksum = errors.New("pg_control's checksum does not match: it is broken, or pg_controldata is of another version")

// standbySettings are the settings in the control file that a standby's must not be lower than, by their label there.
// Source: CheckRequiredParameterValues, src/backend/access/transam/xlogrecovery.c, PostgreSQL 15.
var standbySettings = map[string]string{
	"max_connections setting":      "max_connections",
	"max_worker_processes setting": "max_worker_processes",
	"max_wal_senders setting":      "max_wal_senders",
	"max_prepared_xacts setting":   "max_prepared_transactions",
	"max_locks_per_xact setting":   "max_locks_per_transaction",
}

// controlOf is ControlData of any directory, such as one that is still being made beside PGDATA. A file whose checksum
// does not match is refused: it is broken, or of a version with another layout than the program's, and its numbers are not
// what they seem. pg_controldata only warns of that (version.go), and ends well.
func (p *Postgres) controlOf(ctx context.Context, dir string) (*ControlData, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	text, err := p.controlText(ctx, dir)
	for tries := 1; errors.Is(err, errControlChecksum) && tries < controlTries; tries++ {
		text, err = p.controlText(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	c, err := parseControlData(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}

// controlTries is how often a file is read whose checksum does not match: a running server may be writing it just then.
const controlTries = 3

// controlText is what pg_controldata prints of a file that it trusts.
func (p *Postgres) controlText(ctx context.Context, dir string) (string, error) {
	var out, warned strings.Builder
	err := p.runCommand(ctx, command{program: "pg_controldata", args: []string{"-D", dir}, stdout: &out,
		line: func(line string) { warned.WriteString(line) }})
	if err != nil {
		return "", err
	}
	if mistrusted(out.String()) || mistrusted(warned.String()) {
		return "", fmt.Errorf("%s: %w", dir, errControlChecksum)
	}
	return out.String(), nil
}
