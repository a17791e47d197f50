package raftfsm

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// B2: the store has its blocks ahead, keeps its length, and keeps what it has when that is done again.
func TestB2StoreHasItsRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := setRoomAside(path); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Blocks*512 < storeRoom || st.Size != int64(len("content")) {
			t.Errorf("%d bytes long, %d set aside, %v; want %d set aside", st.Size, st.Blocks*512, err, storeRoom)
		}
	}
	if err := setRoomAside(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a store that is not there has room")
	}
}
