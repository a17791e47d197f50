package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// diskAdapter is what this node must be able to write, as the agent's probe wants it (B2).
//
// raft.data_dir holds Raft's log and the guard's marks. A file of the probe's own is overwritten there, always in the same
// place and to the same length, so that each probe costs one block and one flush: no metadata changes that fdatasync would
// have to write. For the same reason a full disk does not show where blocks are overwritten in place (ext4, XFS). That is
// meant: neither Raft's store, which reuses its pages, nor recycled WAL needs more room, and a query that fills the disk
// for a second is no reason to move the primary. Where a write of this kind needs room (Btrfs, ZFS, thin volumes), so do
// Raft and WAL, and it shows.
//
// In PGDATA nothing is written: clones and rewinds would copy it. If it, or pg_wal, is on a device of its own, something
// that is there is fsynced unchanged: pgquorum.id, opened for writing so that a file system that has become read-only
// shows, and the directory pg_wal. ext4 and XFS flush the device for a clean file as well, so a device that hangs or fails
// shows; a file system that was only frozen does not. Tablespaces are not looked at.
type diskAdapter struct {
	raftDir, dataDir string
}

// probeFile stands in raft.data_dir; its text is for people.
const probeFile = "probe"

// Probe implements agent.Disk.
func (d diskAdapter) Probe(at func(what string)) error {
	at("raft.data_dir " + d.raftDir)
	if err := overwrite(filepath.Join(d.raftDir, probeFile)); err != nil {
		return fmt.Errorf("raft.data_dir: %w", err)
	}
	probed := []uint64{deviceOf(d.raftDir)}
	wal := filepath.Join(d.dataDir, "pg_wal")
	for _, own := range []struct {
		dir, file string
		flag      int
	}{{d.dataDir, filepath.Join(d.dataDir, "pgquorum.id"), os.O_RDWR}, {wal, wal, os.O_RDONLY}} {
		at("postgresql.data_dir " + own.dir)
		device := deviceOf(own.dir)
		if slices.Contains(probed, device) {
			continue
		}
		probed = append(probed, device)
		if err := flush(own.file, own.flag); err != nil && !noConcern(err) {
			return fmt.Errorf("postgresql.data_dir: %w", err)
		}
	}
	return nil
}

// overwrite writes the time of day into a file, in place and durably.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0)
	if err == nil {
		if err = syscall.Fdatasync(int(f.Fd())); err != nil {
			err = &fs.PathError{Op: "fdatasync", Path: path, Err: err}
		}
	}
	return errors.Join(err, f.Close())
}

// flush fsyncs what is there, unchanged.
func flush(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// noConcern says whether an error in PGDATA is not the disk's: nothing is there yet, or it is not ours, which other rules
// see to.
func noConcern(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR)
}

// deviceOf is the device under a directory; 0, which no device has, when it cannot be looked at.
func deviceOf(dir string) uint64 {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return 0
	}
	return st.Dev
}
