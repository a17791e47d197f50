package pgctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	guardSocket = "guard.sock"
	guardLog    = "guard.log"
	guardLock   = "guard.lock"

	guardUp      = 10 * time.Second     // for a new guard to answer
	guardPoll    = 5 * time.Millisecond // between tries while it comes up
	maxSocketLen = 107                  // sun_path, unix(7), without its final zero
)

// ConnectGuard begins a session with the running guard of opt.Dir; older sessions are refused from then on. ErrNoGuard:
// none answers. ErrGuardVersion: it cannot speak ours.
func ConnectGuard(ctx context.Context, opt GuardOptions, log *slog.Logger) (*Guard, error) {
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	path, err := socketPath(opt)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("guard %s: %w: %w", opt.Dir, ErrNoGuard, err)
	}
	if err != nil {
		return nil, fmt.Errorf("guard %s: connect: %w", opt.Dir, err)
	}
	g, err := newGuard(ctx, conn, log)
	if err != nil {
		return nil, fmt.Errorf("guard %s: %w", opt.Dir, err)
	}
	return g, nil
}

// SpawnGuard starts `exe guard --dir ... --data-dir ... --bin-dir ...` and connects to it. The guard has a session, a
// working directory and a log of its own (Dir/guard.log), so it outlives the agent. Call ConnectGuard first: a second
// guard of the same directory ends by itself, and then the first one answers.
func SpawnGuard(ctx context.Context, exe string, opt GuardOptions, log *slog.Logger) (*Guard, error) {
	ctx, cancel := context.WithTimeout(ctx, guardUp)
	defer cancel()
	opt, err := opt.absolute()
	if err != nil {
		return nil, err
	}
	ended, err := launchGuard(exe, opt)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(guardPoll)
	defer tick.Stop()
	for {
		g, err := ConnectGuard(ctx, opt, log)
		if err == nil || !errors.Is(err, ErrNoGuard) {
			return g, err
		}
		select {
		case wait := <-ended:
			return nil, fmt.Errorf("guard %s: ended at once, see %s: %w", opt.Dir, filepath.Join(opt.Dir, guardLog), errors.Join(wait, ErrNoGuard))
		case <-ctx.Done():
			return nil, fmt.Errorf("guard %s: started, but no answer: %w", opt.Dir, errors.Join(ctx.Err(), ErrNoGuard))
		case <-tick.C:
		}
	}
}

// launchGuard starts the process; ended gets its exit once, should it end before this process does.
func launchGuard(exe string, opt GuardOptions) (ended <-chan error, err error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("guard directory: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(opt.Dir, guardLog), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("guard log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(exe, "guard", "--dir", opt.Dir, "--data-dir", opt.DataDir, "--bin-dir", opt.BinDir)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("guard %s: start %s: %w", opt.Dir, exe, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // reaps it; it lives as long as the guard does
	return done, nil
}

// absolute gives the options with paths that do not depend on a working directory.
func (o GuardOptions) absolute() (GuardOptions, error) {
	for name, p := range map[string]*string{"guard directory": &o.Dir, "data directory": &o.DataDir, "binaries": &o.BinDir} {
		if *p == "" {
			return o, fmt.Errorf("guard: %s: want a path, have none", name)
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return o, fmt.Errorf("guard: %s %s: %w", name, *p, err)
		}
		*p = abs
	}
	return o, nil
}

func socketPath(opt GuardOptions) (string, error) {
	path := filepath.Join(opt.Dir, guardSocket)
	if len(path) > maxSocketLen {
		return "", fmt.Errorf("guard socket %s: path is %d bytes long, a unix socket's may have %d: choose a shorter raft.data_dir", path, len(path), maxSocketLen)
	}
	return path, nil
}
