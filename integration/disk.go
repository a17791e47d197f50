package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FIFREEZE and FITHAW of linux/fs.h, _IOWR('X', 119, int) and _IOWR('X', 120, int): what fsfreeze(8) calls.
const (
	ioctlFreeze = 0xC0045877
	ioctlThaw   = 0xC0045878
)

// diskSize is that of a host's own disk, unless another is asked for; the file is sparse.
const diskSize = 4 << 30

// home is where raft.data_dir and PGDATA stand: on the host's own disk, if it has one.
func (h *Host) home() string {
	if h.ownDisk {
		return filepath.Join(h.Dir, "disk")
	}
	return h.Dir
}

// makeDisk gives the host a disk of its own: ext4 in a file, on a loop device that goes away with its mount.
func (h *Host) makeDisk(size int64, raftApart bool) error {
	h.ownDisk, h.raftApart = true, raftApart
	if size == 0 {
		size = diskSize
	}
	image := h.image()
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(h.home(), 0o755)); err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", "-m", "0", "-e", "remount-ro", image); err != nil {
		return err
	}
	if err := command("mount", "-o", "loop", image, h.home()); err != nil {
		return err
	}
	return os.Chown(h.home(), int(h.lab.UID), int(h.lab.GID))
}

func (h *Host) image() string { return h.Dir + ".img" }

// FillDisk leaves no room on the host's own disk, but for what is there already.
func (h *Host) FillDisk() error {
	f, err := os.OpenFile(filepath.Join(h.home(), fillFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var end int64
	for size := int64(1 << 30); size >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, size); {
		case err == nil:
			end += size
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		default:
			return fmt.Errorf("%s: fallocate: %w", f.Name(), err)
		}
	}
	return nil
}

// FreeDisk takes back what FillDisk has done.
func (h *Host) FreeDisk() error { return os.Remove(filepath.Join(h.home(), fillFile)) }

const fillFile = "fill"

// BreakDisk makes the host's own disk read-only, as ext4 does by itself when it finds an error (errors=remount-ro).
func (h *Host) BreakDisk() error {
	for _, loop := range loopsOn(h.image()) {
		if err := os.WriteFile(filepath.Join("/sys/fs/ext4", loop, "trigger_fs_error"), []byte("the disk is to be read-only"), 0); err != nil {
			return err
		}
	}
	return nil
}

// RepairDisk checks the disk of a host that has crashed, and mounts it again.
func (h *Host) RepairDisk() error {
	if err := command("umount", h.home()); err != nil {
		return err
	}
	var ended *exec.ExitError
	if err := command("e2fsck", "-fy", h.image()); err != nil && !(errors.As(err, &ended) && ended.ExitCode() == 1) { // 1: errors were corrected
		return err
	}
	return command("mount", "-o", "loop", h.image(), h.home())
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
