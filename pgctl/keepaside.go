package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// keptAside is what keepAside saved.
type keptAside struct {
	dir      string
	segments int
	bytes    uint64
	end      cluster.LSN // of this node's WAL; 0: unknown, so that everything after the fork was kept
}

// keepAside saves, before a rewind, what the rewind takes away (B4): the WAL from the fork on, a list of the
// transactions and records in it, and this node's own configuration files. It stands under raft.data_dir/kept, in a
// directory that gets its name when it is whole. Nothing removes it but the operator.
func (p *Postgres) keepAside(ctx context.Context, c *ControlData, fork cluster.Position) (keptAside, error) {
	var kept keptAside
	var last cluster.Timeline
	if pos, err := p.position(ctx); err == nil {
		kept.end, last = pos.LSN, pos.Timeline
	} else {
		p.opt.Log.WarnContext(ctx, "end of WAL unknown, all WAL after the fork is kept", "reason", err)
	}
	w := p.walFiles(c)
	files, err := w.after(fork.LSN, kept.end)
	if err != nil {
		return kept, err
	}
	if err := os.MkdirAll(p.keptDir(), 0o700); err != nil {
		return kept, fmt.Errorf("keep aside: %w", err)
	}
	if err := p.keepSpace(files); err != nil {
		return kept, err
	}
	name := time.Now().UTC().Format("20060102T150405Z") + "-" + strings.ReplaceAll(fork.LSN.String(), "/", "-") + "-" + randomSuffix()
	kept.dir = filepath.Join(p.keptDir(), name)
	part := kept.dir + ".part"
	for _, sub := range []string{"pg_wal", "conf"} {
		if err := os.MkdirAll(filepath.Join(part, sub), 0o700); err != nil {
			return kept, fmt.Errorf("keep aside: %w", err)
		}
	}
	for _, f := range files {
		n, err := copyDurable(filepath.Join(w.dir, f.name), filepath.Join(part, "pg_wal", f.name))
		if err != nil {
			return kept, err
		}
		kept.bytes += n
		if f.tli != 0 {
			kept.segments++
		}
	}
	if err := p.keepConf(filepath.Join(part, "conf")); err != nil {
		return kept, err
	}
	if err := p.writeLost(ctx, walFiles{dir: filepath.Join(part, "pg_wal"), segment: w.segment, page: w.page},
		filepath.Join(part, "lost.txt"), files, fork, cluster.Position{Timeline: last, LSN: kept.end}); err != nil {
		return kept, err
	}
	for _, d := range []string{filepath.Join(part, "pg_wal"), filepath.Join(part, "conf"), part} {
		if err := syncDir(d); err != nil {
			return kept, err
		}
	}
	if err := os.Rename(part, kept.dir); err != nil {
		return kept, fmt.Errorf("keep aside: %w", err)
	}
	return kept, syncDir(p.keptDir())
}

// keptDir is where keepAside saves: beside the guard's directory.
func (p *Postgres) keptDir() string {
	return filepath.Join(filepath.Dir(filepath.Clean(p.opt.GuardDir)), "kept")
}

// walFile is a file of pg_wal.
type walFile struct {
	name  string
	tli   cluster.Timeline // 0: a history file
	start cluster.LSN
	size  uint64
}

// segmentName is a WAL segment's, also the last one of a timeline that was left.
var segmentName = regexp.MustCompile(`^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?$`)

// after lists the segments that hold WAL from the fork up to end (0: all), and all history files. Segments after the
// end are only made ready for later use.
func (w walFiles) after(fork, end cluster.LSN) ([]walFile, error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, fmt.Errorf("keep aside: %w", err)
	}
	var files []walFile
	for _, e := range entries {
		f := walFile{name: e.Name()}
		if m := segmentName.FindStringSubmatch(e.Name()); m != nil {
			f.tli, f.start, err = w.parseName(m)
			if err != nil {
				return nil, err
			}
			if f.start < w.segmentStart(fork) || end != 0 && f.start >= end {
				continue
			}
		} else if !strings.HasSuffix(e.Name(), ".history") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("keep aside: %w", err)
		}
		f.size = uint64(info.Size())
		files = append(files, f)
	}
	return files, nil
}

// parseName reads the parts of a segment's name. Source: XLogFromFileName, xlog_internal.h, PostgreSQL 15.
func (w walFiles) parseName(m []string) (tli cluster.Timeline, start cluster.LSN, err error) {
	var n [3]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(m[i+1], 16, 32); err != nil {
			return 0, 0, fmt.Errorf("WAL file %q: %w", m[0], err)
		}
	}
	return cluster.Timeline(n[0]), cluster.LSN(n[1]<<32 + n[2]*w.segment), nil
}

// keepSpace refuses when the files would not fit, before anything was changed.
func (p *Postgres) keepSpace(files []walFile) error {
	var need uint64
	for _, f := range files {
		need += f.size
	}
	free, err := freeSpace(p.keptDir())
	if err != nil {
		return err
	}
	if free < need+cloneMargin {
		return fmt.Errorf("keep aside: %s: want %d MB and a margin of %d MB, free are %d MB: %w",
			p.keptDir(), need>>20, uint64(cloneMargin)>>20, free>>20, ErrNoSpace)
	}
	return nil
}

// confFiles are the node's own files at the top of PGDATA, which a rewind replaces by the source's or removes.
var confFiles = []string{"*.conf", "*.crt", "*.key", "*.pem"}

// keepConf copies the node's own files to dir, but never the one that names a source: only Follow writes that (V1).
func (p *Postgres) keepConf(dir string) error {
	for _, pattern := range confFiles {
		names, err := filepath.Glob(filepath.Join(p.opt.DataDir, pattern))
		if err != nil {
			return fmt.Errorf("keep aside: %w", err)
		}
		for _, name := range names {
			info, err := os.Lstat(name)
			if err != nil {
				return fmt.Errorf("keep aside: %w", err)
			}
			if filepath.Base(name) == standbyConf || !info.Mode().IsRegular() {
				continue
			}
			if _, err := copyDurable(name, filepath.Join(dir, filepath.Base(name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreConf puts back what keepConf kept.
func (p *Postgres) restoreConf(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("configuration kept aside: %w", err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("configuration kept aside: %w", err)
		}
		if err := writeFileDurable(filepath.Join(p.opt.DataDir, e.Name()), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeLost writes the list of what a rewind takes away: each timeline's transactions, then its records by kind.
func (p *Postgres) writeLost(ctx context.Context, w walFiles, path string, files []walFile, fork, end cluster.Position) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "# WAL of this node after %v of timeline %d, up to %v of timeline %d: not part of the cluster any more.\n",
		fork.LSN, fork.Timeline, end.LSN, end.Timeline)
	for _, tli := range timelinesOf(files) {
		from := fork.LSN
		if h, err := w.readHistory(tli); err == nil {
			from = max(from, h.begin())
		}
		upTo := w.contiguousEnd(tli, from)
		if end.LSN != 0 && tli == end.Timeline {
			upTo = min(upTo, end.LSN)
		}
		if upTo <= from {
			continue
		}
		for _, part := range []struct{ title, option string }{{"transactions", "--rmgr=Transaction"}, {"records", "--stats=record"}} {
			fmt.Fprintf(&text, "\n# timeline %d, %v to %v: %s\n", tli, from, upTo, part.title)
			err := p.runCommand(ctx, command{
				program: "pg_waldump",
				args: []string{"--path=" + w.dir, "--timeline=" + strconv.FormatUint(uint64(tli), 10),
					"--start=" + from.String(), "--end=" + upTo.String(), part.option},
				stdout: &text,
			})
			// The end of valid WAL is an error to pg_waldump, and so is a range without any record.
			if err != nil && ctx.Err() != nil {
				return err
			}
			if err != nil {
				fmt.Fprintf(&text, "# %v\n", err)
			}
		}
	}
	return writeFileDurable(path, text.Bytes(), 0o600)
}

// timelinesOf lists the timelines of which there are segments, in order.
func timelinesOf(files []walFile) []cluster.Timeline {
	var list []cluster.Timeline
	for _, f := range files {
		if f.tli != 0 && !strings.HasSuffix(f.name, ".partial") {
			list = append(list, f.tli)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// copyDurable copies a file and fsyncs the copy. A hard link would not do: pg_rewind overwrites files in place.
func copyDurable(from, to string) (n uint64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, fmt.Errorf("keep aside: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keep aside: %w", err)
	}
	written, err := io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("keep aside: %s: %w", from, err)
	}
	return uint64(written), nil
}

// dirSize is what a directory's files hold, in bytes.
func dirSize(dir string) (total uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += uint64(info.Size())
		return nil
	})
	return total, err
}
