package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// EndAll ends every process of opt.DataDir's Postgres at once, without regard to what it does, and returns when none is
// left (U5): the agent's duty when its guard is dead, and the clean-up before a start. It finds them by the guard's
// cgroup and by their working directory, so it needs neither a guard nor a postmaster.pid; a backend whose postmaster
// is dead acknowledges commits for seconds otherwise. A postmaster.pid that is left goes too. An error means that some may
// be left.
func EndAll(ctx context.Context, opt GuardOptions) error {
	opt, err := opt.absolute()
	if err != nil {
		return err
	}
	dataDir, err := realPath(opt.DataDir)
	if err != nil {
		return err
	}
	cg, err := leftCgroup(opt.Dir)
	if err != nil {
		return err
	}
	s, err := newSweeper()
	if err != nil {
		return err
	}
	defer s.close()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left, err := endPass(s, dataDir, cg)
		if left == 0 && err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("postgres in %s: want no process, %d left: %w", dataDir, left, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
	}
	if cg != "" {
		dropCgroup(cg)
	}
	// What was killed cannot have removed its file; its pid used anew, or a zombie's, would keep the server from starting.
	if err := os.Remove(filepath.Join(dataDir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// endPass sends SIGKILL once to all that is left, and counts it.
func endPass(s *sweeper, dataDir, cg string) (left int, err error) {
	if cg != "" {
		populated, err := killCgroup(cg)
		if err != nil {
			return 0, err
		}
		if populated {
			left++
		}
	}
	n, err := s.sweep(target{dataDir: dataDir}, unix.SIGKILL)
	return left + n, err
}
