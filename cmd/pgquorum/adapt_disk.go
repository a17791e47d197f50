package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/agent"
	"pgquorum/cluster"
	"pgquorum/pgctl"
)

// diskAdapter is what this node must be able to write, as the agent's probe wants it (B2, ADR 0030). A device is probed
// once, whatever stands on it, and each in the place that disturbs nobody:
//
//   - raft.data_dir: a file of the probe's own is overwritten, always in the same place and to the same length, so that a
//     probe costs one block and one flush: no metadata changes that fdatasync would have to write.
//   - PGDATA on a device of its own: pgquorum.id is overwritten with what is in it. A file of the probe's own would be
//     copied by clones and rewinds. Others replace that file and never write into it, so nothing of theirs can be lost.
//   - pg_wal or a tablespace on a device of its own: a file without a name (O_TMPFILE), which no other program ever sees.
//     Where the file system has none, the directory is flushed.
//
// Overwriting asks for no room on ext4 and XFS, so the room is measured: by statfs(2), and by a file without a name that
// gets some blocks and is closed again, for what statfs does not show (quotas). That much is not flushed.
type diskAdapter struct {
	raftDir, dataDir string
	guardDir         string // where marks need room of their own; empty: none do
}

// reserveFrom is how much must be free, in bytes, for the marks' reserve to be made anew.
const reserveFrom = 16 << 20

// probeFile stands in raft.data_dir; its text is for people.
const probeFile = "probe"

// Places implements agent.Disk.
func (d diskAdapter) Places() ([]agent.DiskPlace, error) {
	type use struct {
		dir string
		use cluster.DiskUse
	}
	uses := []use{{d.raftDir, cluster.UseRaft}, {d.dataDir, cluster.UseData}, {filepath.Join(d.dataDir, "pg_wal"), cluster.UseWAL}}
	links, err := os.ReadDir(filepath.Join(d.dataDir, "pg_tblspc"))
	if err != nil && !noConcern(err) {
		return nil, err
	}
	for _, l := range links {
		uses = append(uses, use{filepath.Join(d.dataDir, "pg_tblspc", l.Name()), cluster.TablespaceUse(l.Name())})
	}
	var places []agent.DiskPlace
	devices := map[uint64]int{}
	for _, u := range uses {
		device, there := deviceOf(u.dir)
		if !there && u.use != cluster.UseRaft {
			continue
		}
		i, known := devices[device]
		if !known {
			i = len(places)
			devices[device] = i
			places = append(places, agent.DiskPlace{Dir: u.dir})
		}
		places[i].Uses = append(places[i].Uses, u.use)
	}
	return places, nil
}

// Probe implements agent.Disk.
func (d diskAdapter) Probe(p agent.DiskPlace) (free uint64, err error) {
	switch {
	case slices.Contains(p.Uses, cluster.UseRaft):
		err = overwrite(filepath.Join(d.raftDir, probeFile), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), os.O_CREATE)
	case slices.Contains(p.Uses, cluster.UseData):
		err = rewrite(filepath.Join(d.dataDir, idFile))
	default:
		err = writeUnnamed(p.Dir)
	}
	if err == nil || noConcern(err) && !slices.Contains(p.Uses, cluster.UseRaft) {
		free, err = freeOn(p.Dir)
	}
	if err == nil {
		err = allocate(p.Dir)
	}
	if err == nil && d.guardDir != "" && free > reserveFrom && slices.Contains(p.Uses, cluster.UseRaft) {
		if err = pgctl.KeepReserve(d.guardDir); err != nil && noConcern(err) {
			err = nil
		}
	}
	if err != nil && noConcern(err) && !slices.Contains(p.Uses, cluster.UseRaft) {
		return 0, agent.ErrNoPlace
	}
	return free, err
}

// idFile names the life of a data directory; package pgctl writes it.
const idFile = "pgquorum.id"

// overwrite writes a file's first bytes, in place and durably.
func overwrite(path string, text []byte, flag int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		if err = unix.Fdatasync(int(f.Fd())); err != nil {
			err = &fs.PathError{Op: "fdatasync", Path: path, Err: err}
		}
	}
	return errors.Join(err, f.Close())
}

// rewrite overwrites a file with what is in it.
func rewrite(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return overwrite(path, text, 0)
}

// writeUnnamed writes a block to a file that has no name and is gone when it is closed.
func writeUnnamed(dir string) error {
	f, err := unnamed(dir)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return flush(dir)
	} else if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func unnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600)
}

// flush fsyncs a directory, unchanged.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// allocated is how much a probe asks for to see whether it gets any, in bytes: little, for while it has it another does
// not.
const allocated = 64 << 10

// allocate asks for some blocks and gives them back. Nothing is flushed: the file system gives its answer from memory.
func allocate(dir string) error {
	f, err := unnamed(dir)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || err != nil && noConcern(err) {
		return nil
	} else if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, allocated)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil
	} else if err != nil {
		err = &fs.PathError{Op: "fallocate", Path: dir, Err: err}
	}
	return errors.Join(err, f.Close())
}

// freeOn gives the bytes that this process may still write on the file system of dir.
func freeOn(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Bavail * uint64(st.Frsize), nil
}

// noConcern says whether an error in PGDATA is not the disk's: nothing is there yet, or it is not ours, which other rules
// see to.
func noConcern(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR)
}

// deviceOf is the device under a directory, if that can be looked at.
func deviceOf(dir string) (device uint64, there bool) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, false
	}
	return st.Dev, true
}
