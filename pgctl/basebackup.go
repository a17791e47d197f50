package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// ErrNoSpace is returned before anything was copied, when the file system has too little room for the copy.
var ErrNoSpace = errors.New("too little free space")

// cloneMargin is the free space that must remain after a clone: WAL that comes meanwhile, and a safe distance.
const cloneMargin = 256 << 20

// BaseBackup clones s into data_dir as m. progress, which may be nil, is told of bytes done and in all.
//
// B4: the copy is made beside data_dir, under a name never used before, tablespaces included. Only when it is whole and
// on disk does it take data_dir's name; what stood there is named data_dir.replaced-<time>-<random>, loses its identity,
// and is kept. A broken-off clone leaves a data_dir.clone-* directory, which the next one removes: it is never data.
// ErrBelowPromise: a term above s's was promised meanwhile (V1). Postgres must be stopped.
func (p *Postgres) BaseBackup(ctx context.Context, s Source, m cluster.Member, progress func(done, total int64)) error {
	p.change.Lock()
	defer p.change.Unlock()
	defer p.stored.forget()

	dir, err := p.realDataDir()
	if err != nil {
		return err
	}
	if err := p.mayReplace(ctx, dir); err != nil {
		return fmt.Errorf("clone of %s: %w", s.Node, err)
	}
	if err := removeLeftovers(dir, cloneInfix); err != nil {
		return err
	}
	clone, err := p.copySource(ctx, s, dir, progress)
	if err != nil {
		return fmt.Errorf("clone of %s: %w", s.Node, err)
	}
	data := filepath.Join(clone, cloneData)
	if err := p.cleanCopy(data); err != nil {
		return fmt.Errorf("clone of %s: %w", s.Node, err)
	}
	kept, err := p.takePlace(s, data, dir, m)
	if err != nil {
		return fmt.Errorf("clone of %s: %w", s.Node, err)
	}
	if kept != "" {
		p.opt.Log.InfoContext(ctx, "former data directory kept", "directory", kept, "reason", "replaced by a clone")
	}
	if err := removeClone(clone); err != nil { // the copy stands; the next clone removes it
		p.opt.Log.WarnContext(ctx, "what is left of a clone not removed", "directory", clone, "error", err)
	}
	return p.clearRewindMark() // a rewind that broke off was of the directory that made way
}

// takePlace swaps the copy in. Its identity is written last of all that is written to it, and before the swap, so that the
// directory is the old life or the new one at every moment (V5); what is kept loses its own, which the copy may go on with
// (docs/adr/0025): put back by hand it must not pass for what it no longer is. No promise is given in between: one that was
// given of the old directory forbids the swap (V1).
func (p *Postgres) takePlace(s Source, data, dir string, m cluster.Member) (kept string, err error) {
	p.source.Lock()
	defer p.source.Unlock()
	if err := p.allowed(&s); err != nil {
		return "", err
	}
	if err := p.stillOf(dir, m); err != nil {
		return "", err
	}
	if err := p.writeIdentity(data, m); err != nil {
		return "", err
	}
	if kept, err = swapIn(data, dir); err != nil || kept == "" {
		return kept, err
	}
	return kept, disown(kept)
}

// stillOf refuses a copy that goes on with a life when the directory of that life is no longer there to make way: it may
// come back, such as a disk that was unmounted meanwhile, and then two directories would bear one identity.
func (p *Postgres) stillOf(dir string, m cluster.Member) error {
	if !p.KeepsLife(m.Incarnation) { // a new life
		return nil
	}
	var has cluster.Member
	if err := readJSON(filepath.Join(dir, idFile), &has); err != nil {
		return fmt.Errorf("clone that goes on as %s: what it should take the place of: %w", m.Life(), err)
	}
	if has != m {
		return fmt.Errorf("clone that goes on as %s: %s is %s's now", m.Life(), dir, has.Life())
	}
	return nil
}

// disown takes a kept directory's identity, so that it is nobody's incarnation.
func disown(kept string) error {
	if err := os.Remove(filepath.Join(kept, idFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", kept, err)
	}
	return syncDir(kept)
}

// disownKept does the same for what a swap that broke off has kept: a directory beside dir with dir's identity.
func disownKept(dir string) error {
	own, err := os.ReadFile(filepath.Join(dir, idFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	beside, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, e := range beside {
		if !strings.HasPrefix(e.Name(), filepath.Base(dir)+replacedInfix) {
			continue
		}
		kept := filepath.Join(filepath.Dir(dir), e.Name())
		if id, err := os.ReadFile(filepath.Join(kept, idFile)); err == nil && bytes.Equal(id, own) {
			if err := disown(kept); err != nil {
				return err
			}
		}
	}
	return nil
}

// replacedInfix is between a directory's name and the time at which a copy took its place.
const replacedInfix = ".replaced-"

// ErrOtherCluster is returned for data of another cluster than the one that this node belongs to.
var ErrOtherCluster = errors.New("another cluster")

// mayReplace refuses a directory that must not make way for a clone: one that holds something that is no cluster, or
// another cluster, or one whose server still runs.
func (p *Postgres) mayReplace(ctx context.Context, dir string) error {
	if pm, runs := p.postmaster(); runs {
		return fmt.Errorf("%s: postmaster %d still runs there", dir, pm.pid)
	}
	if state, why := p.DataState(ctx); state == cluster.DataForeign {
		return fmt.Errorf("%s: %s: %w", dir, why, ErrOtherCluster)
	}
	if _, err := os.Stat(filepath.Join(dir, pgVersionFile)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	return mustBeEmpty(dir)
}

// copySource runs pg_basebackup into a fresh clone directory beside dir and gives that.
func (p *Postgres) copySource(ctx context.Context, s Source, dir string, progress func(done, total int64)) (clone string, err error) {
	info, err := p.askSource(ctx, s)
	if err != nil {
		return "", err
	}
	if want := p.expectedSystemID(); want != "" && info.systemID != want {
		return "", fmt.Errorf("%s has system identifier %s, the cluster's is %s: %w", s.Node, info.systemID, want, ErrOtherCluster)
	}
	if err := p.runsDataOf(ctx, info.version); err != nil {
		return "", fmt.Errorf("%s: %w", s.Node, err)
	}
	clone, mapping, err := newClone(dir, info.tablespaces)
	if err != nil {
		return "", err
	}
	if err := info.checkSpace(filepath.Dir(dir)); err != nil {
		return "", errors.Join(err, removeClone(clone))
	}
	conninfo, remove, err := p.sourceConnInfo(s, p.opt.Replication, "replication", "pgquorum_clone_"+SlotName(p.opt.Self))
	if err != nil {
		return "", err
	}
	defer remove()
	args := []string{
		"--pgdata=" + filepath.Join(clone, cloneData), "--format=plain", "--wal-method=stream", "--checkpoint=fast",
		"--progress", "--no-password", "--dbname=" + conninfo,
	}
	if info.ownSlot {
		args = append(args, "--slot="+SlotName(p.opt.Self)) // keeps the WAL until the standby comes for it
	} else {
		args = append(args, "--no-slot")
	}
	for _, t := range mapping {
		args = append(args, "--tablespace-mapping="+mapEscape(t.From)+"="+mapEscape(t.To))
	}
	err = p.runCommand(ctx, command{program: "pg_basebackup", args: args, line: func(line string) {
		if done, total, ok := parseProgress(line); ok && progress != nil {
			progress(done, total)
		}
	}})
	return clone, err
}

// expectedSystemID is what ExpectSystemID was told.
func (p *Postgres) expectedSystemID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.systemID
}

// mapEscape escapes a directory of --tablespace-mapping. Source: tablespace_list_append, pg_basebackup.c, PostgreSQL 15.
func mapEscape(dir string) string { return strings.ReplaceAll(dir, "=", `\=`) }

// progressLine is what pg_basebackup --progress writes. Source: progress_report, pg_basebackup.c, PostgreSQL 15.
var progressLine = regexp.MustCompile(`^\s*(\d+)/(\d+) kB \(\d+%\)`)

// parseProgress reads bytes done and in all.
func parseProgress(line string) (done, total int64, ok bool) {
	m := progressLine.FindStringSubmatch(line)
	if m == nil {
		return 0, 0, false
	}
	d, errD := strconv.ParseInt(m[1], 10, 53)
	t, errT := strconv.ParseInt(m[2], 10, 53)
	return d << 10, t << 10, errD == nil && errT == nil
}

// foreignFiles are those of the source that are not for its copy: its identity (V5), its source and its process.
var foreignFiles = []string{idFile, standbyConf, "postmaster.pid", "postmaster.opts", "recovery.signal"}

// cleanCopy makes a fresh copy a standby of nobody in particular: the source's identity, connection and slots go,
// standby.signal comes, so that not even a start by hand could make it a second primary.
func (p *Postgres) cleanCopy(dir string) error {
	if err := removeForeign(dir); err != nil {
		return err
	}
	if err := p.includeOurFiles(dir); err != nil {
		return err
	}
	return writeStandbySignal(dir)
}

// removeForeign removes the source's own files and slots from a copy, durably.
func removeForeign(dir string) error {
	for _, name := range foreignFiles {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copied %s: %w", name, err)
		}
	}
	slots := filepath.Join(dir, "pg_replslot")
	entries, err := os.ReadDir(slots)
	if err != nil {
		return fmt.Errorf("copied slots: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(slots, e.Name())); err != nil {
			return fmt.Errorf("copied slots: %w", err)
		}
	}
	if err := syncDir(slots); err != nil {
		return err
	}
	return syncDir(dir)
}

// swapIn gives data the name dir. What stood at dir is kept under the name that it gives; empty if there was nothing.
func swapIn(data, dir string) (kept string, err error) {
	if _, err := os.Stat(filepath.Join(dir, pgVersionFile)); errors.Is(err, fs.ErrNotExist) {
		return "", moveIntoEmpty(data, dir)
	}
	kept = dir + replacedInfix + time.Now().UTC().Format("20060102T150405Z") + "-" + randomSuffix()
	if err := unix.Rename(data, kept); err != nil {
		return "", fmt.Errorf("%s: move to %s: %w", data, kept, err)
	}
	err = unix.Renameat2(unix.AT_FDCWD, kept, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot exchange
		return swapInTurn(kept, dir)
	}
	if err != nil { // such as a data directory that is a mount point: the copy goes back, to be removed
		err = fmt.Errorf("%s: exchange with %s: %w", dir, kept, err)
		return "", errors.Join(err, unix.Rename(kept, data))
	}
	return kept, syncDir(filepath.Dir(dir))
}

// swapInTurn is the exchange in three renames; between two of them there is no directory, and a crash there is a lost one.
func swapInTurn(copied, dir string) (kept string, err error) {
	kept = copied + "-old"
	if err := unix.Rename(dir, kept); err != nil {
		return "", fmt.Errorf("%s: move to %s: %w", dir, kept, err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return "", err
	}
	return kept, moveIntoEmpty(copied, dir)
}
