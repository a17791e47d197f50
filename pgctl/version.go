package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// This file is what differs between PostgreSQL's major versions for pgquorum: each difference that the package acts on is
// a function here, with its source. What was looked at and needs nothing stands in docs/versions.md.

// OldestMajor and NewestMajor are the versions of PostgreSQL that pgquorum works with. Older ones read a changed
// primary_conninfo at a start only (13 release notes), so that no standby could be cut or pointed elsewhere without a
// restart. The proof of a cut (V2) and the promotion rest on the server's source, which is to be read for each newer one.
const (
	OldestMajor = 13
	NewestMajor = 18
)

// ErrVersion is returned for a PostgreSQL that pgquorum does not work with, or not with this data directory.
var ErrVersion = errors.New("version of PostgreSQL not supported")

// versionTimeout bounds a program that only prints its version.
const versionTimeout = 5 * time.Second

// CheckVersion looks at the programs in binDir and the data in dataDir, which may be absent or empty, and gives the
// programs' major version. ErrVersion: postgres is older than OldestMajor or newer than NewestMajor, or of another major
// version than the data, whose server could not start. Each warning names a minor version to leave, a program of another major version than
// postgres, or one that does not say: pg_waldump and pg_rewind refuse such data, and without pg_waldump a node gives no promise (V3).
func CheckVersion(ctx context.Context, binDir, dataDir string) (major int, warnings []string, err error) {
	major, minor, err := programVersion(ctx, filepath.Join(binDir, "postgres"))
	if err != nil {
		return 0, nil, err
	}
	if fixed := startRaceFixed[major]; minor < fixed {
		warnings = append(warnings, fmt.Sprintf("PostgreSQL %d.%d may acknowledge commits without a standby's confirmation in the first moments after a restart: %d.%d has the mend, update to it", major, minor, major, fixed))
	}
	if major < OldestMajor || major > NewestMajor {
		return 0, nil, fmt.Errorf("%s: want PostgreSQL %d to %d, have %d: %w", binDir, OldestMajor, NewestMajor, major, ErrVersion)
	}
	data, err := dataMajor(dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, nil, err
	}
	if err == nil && data != major {
		return 0, nil, fmt.Errorf("%s: want data of PostgreSQL %d, as the programs in %s, have data of %d: %w", dataDir, major, binDir, data, ErrVersion)
	}
	for _, name := range []string{"pg_controldata", "pg_waldump", "pg_rewind"} {
		other, err := programMajor(ctx, filepath.Join(binDir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // what must be there is looked at when the node's file is read
		case err != nil:
			warnings = append(warnings, err.Error())
		case other != major:
			warnings = append(warnings, fmt.Sprintf("%s is of PostgreSQL %d, postgres of %d", filepath.Join(binDir, name), other, major))
		}
	}
	return major, warnings, nil
}

// startRaceFixed is, by major version, the first minor one in which backends wait from the first moment on: before, they
// did not until the checkpointer had read synchronous_standby_names (S3), and sessions may come before it has. A standby that
// is promoted has had its checkpointer for long; a primary that is restarted in place has not.
// Source: "Fix race condition in handling of synchronous_standby_names immediately after startup", release notes of 17.5,
// 16.9, 15.13, 14.18 and 13.21 (May 2025); SYNC_STANDBY_INIT in syncrep.c.
var startRaceFixed = map[int]int{13: 21, 14: 18, 15: 13, 16: 9, 17: 5}

// programMajor asks a program for its major version.
func programMajor(ctx context.Context, path string) (int, error) {
	major, _, err := programVersion(ctx, path)
	return major, err
}

// programVersion asks a program for its version; a development version's minor is 0.
func programVersion(ctx context.Context, path string) (major, minor int, err error) {
	limited, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, path, "--version")
	cmd.Env = cleanEnv(os.Environ())
	out, err := cmd.Output()
	if limited.Err() != nil {
		err = fmt.Errorf("ended because %w", context.Cause(limited))
	}
	if err != nil {
		return 0, 0, fmt.Errorf("version of %s: %w", path, err)
	}
	major, minor, err = parseVersion(string(out))
	if err != nil {
		return 0, 0, fmt.Errorf("version of %s: %w", path, err)
	}
	return major, minor, nil
}

// parseVersion reads the version from what a program prints, such as "postgres (PostgreSQL) 15.18 (Debian ...)",
// "initdb (PostgreSQL) 18beta1".
func parseVersion(text string) (major, minor int, err error) {
	_, rest, ok := strings.Cut(text, "(PostgreSQL) ")
	major, err = leadingNumber(rest)
	if !ok || err != nil {
		return 0, 0, fmt.Errorf("%q: want (PostgreSQL) and a number", strings.TrimSpace(text))
	}
	if _, after, released := strings.Cut(strings.Fields(rest)[0], "."); released {
		if minor, err = leadingNumber(after); err != nil {
			return 0, 0, fmt.Errorf("%q: want a number after the point: %w", strings.TrimSpace(text), err)
		}
	}
	return major, minor, nil
}

// leadingNumber is the number with which text begins: the major version in "18beta1" or "17.10".
func leadingNumber(text string) (int, error) {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	return strconv.Atoi(text[:end])
}

// runsDataOf refuses a source whose data this node's server could not start: of another major version (ErrVersion).
// pg_basebackup of a newer one would copy it all the same.
func (p *Postgres) runsDataOf(ctx context.Context, serverVersion string) error {
	source, err := leadingNumber(serverVersion)
	if err != nil {
		return fmt.Errorf("version of the source: want a number, have %q", serverVersion)
	}
	own, err := programMajor(ctx, filepath.Join(p.opt.BinDir, "postgres"))
	if err != nil {
		return err
	}
	if source != own {
		return fmt.Errorf("source is PostgreSQL %d, %s is %d: %w", source, p.opt.BinDir, own, ErrVersion)
	}
	return nil
}

// dataMajor is the major version of the data in dir; fs.ErrNotExist when there is none.
func dataMajor(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, pgVersionFile))
	if err != nil {
		return 0, fmt.Errorf("version of the data: %w", err)
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(text)), ".") // up to 9.6 with a point
	major, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("version of the data: %s/%s: want a number, have %q", dir, pgVersionFile, text)
	}
	return major, nil
}

// confirmsPause says whether the server tells a pause that was asked for from one that the startup process has confirmed.
// From 14 on: pg_get_wal_replay_pause_state. In 13 the second proof of a cut (V2, docs/adr/0009) cannot be given, and a
// server without a replication password is restarted for each.
// Source: "Add function to report the replay pause state", release notes of PostgreSQL 14.
func confirmsPause(major int) bool { return major >= 14 }

// checksumsByDefault says whether initdb makes data checksums unless it is told not to, by an option that older ones do
// not know. Source: release notes of PostgreSQL 18.
func checksumsByDefault(major int) bool { return major >= 18 }

// mistrusted finds pg_controldata's warning that the file's checksum does not match. In 15 it goes to standard output and
// begins with a capital letter, in 18 it goes to standard error and does not; which one a version in between has is not asked.
// Source: main, src/bin/pg_controldata/pg_controldata.c, PostgreSQL 15 and 18.
func mistrusted(text string) bool {
	return strings.Contains(text, "alculated CRC checksum does not match")
}

// noTimeouts takes back, in a session that waits for a checkpoint, each limit of its server's version on how long that may
// take: transaction_timeout is there from 17 on, and where an operator has set it it would end the session.
// Source: release notes of PostgreSQL 17.
const noTimeouts = `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')`
