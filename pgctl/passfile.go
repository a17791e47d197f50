package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// passfilePrefix begins the names of the passfiles of sources, under the guard's directory.
const passfilePrefix = "source."

// writePassfile writes the passfile of one source and term, of its own so that the cut can take just that away (V2),
// and gives its path; empty when the replication user has no password.
func (p *Postgres) writePassfile(s *Source) (string, error) {
	if p.opt.Replication.Password == "" {
		return "", nil
	}
	if err := os.MkdirAll(p.opt.GuardDir, 0o700); err != nil {
		return "", fmt.Errorf("passfile: %w", err)
	}
	dir, err := filepath.Abs(p.opt.GuardDir)
	if err != nil {
		return "", fmt.Errorf("passfile: %w", err)
	}
	path := filepath.Join(dir, p.passfileName(s))
	line := "*:*:*:*:" + passfileEscape(p.opt.Replication.Password) + "\n"
	return path, writeFileDurable(path, []byte(line), 0o600)
}

// passfileName is named after source and term.
func (p *Postgres) passfileName(s *Source) string {
	return fmt.Sprintf("%s%s.%d.pass", passfilePrefix, SlotName(s.Node), s.Term)
}

// dropPassfiles removes every source's passfile but keep's (nil: all). From then on a WAL receiver that was asked to
// start with an older primary_conninfo cannot log in any more (V2).
func (p *Postgres) dropPassfiles(keep *Source) error {
	entries, err := os.ReadDir(p.opt.GuardDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("passfiles: %w", err)
	}
	for _, e := range entries {
		n := e.Name()
		if !strings.HasPrefix(n, passfilePrefix) || !strings.HasSuffix(n, ".pass") || keep != nil && n == p.passfileName(keep) {
			continue
		}
		if err := os.Remove(filepath.Join(p.opt.GuardDir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("passfiles: %w", err)
		}
	}
	return nil
}
