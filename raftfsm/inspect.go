//go:build !wasip1

package raftfsm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// DamageError says that a Raft store cannot be used: what stands in it is not what was written. A store that another
// process holds, that may not be read, or that a newer version wrote is not damaged.
type DamageError struct {
	File  string
	Cause error
}

// Error names the file.
func (e *DamageError) Error() string {
	return fmt.Sprintf("raft store %s is damaged: %v", e.File, e.Cause)
}

// Unwrap gives the cause.
func (e *DamageError) Unwrap() error { return e.Cause }

// inspect reads the whole store before Raft does, and says whether it holds anything. Raft and bbolt end the process on
// much of what they do not expect, at any later time. Not seen: free pages that bbolt's own list misses, and an end of the
// log that the disk has lost (it is then behind, and a vote may be forgotten, against which no store has a means).
func inspect(dir string) (used bool, err error) {
	snaps, err := inspectSnapshots(dir)
	if err != nil {
		return false, err
	}
	path := filepath.Join(dir, logFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if len(snaps) > 0 {
			return true, &DamageError{path, errors.New("it is missing, snapshots are there: its votes are forgotten")}
		}
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("raft store %s: %w", path, err)
	}
	used, err = inspectLog(path, snaps)
	if err != nil && !notDamage(err) {
		err = &DamageError{path, err}
	}
	return used, err
}

// notDamage says whether an error is of the system or of the version and tells nothing of what is in the file.
func notDamage(err error) bool {
	for _, other := range []error{bbolt.ErrTimeout, fs.ErrPermission, syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE, syscall.ENOMEM, errUnknownEntry} {
		if errors.Is(err, other) {
			return true
		}
	}
	return false
}

// inspectSnapshots reads every snapshot that Raft would use: the newest must be whole.
func inspectSnapshots(dir string) ([]*raft.SnapshotMeta, error) {
	if _, err := os.Stat(filepath.Join(dir, "snapshots")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("raft snapshots: %w", err)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, hclog.NewNullLogger())
	if err != nil {
		return nil, fmt.Errorf("raft snapshots in %s: %w", dir, err)
	}
	snaps, err := files.List()
	if err != nil || len(snaps) == 0 {
		return nil, err
	}
	name := filepath.Join(dir, "snapshots", snaps[0].ID)
	_, r, err := files.Open(snaps[0].ID)
	if err != nil { // its checksum is compared here
		return nil, damagedUnless(name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, damagedUnless(name, err)
	}
	if _, err := decodeSnapshot(data); err != nil {
		return nil, fmt.Errorf("raft snapshot %s: %w", name, err) // its checksum was right: another version wrote it
	}
	return snaps, nil
}

func damagedUnless(name string, err error) error {
	if notDamage(err) {
		return fmt.Errorf("raft snapshot %s: %w", name, err)
	}
	return &DamageError{name, err}
}

// inspectLog reads every page and every entry. bbolt maps the file: what is not there is a fault of memory, which is made
// an error here.
func inspectLog(path string, snaps []*raft.SnapshotMeta) (used bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var file *os.File
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read through: %v", p)
			if file != nil { // its mapping stays, and would keep bbolt's lock
				err = errors.Join(err, syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
			}
		}
	}()
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return false, err
	}
	open := func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	err = notCutOff(path, info.Size(), open)
	if errors.Is(err, bbolt.ErrTimeout) {
		return false, fmt.Errorf("raft store %s: want it free, another agent has it open: %w", path, err)
	}
	if err != nil {
		return false, err
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: boltLockTimeout, OpenFile: open}})
	if err != nil {
		return false, err
	}
	used, err = inspectEntries(store, snaps)
	return used, errors.Join(err, store.Close())
}

// notCutOff holds the file's size, in bytes, against the one that bbolt last gave it: what is missing may be free pages, which
// nothing would read today.
func notCutOff(path string, size int64, open func(string, int, os.FileMode) (*os.File, error)) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: boltLockTimeout, OpenFile: open, ReadOnly: true})
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if size < tx.Size() {
			return fmt.Errorf("it is cut off: want %d bytes, have %d", tx.Size(), size)
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// inspectEntries holds the log against its own bounds and the newest snapshot.
func inspectEntries(store *raftboltdb.BoltStore, snaps []*raft.SnapshotMeta) (used bool, err error) {
	term, err := newStableStore(store, newAnswers())
	if err != nil {
		return true, err
	}
	first, err := store.FirstIndex()
	if err != nil {
		return true, err
	}
	last, err := store.LastIndex()
	if err != nil {
		return true, err
	}
	var covered uint64
	if len(snaps) > 0 {
		covered = snaps[0].Index
	}
	switch {
	case first > covered+1:
		return true, fmt.Errorf("the log begins at entry %d, and the newest snapshot ends at %d", first, covered)
	case (covered > 0 || last > 0) && term.Term() == 0:
		return true, errors.New("it holds entries and no term: its votes are forgotten")
	}
	for i := max(first, covered+1); first > 0 && i <= last; i++ { // what a snapshot covers may be there with gaps: loadConfigs
		var l raft.Log
		if err := store.GetLog(i, &l); err != nil {
			return true, fmt.Errorf("entry %d of %d to %d: %w", i, first, last, err)
		}
		if l.Index != i {
			return true, fmt.Errorf("entry %d of %d to %d: it says that it is %d", i, first, last, l.Index)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if _, err := decodeCommand(l.Data); err != nil {
			return true, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return term.Term() > 0 || last > 0 || covered > 0, nil
}
