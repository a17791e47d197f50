//go:build !wasip1

package raftfsm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// storeRoom is the room of Raft's store, in bytes. Its log is compacted and its pages are used again, so that it rarely
// needs as much.
const storeRoom = 16 << 20

// setRoomAside gives the store at path its blocks ahead, beyond its end too: on a disk that WAL has filled the node can
// still vote, follow and, as leader, record that the key is released (B2). A disk that is full already, or a file system
// that cannot set blocks aside, leaves the store as it is.
func setRoomAside(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("raft store: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, storeRoom)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("raft store %s: %d bytes set aside: %w", path, storeRoom, err)
	}
	return nil
}
