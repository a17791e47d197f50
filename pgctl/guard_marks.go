package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

const (
	fencedFile    = "fenced.json"
	standbySignal = "standby.signal"
	pgVersionFile = "PG_VERSION"
)

// fencedMark is the guard's durable word that no primary runs here at any term <= NoPrimary (U4). It stands in the
// guard's directory, never in PGDATA, where a rewind or a clone would overwrite it.
type fencedMark struct {
	NoPrimary cluster.Term `json:"no_primary"`
}

// readFenced reads the mark; no file is term 0. A file that cannot be read is an error, not a zero: the guard must not
// forget what it promised.
func readFenced(dir string) (cluster.Term, error) {
	path := filepath.Join(dir, fencedFile)
	var m fencedMark
	if err := readJSON(path, &m); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		return 0, fmt.Errorf("fence mark: %w", err)
	}
	return m.NoPrimary, nil
}

// writeFenced makes the mark durable.
func writeFenced(dir string, t cluster.Term) error {
	return writeDurable(filepath.Join(dir, fencedFile), fencedMark{NoPrimary: t})
}

// writeStandbySignal makes a later start by hand read-only (U3), durably. A directory without PG_VERSION holds no
// cluster that anybody could start, and is left alone.
func writeStandbySignal(dataDir string) error {
	if _, err := os.Stat(filepath.Join(dataDir, pgVersionFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(dataDir, standbySignal)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: fsync: %w", path, err)
	}
	return syncDir(dataDir)
}
