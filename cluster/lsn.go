package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSyntax is returned for text that is not in the form asked for.
var ErrSyntax = errors.New("syntax error")

// LSN is a position in PostgreSQL's write-ahead log: bytes from the start of WAL. Zero is invalid, as in PostgreSQL.
type LSN uint64

// ParseLSN reads PostgreSQL's text form of a WAL position, such as "16/B374D848": high and low half in hex.
// Other text gives ErrSyntax. Source: pg_lsn_in_internal, src/backend/utils/adt/pg_lsn.c, PostgreSQL 15.
func ParseLSN(s string) (LSN, error) {
	hi, lo, found := strings.Cut(s, "/")
	if !found || len(hi) < 1 || len(hi) > 8 || len(lo) < 1 || len(lo) > 8 {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal halves such as 16/B374D848: %w", s, ErrSyntax)
	}
	h, errHi := strconv.ParseUint(hi, 16, 32)
	l, errLo := strconv.ParseUint(lo, 16, 32)
	if errHi != nil || errLo != nil {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal halves such as 16/B374D848: %w", s, ErrSyntax)
	}
	return LSN(h<<32 | l), nil
}

// String gives PostgreSQL's own form.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// MarshalText writes PostgreSQL's own form.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}

// Behind says by how many bytes l is behind o; 0 when it is not.
func (l LSN) Behind(o LSN) uint64 {
	if l >= o {
		return 0
	}
	return uint64(o - l)
}
