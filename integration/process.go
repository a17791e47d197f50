package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs on a host until it is ended.
type Process struct {
	PID  int
	done chan struct{}
	err  error // of Wait, once done is closed
}

// Where says on whose network, in which cgroup and as whom a program runs.
type Where struct {
	Network  *Namespace
	Cgroup   string // a directory of cgroup v2
	UID, GID uint32
	Dir      string
	Log      string // standard output and error are appended here
	Env      []string
}

// Start runs a program there. The child is in its cgroup and namespace from its first instruction on.
func (w Where) Start(name string, args ...string) (*Process, error) {
	cgroup, err := os.Open(w.Cgroup)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	log, err := os.OpenFile(w.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.Dir, log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.Dir, "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Env = append(cmd.Env, w.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: w.UID, Gid: w.GID},
		Setsid:      true,
		UseCgroupFD: true,
		CgroupFD:    int(cgroup.Fd()),
	}
	err = forked(func() (int, error) {
		if err := w.Network.Do(cmd.Start); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", name, err)
	}
	p := &Process{PID: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		waited(p.PID)
		close(p.done)
	}()
	return p, nil
}

// Run runs a program to its end; the error carries what it wrote.
func (w Where) Run(ctx context.Context, name string, args ...string) error {
	w.Log = filepath.Join(w.Dir, fmt.Sprintf("run-%d.log", time.Now().UnixNano()))
	p, err := w.Start(name, args...)
	if err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		out, rerr := os.ReadFile(w.Log)
		return errors.Join(fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out)), rerr)
	}
	return os.Remove(w.Log)
}

// Wait waits for the end; a non-zero exit or a signal is an *exec.ExitError.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("pid %d still runs: %w", p.PID, context.Cause(ctx))
	}
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// pidsOf gives every process in a cgroup and in those below it.
func pidsOf(cgroup string) (pids []int, err error) {
	err = filepath.WalkDir(cgroup, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // a cgroup below went away meanwhile
		}
		if err != nil || d.IsDir() || d.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			return nil
		}
		for _, field := range strings.Fields(string(text)) {
			pid, aerr := strconv.Atoi(field)
			if aerr != nil {
				return aerr
			}
			pids = append(pids, pid)
		}
		return err
	})
	return pids, err
}

// commandLine gives a process's arguments; none when it is gone.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
}
