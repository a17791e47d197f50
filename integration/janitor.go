package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// janitorFor tells a re-executed test binary that it is the janitor, and of which process.
const janitorFor = "PGQUORUM_JANITOR_FOR"

// StartJanitor starts a process that waits until this one is gone, however it ends (also by SIGKILL, a panic or the
// test timeout), and then removes what it left behind. It reads from a pipe whose other end is life: the caller keeps it
// open until it is done, and the kernel closes it when the caller cannot.
func StartJanitor() (life *os.File, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", janitorFor, os.Getpid()))
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt from the terminal must not end it
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return write, nil
}

// RunJanitor is the janitor's main. It says whether this process is one.
func RunJanitor() bool {
	pid, err := strconv.Atoi(os.Getenv(janitorFor))
	if err != nil {
		return false
	}
	// Nothing is ever written to the pipe: any end of the read means that the owner is gone.
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = Sweep(pid)
	return true
}

var ownedName = regexp.MustCompile(`^pgq-(\d+)-`)

// SweepDead removes what processes left that no longer live. What carries this process's own number was left too: it is
// called before anything is made.
func SweepDead() error {
	pids := map[int]bool{}
	for _, where := range []string{os.TempDir(), netnsDir, cgroupMount()} {
		entries, err := os.ReadDir(where)
		if err != nil {
			continue // the directory of namespaces comes with the first of them
		}
		for _, e := range entries {
			if m := ownedName.FindStringSubmatch(e.Name()); m != nil {
				pid, _ := strconv.Atoi(m[1])
				pids[pid] = true
			}
		}
	}
	var errs []error
	for pid := range pids {
		if pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			errs = append(errs, Sweep(pid))
		}
	}
	return errors.Join(errs...)
}

// Sweep removes everything that carries the process's name: processes by their cgroup, namespaces, mounts, directories.
func Sweep(pid int) error { return sweep(owned(pid, "")) }

// sweep removes everything whose name begins with prefix.
func sweep(prefix string) error {
	dirs, err := end(prefix)
	errs := []error{err}
	for _, dir := range dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// end ends all processes whose names begin with prefix, and removes their namespaces and mounts; the directories are left,
// in which nobody writes any more.
func end(prefix string) (dirs []string, err error) {
	var errs []error
	for _, dir := range named(os.TempDir(), prefix) {
		errs = append(errs, thawUnder(dir)) // first of all: nothing that hangs in a write can be killed
	}
	for _, cgroup := range named(cgroupMount(), prefix) {
		errs = append(errs, removeCgroup(cgroup))
	}
	for _, ns := range named(netnsDir, prefix) {
		errs = append(errs, command("ip", "netns", "delete", filepath.Base(ns)))
	}
	dirs = named(os.TempDir(), prefix)
	for _, dir := range dirs {
		errs = append(errs, unmountUnder(dir))
	}
	return dirs, errors.Join(errs...)
}

func named(dir, prefix string) (paths []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

func cgroupMount() string {
	var l Lab
	if l.lookCgroups() != nil {
		return ""
	}
	return l.cgroups
}

// removeCgroup kills all that runs under a cgroup and removes it with those below it.
func removeCgroup(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if err := killCgroup(ctx, dir); err != nil {
		return err
	}
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- { // the deepest come last
		// A killed process leaves its cgroup a moment after it stopped to be counted in "populated".
		if err := until(ctx, 10*time.Millisecond, func() error { return syscall.Rmdir(dirs[i]) }); err != nil {
			return fmt.Errorf("cgroup %s: %w", dirs[i], err)
		}
	}
	return nil
}

// killCgroup sends SIGKILL to everything under a cgroup in one step and waits until nothing is left.
func killCgroup(ctx context.Context, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return err
	}
	return until(ctx, 2*time.Millisecond, func() error {
		events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if err == nil && !strings.Contains(string(events), "populated 0") {
			err = fmt.Errorf("cgroup %s: still populated", dir)
		}
		return err
	})
}

// unmountUnder detaches every mount at or below dir.
func unmountUnder(dir string) error {
	mounts, err := mountsUnder(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := syscall.Unmount(m, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	return nil
}

// until tries f again and again, with a pause, until it succeeds; the error is f's last when ctx ends first.
func until(ctx context.Context, pause time.Duration, f func() error) error {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (gave up: %w)", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
