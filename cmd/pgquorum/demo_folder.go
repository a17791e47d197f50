package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// demoFolder is where everything of a demo stands. Whoever made it removes it.
type demoFolder struct {
	path   string
	made   bool // by this process
	remove bool
}

// maxDemoPath keeps the nodes' sockets within what unix(7) allows: 107 bytes for path/n1/raft/socket/.s.PGSQL.12345.lock.
const maxDemoPath = 65

func openDemoFolder(opt demoOptions) (*demoFolder, error) {
	if opt.prepared {
		return &demoFolder{path: opt.dir}, nil
	}
	if opt.dir == "" {
		path, err := os.MkdirTemp("", "pgquorum-demo-")
		if err != nil {
			return nil, err
		}
		f := &demoFolder{path: path, made: true, remove: !opt.keep}
		if err := checkDemoPath(path); err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		return f, os.Chmod(path, 0o755) // the binary in it is run by another user
	}
	path, err := filepath.Abs(opt.dir)
	if err != nil {
		return nil, err
	}
	if err := checkDemoPath(path); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	if len(entries) > 0 {
		return nil, usage("--dir %s: want a new or empty folder, it holds %s", path, entries[0].Name())
	}
	return &demoFolder{path: path, made: true}, os.MkdirAll(path, 0o755)
}

func checkDemoPath(path string) error {
	if len(path) > maxDemoPath {
		return usage("folder %s: want at most %d characters, because of the sockets in it, have %d; choose another with --dir", path, maxDemoPath, len(path))
	}
	return nil
}

// close ends what may still run there, and removes the folder or says that it stays.
func (f *demoFolder) close(out io.Writer) error {
	if !f.made {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := endDemoProcesses(ctx, f.path, demoGrace); err != nil {
		return err
	}
	if f.remove {
		return os.RemoveAll(f.path)
	}
	fmt.Fprintf(out, "The nodes' files and logs stay in %s; remove it when you like.\n", f.path)
	return nil
}
