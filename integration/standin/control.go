package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// castagnoli is the CRC of pg_control and of WAL records. Source: pg_crc32c.h, PostgreSQL 15.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The file's layout, in bytes from its beginning. Up to the checksums' version it is the same in 13 to 18; 18 puts one
// byte behind that, so that the file's CRC stands 4 bytes further on.
// Source: ControlFileData and CheckPoint, src/include/catalog/pg_control.h, PostgreSQL 13 to 18.
const (
	atSystemID      = 0x00
	atVersion       = 0x08
	atState         = 0x10
	atCheckpoint    = 0x20
	atRedo          = 0x28
	atTimeline      = 0x30
	atMinRecovery   = 0x88
	atMinRecoveryTL = 0x90
	atLogHints      = 0xb0
	atConnections   = 0xb4
	atWorkers       = 0xb8
	atSenders       = 0xbc
	atPrepared      = 0xc0
	atLocks         = 0xc4
	atPageSize      = 0xe0
	atSegmentSize   = 0xe4
	atChecksums     = 0xfc
	atCRC           = 0x120
	atCRC18         = 0x124
)

// states are the words for DBState. Source: dbState, pg_controldata.c, PostgreSQL 13 to 18.
var states = []string{"starting up", "shut down", "shut down in recovery", "shutting down", "in crash recovery",
	"in archive recovery", "in production"}

var errControlCRC = errors.New("calculated CRC checksum does not match value stored in control file")

// controlTries is how often a file is read that the server may be writing just then.
const controlTries = 10

// controlData prints what pgctl reads of pg_controldata's output.
func controlData(args []string, out io.Writer) error {
	if len(args) != 2 || args[0] != "-D" {
		return fmt.Errorf("arguments %q: want -D and a directory", args)
	}
	var b []byte
	var err error
	for range controlTries {
		if b, err = readControl(filepath.Join(args[1], "global", "pg_control")); !errors.Is(err, errControlCRC) {
			break
		}
	}
	if err != nil {
		return err
	}
	number := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	lsn := func(at int) string { return lsnText(binary.LittleEndian.Uint64(b[at:])) }
	state := "unrecognized status code"
	if n := number(atState); int(n) < len(states) {
		state = states[n]
	}
	hints := "off"
	if b[atLogHints] != 0 {
		hints = "on"
	}
	for _, line := range []struct {
		label string
		value any
	}{
		{"pg_control version number", number(atVersion)},
		{"Database system identifier", binary.LittleEndian.Uint64(b[atSystemID:])},
		{"Database cluster state", state},
		{"Latest checkpoint location", lsn(atCheckpoint)},
		{"Latest checkpoint's REDO location", lsn(atRedo)},
		{"Latest checkpoint's TimeLineID", number(atTimeline)},
		{"Minimum recovery ending location", lsn(atMinRecovery)},
		{"Min recovery ending loc's timeline", number(atMinRecoveryTL)},
		{"wal_log_hints setting", hints},
		{"max_connections setting", number(atConnections)},
		{"max_worker_processes setting", number(atWorkers)},
		{"max_wal_senders setting", number(atSenders)},
		{"max_prepared_xacts setting", number(atPrepared)},
		{"max_locks_per_xact setting", number(atLocks)},
		{"WAL block size", number(atPageSize)},
		{"Bytes per WAL segment", number(atSegmentSize)},
		{"Data page checksum version", number(atChecksums)},
	} {
		if _, err := fmt.Fprintf(out, "%-38s%v\n", line.label+":", line.value); err != nil {
			return err
		}
	}
	return nil
}

// readControl reads the file and checks its CRC.
func readControl(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < atCRC18+4 {
		return nil, fmt.Errorf("%s: want at least %d bytes, have %d", path, atCRC18+4, len(b))
	}
	at := atCRC
	if binary.LittleEndian.Uint32(b[atVersion:]) >= 1800 {
		at = atCRC18
	}
	if crc32.Checksum(b[:at], castagnoli) != binary.LittleEndian.Uint32(b[at:]) {
		return nil, errControlCRC
	}
	return b, nil
}

// lsnText is PostgreSQL's text form of a WAL position.
func lsnText(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)) }
