package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// autoConf is where ALTER SYSTEM writes; PostgreSQL reads it after postgresql.conf and all that it includes.
const autoConf = "postgresql.auto.conf"

// includeHead begins our part of postgresql.conf.
const includeHead = "# pgquorum: keep these lines last\n"

// includeOurFiles makes the end of postgresql.conf in dir include our three files, and makes those that are missing. It
// is include and not include_if_exists: without its list of synchronous standbys a server must not come up (S3).
func (p *Postgres) includeOurFiles(dir string) error {
	missing := map[string]string{mainConf: confText(nil), syncConf: syncText(""), standbyConf: standbyConfHead + "# no source\n" + standbyLines("", "")}
	for name, text := range missing {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := writeFileDurable(path, []byte(text), 0o600); err != nil {
				return err
			}
		} else if err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	includes := includeHead
	for _, name := range []string{mainConf, syncConf, standbyConf} {
		includes += "include = " + confQuote(name) + "\n"
	}
	path := filepath.Join(dir, "postgresql.conf")
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settings: %w", err)
	}
	text := string(have)
	if strings.HasSuffix(text, includes) {
		return nil
	}
	text = strings.ReplaceAll(text, includes, "") // it was once, and something was added after it
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return writeFileDurable(path, []byte(text+includes), 0o600)
}

// stripAutoConf takes our parameters out of postgresql.auto.conf, where ALTER SYSTEM would override them, and says so in
// the log. The operator's other ALTER SYSTEM settings stay.
func (p *Postgres) stripAutoConf() (changed bool, err error) {
	path := filepath.Join(p.opt.DataDir, autoConf)
	have, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("settings: %w", err)
	}
	ours := p.ours()
	var keep strings.Builder
	for line := range strings.Lines(string(have)) {
		name := strings.ToLower(strings.TrimSpace(line[:strings.IndexAny(line+"=", "= \t")]))
		_, own := ours[name]
		_, bounded := atLeast[name]
		if own || bounded || name == "wal_level" || slices.Contains(elsewhere, name) {
			p.opt.Log.Warn("parameter removed from "+autoConf, "parameter", name, "reason", "set by pgquorum")
			changed = true
			continue
		}
		keep.WriteString(line)
	}
	if !changed {
		return false, nil
	}
	return true, writeFileDurable(path, []byte(keep.String()), 0o600)
}
