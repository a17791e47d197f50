package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// B2: a write that finds no room is made again with the reserve given up, once; other errors leave it alone.
func TestReserve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, reserveFile)
	for range 2 { // the second finds it there
		if err := KeepReserve(dir); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 < reserveSize {
		t.Fatalf("%d bytes of blocks, %v", st.Blocks*512, err)
	}
	for _, c := range []struct {
		name string
		errs []error // of the tries
		want error
		left bool
	}{
		{"it succeeds", []error{nil}, nil, true},
		{"another error", []error{syscall.EIO}, syscall.EIO, true},
		{"no room at first", []error{&os.PathError{Err: syscall.ENOSPC}, nil}, nil, false},
		{"no reserve", []error{syscall.ENOSPC}, syscall.ENOSPC, false},
	} {
		tries := 0
		err := withReserve(dir, func() error {
			tries++
			return c.errs[tries-1]
		})
		_, gone := os.Stat(path)
		if !errors.Is(err, c.want) || tries != len(c.errs) || (gone == nil) != c.left {
			t.Errorf("%s: %v after %d tries; the reserve: %v", c.name, err, tries, gone)
		}
	}
}
