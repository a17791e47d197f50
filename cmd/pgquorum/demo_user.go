package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// demoUsers are whom root runs the demo as: the first that exists.
var demoUsers = []string{"postgres", "nobody"}

// runDemoAsUser gives the folder to an ordinary user and runs the demo as that user. It ends as the demo does.
func runDemoAsUser(ctx context.Context, env environment, opt demoOptions, folder *demoFolder) error {
	name, who, err := demoUser()
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "Started by root, which PostgreSQL refuses: all runs as the user %s.\n", name)
	if err := os.Chown(folder.path, int(who.Uid), int(who.Gid)); err != nil {
		return err
	}
	exe, err := reachableBinary(ctx, folder.path, who)
	if err != nil {
		return err
	}
	args := []string{"demo", "--prepared", "--dir", folder.path}
	if opt.keep {
		args = append(args, "--keep")
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir, cmd.Env = folder.path, demoEnv(folder.path)
	cmd.Stdout, cmd.Stderr = env.Out, env.Err
	// A group of its own: Ctrl-C comes to it once, from here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return &exitError{code: exit.ExitCode(), err: errors.New("")} // it has said why
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("demo as user %s in %s: %w", name, folder.path, err)
	case cmd.ProcessState == nil:
		return errDemoInterrupted
	case !cmd.ProcessState.Success():
		return err
	}
	return nil // also when it was interrupted and calls that its proper end: --keep
}

func demoUser() (name string, who *syscall.Credential, err error) {
	for _, name := range demoUsers {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return "", nil, fmt.Errorf("user %s: uid: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return "", nil, fmt.Errorf("user %s: gid: %w", name, err)
		}
		return name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return "", nil, fmt.Errorf("demo: started by root, and none of the users %v exists to run PostgreSQL; start it as an ordinary user", demoUsers)
}

// reachableBinary gives the path of this program for another user: where it is, or a copy in the folder.
func reachableBinary(ctx context.Context, dir string, who *syscall.Credential) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	try := exec.CommandContext(ctx, exe, "version")
	try.Dir, try.SysProcAttr = "/", &syscall.SysProcAttr{Credential: who}
	if try.Run() == nil {
		return exe, nil
	}
	to := filepath.Join(dir, "pgquorum")
	if err := copyBinary(exe, to); err != nil {
		return "", fmt.Errorf("copy of this program for the demo's user: %w", err)
	}
	return to, nil
}

func copyBinary(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// demoEnv is the environment of the demo's processes: nothing of the caller's that could change what they do.
func demoEnv(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + os.TempDir(), "LC_ALL=C", "TZ=" + os.Getenv("TZ")}
}
