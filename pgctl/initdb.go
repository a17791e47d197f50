package pgctl

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// ErrDataDirInUse is returned when something would be created where data already is. Nothing was touched (B4).
var ErrDataDirInUse = errors.New("data directory is not empty")

// InitDB creates a new cluster for m and gives its system identifier. data_dir must be absent or an empty directory:
// otherwise ErrDataDirInUse. initdb runs beside it under another name, so that a broken-off one is never taken for
// data; pgquorum.id is written last (V5). Checksums are on unless bootstrap.initdb says otherwise, since pg_rewind
// needs them (or wal_log_hints).
func (p *Postgres) InitDB(ctx context.Context, m cluster.Member) (systemID string, err error) {
	p.change.Lock()
	defer p.change.Unlock()
	defer p.stored.forget()

	dir, err := p.realDataDir()
	if err != nil {
		return "", err
	}
	if err := mustBeEmpty(dir); err != nil {
		return "", fmt.Errorf("initdb: %w", err)
	}
	if err := removeLeftovers(dir, ".initdb-"); err != nil {
		return "", err
	}
	fresh := dir + ".initdb-" + randomSuffix()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	if err := p.runInitDB(ctx, fresh); err != nil {
		return "", err
	}
	if err := p.includeOurFiles(fresh); err != nil {
		return "", err
	}
	data, err := p.controlOf(ctx, fresh)
	if err != nil {
		return "", err
	}
	if err := moveIntoEmpty(fresh, dir); err != nil {
		return "", err
	}
	if err := p.writeIdentity(dir, m); err != nil {
		return "", err
	}
	return data.SystemID, nil
}

// runInitDB runs initdb into dir.
func (p *Postgres) runInitDB(ctx context.Context, dir string) error {
	major, err := programMajor(ctx, filepath.Join(p.opt.BinDir, "initdb"))
	if err != nil {
		return err
	}
	args, err := initdbArgs(p.opt.InitDB, checksumsByDefault(major))
	if err != nil {
		return err
	}
	args = append(args, "--pgdata="+dir, "--username="+p.opt.Superuser.Username)
	if p.opt.Superuser.Password == "" {
		args = append(args, "--auth-local=trust", "--auth-host=scram-sha-256")
	} else {
		file, remove, err := p.secretFile("initdb", []byte(p.opt.Superuser.Password+"\n"))
		if err != nil {
			return err
		}
		defer remove()
		args = append(args, "--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--pwfile="+file)
	}
	if _, err := p.run(ctx, "initdb", args...); err != nil {
		return err
	}
	return nil
}

// initdbArgs turns bootstrap.initdb into arguments. An option may stand with or without its dashes, and with its value
// after '=', ':' or a space, as patroni.yml writes them. Options that say what pgquorum itself must know are refused. checksums:
// initdb makes data checksums unless it is told not to.
func initdbArgs(options []string, checksums bool) ([]string, error) {
	ours := []string{"pgdata", "D", "username", "U", "pwfile", "pwprompt", "W", "auth", "A", "auth-local", "auth-host"}
	args, names := []string{}, []string{}
	for _, o := range options {
		name, value, hasValue := cutAny(strings.TrimLeft(strings.TrimSpace(o), "-"), "=: ")
		if name == "" {
			return nil, fmt.Errorf("bootstrap.initdb: %q is no option", o)
		}
		if slices.Contains(ours, name) {
			return nil, fmt.Errorf("bootstrap.initdb: %q is set by pgquorum itself; remove it", name)
		}
		names = append(names, name)
		if name == "no-data-checksums" && !checksums {
			continue // the default of an initdb that does not know the option
		}
		dash, eq := "--", "="
		if len(name) == 1 {
			dash, eq = "-", ""
		}
		if hasValue {
			name += eq + strings.TrimSpace(value)
		}
		args = append(args, dash+name)
	}
	has := func(any ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(any, n) })
	}
	if !has("data-checksums", "k", "no-data-checksums") {
		args = append(args, "--data-checksums")
	}
	if !has("encoding", "E") {
		args = append(args, "--encoding=UTF8")
	}
	if !has("locale", "no-locale") {
		args = append(args, "--locale=C.UTF-8")
	}
	return args, nil
}

// cutAny cuts s at the first of any of seps.
func cutAny(s, seps string) (before, after string, found bool) {
	if i := strings.IndexAny(s, seps); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// realDataDir is data_dir with its symbolic links followed, so that "beside it" is on the same file system.
func (p *Postgres) realDataDir() (string, error) {
	dir, err := filepath.EvalSymlinks(p.opt.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Clean(p.opt.DataDir), nil
	}
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return dir, nil
}

// mustBeEmpty refuses anything but an absent or empty directory.
func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%s: want it absent or empty, found %s: %w", dir, entries[0].Name(), ErrDataDirInUse)
	}
	return nil
}

// moveIntoEmpty renames from to dir, durably. dir may be an empty directory: rename(2) replaces one, and refuses any
// other, in one step.
func moveIntoEmpty(from, dir string) error {
	err := unix.Rename(from, dir)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%s: is a mount point and cannot be swapped; use a directory inside it: %w", dir, err)
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s: %w", dir, ErrDataDirInUse)
	case err != nil:
		return fmt.Errorf("%s: move to %s: %w", from, dir, err)
	}
	return syncDir(filepath.Dir(dir))
}

// removeLeftovers removes what broken-off work left beside dir under dir+infix+random. Such a name is never data: data
// has its own name from the moment it is complete. Other names that begin so are an operator's, and stay.
func removeLeftovers(dir, infix string) error {
	entries, err := os.ReadDir(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("leftovers of %s: %w", dir, err)
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), filepath.Base(dir)+infix)
		if ours && isRandomSuffix(rest) {
			if err := removeClone(filepath.Join(filepath.Dir(dir), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// randomSuffix makes a name that was never used before (B4).
func randomSuffix() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// isRandomSuffix says whether s may be of randomSuffix.
func isRandomSuffix(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 6
}
