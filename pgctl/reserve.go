package pgctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reserveFile holds room for the guard's marks beside them, and reserveSize is how much: dozens of marks. A disk that
// Postgres has filled must not keep its node from fencing durably (U4) or from promising (V1), since both are how it
// gives up to another that has room (B2).
const (
	reserveFile = "reserve"
	reserveSize = 256 << 10
)

// KeepReserve makes the reserve of a directory of marks, if it is not there. Where the file system cannot set blocks aside
// there is none.
func KeepReserve(dir string) error {
	path := filepath.Join(dir, reserveFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if err = errors.Join(err, f.Close()); err == nil {
		return nil
	}
	_ = os.Remove(path) // the first error is the one that counts
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return fmt.Errorf("%s: reserve: %w", path, err)
}

// withReserve runs a write into dir, and once more with the reserve given up when there is no room.
func withReserve(dir string, write func() error) error {
	err := write()
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || os.Remove(filepath.Join(dir, reserveFile)) != nil {
		return err
	}
	return write()
}
