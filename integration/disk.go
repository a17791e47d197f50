package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FIFREEZE and FITHAW of linux/fs.h, _IOWR('X', 119, int) and _IOWR('X', 120, int): what fsfreeze(8) calls.
const (
	ioctlFreeze = 0xC0045877
	ioctlThaw   = 0xC0045878
)

// diskSize is that of a host's own disk; the file is sparse.
const diskSize = 4 << 30

// home is where raft.data_dir and PGDATA stand: on the host's own disk, if it has one.
func (h *Host) home() string {
	if h.ownDisk {
		return filepath.Join(h.Dir, "disk")
	}
	return h.Dir
}

// makeDisk gives the host a disk of its own: ext4 in a file, on a loop device that goes away with its mount.
func (h *Host) makeDisk() error {
	h.ownDisk = true
	image := h.Dir + ".img"
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close(), os.Mkdir(h.home(), 0o755)); err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", "-m", "0", image); err != nil {
		return err
	}
	if err := command("mount", "-o", "loop", image, h.home()); err != nil {
		return err
	}
	return os.Chown(h.home(), int(h.lab.UID), int(h.lab.GID))
}

// FreezeDisk makes every write to the host's own disk hang; reads go on. A process that hangs in a write cannot be killed
// until ThawDisk.
func (h *Host) FreezeDisk() error { return onMount(h.home(), ioctlFreeze) }

// ThawDisk lets the writes go on.
func (h *Host) ThawDisk() error { return onMount(h.home(), ioctlThaw) }

func onMount(path string, request uint) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil {
		return fmt.Errorf("%s: ioctl %#x: %w", path, request, err)
	}
	return nil
}

// thawUnder thaws every frozen file system at or below dir: what hangs in a write to one can neither be killed nor be
// unmounted under.
func thawUnder(dir string) error {
	mounts, err := mountsUnder(dir)
	errs := []error{err}
	for _, m := range mounts {
		err := onMount(m, ioctlThaw)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) { // not frozen; never is
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// mountsUnder gives every mount below dir.
func mountsUnder(dir string) (paths []string, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			paths = append(paths, f[1])
		}
	}
	return paths, nil
}

// loopsOn gives the loop devices whose file's path has a text in it.
func loopsOn(text string) (loops []string) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is well formed
	for _, file := range files {
		if path, err := os.ReadFile(file); err == nil && strings.Contains(string(path), text) {
			loops = append(loops, filepath.Base(filepath.Dir(filepath.Dir(file))))
		}
	}
	return loops
}
