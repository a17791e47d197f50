package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

const (
	cleanUp   = 10 * time.Second // for the orphans before a start to end
	quitGrace = time.Second      // from SIGQUIT to SIGKILL in a stop without a deadline of its own
)

// start starts a postmaster (U2): a primary only under a live lease of its term, anything else only with standby.signal.
func (g *guardServer) start(r StartRequest) error {
	g.orders.Lock()
	defer g.orders.Unlock()
	if r.Primary {
		g.armWatchdog(r.Term)
	}
	if err := g.mayStart(r, false); err != nil {
		return err
	}
	if err := g.lookUpData(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	if err := EndAll(ctx, g.opt); err != nil {
		return fmt.Errorf("start: orphans: %w", err)
	}
	if err := g.renewCgroup(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if !r.Primary {
		if _, err := os.Stat(filepath.Join(g.opt.DataDir, standbySignal)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = ErrNoStandby
			}
			return fmt.Errorf("start as a standby: %w", err)
		}
	}
	return g.launch(r)
}

// renewCgroup gives the next Postgres an unused cgroup. The fencing thread may still hold the former one: it finds its
// files closed and takes the new ones.
func (g *guardServer) renewCgroup() error {
	g.mu.Lock()
	former := g.cg
	g.mu.Unlock()
	if former == nil {
		return nil
	}
	fresh, err := former.renew()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.cg = fresh
	g.mu.Unlock()
	former.close()
	return nil
}

// mayStart checks what start needs. With count it also counts the fork that follows, so that no fence can miss it.
func (g *guardServer) mayStart(r StartRequest, count bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.quitting:
		return errors.New("start: the guard is ending")
	case g.fencing != nil:
		return fmt.Errorf("start: the fence of term %d is under way", g.fencing.term)
	case g.pm != nil:
		return fmt.Errorf("start: %w: %d", ErrRunning, g.pm.pid)
	}
	if r.Primary {
		if err := g.holds(r.Term); err != nil {
			return fmt.Errorf("start as a primary: %w", err)
		}
		if err := g.watched(); err != nil {
			return fmt.Errorf("start as a primary: %w", err)
		}
	}
	if count {
		g.spawns++
	}
	return nil
}

// launch forks the postmaster. Between the check and the fork a fence may have begun: then the new process dies before
// anything else happens.
func (g *guardServer) launch(r StartRequest) error {
	files, err := openStdio(r.LogFile)
	if err != nil {
		return err
	}
	defer closeAll(files)
	attr := syscall.ProcAttr{
		Dir: g.opt.DataDir, Env: serverEnv(os.Environ()), Files: descriptors(files),
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}, // U5
	}
	argv := append([]string{filepath.Join(g.opt.BinDir, "postgres"), "-D", g.opt.DataDir}, r.Args...)
	if err := g.mayStart(r, true); err != nil {
		return err
	}
	var late error
	err = g.spawn(argv, attr, func(pid int) {
		g.pm = &ward{pid: pid, term: r.Term, primary: r.Primary}
		if g.fencing != nil {
			late = fmt.Errorf("%w: term %d was fenced during the start", ErrLeaseRefused, g.fencing.term)
			_ = unix.Kill(pid, unix.SIGKILL) // unreaped, so it is ours
			return
		}
		if err := g.note.restoreOOM(pid); err != nil {
			g.note.add("postgres keeps the guard's oom_score_adj", err)
		}
	})
	if err != nil {
		return err
	}
	return late
}

// serverEnv leaves out what would give a WAL receiver a password other than its passfile's (V2).
func serverEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"}, name)
	})
}

// promoteSignal is a file in PGDATA that, seen at a SIGUSR1, is the order to promote; a start removes a left one.
// Source: CheckPromoteSignal and process_pm_pmsignal, PostgreSQL 12 to 18; pg_ctl promote does the same.
const promoteSignal = "promote"

// promote orders the promotion under a live lease (U2), and does not wait for it. It gives the order as pg_ctl does, without
// the processes of pg_ctl: they come at the very moment when nobody can write. The file alone may be enough, since
// children send the postmaster SIGUSR1 too; so what is not wanted any more after it counts as promoted, and the fence
// that stands in the way ends it.
func (g *guardServer) promote(t cluster.Term) error {
	g.armWatchdog(t)
	if err := g.mayPromote(t); err != nil {
		return err
	}
	path := filepath.Join(g.opt.DataDir, promoteSignal)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	err := g.sendPromote(t)
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// sendPromote is the signal, if the lease and the postmaster are still there.
func (g *guardServer) sendPromote(t cluster.Term) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.promotable(t); err != nil {
		return err
	}
	if err := unix.Kill(g.pm.pid, unix.SIGUSR1); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return nil
}

// mayPromote checks, and notes the promotion before it can happen.
func (g *guardServer) mayPromote(t cluster.Term) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.promotable(t); err != nil {
		return err
	}
	g.pm.promoted, g.pm.term = true, t
	return nil
}

// promotable says whether there is a postmaster and a live lease of t for it. Called with mu held.
func (g *guardServer) promotable(t cluster.Term) error {
	switch {
	case g.quitting || g.fencing != nil:
		return fmt.Errorf("promote: %w: postgres is being ended", ErrLeaseRefused)
	case g.frozen != nil:
		return fmt.Errorf("promote: %w in term %d", ErrFrozen, g.frozen.term)
	case g.pm == nil || g.pm.exited:
		return fmt.Errorf("promote: %w", ErrNotRunning)
	}
	if err := g.holds(t); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := g.watched(); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return nil
}

// stop ends Postgres in stages and returns when all of it is reaped. It holds nothing that a fence needs.
func (g *guardServer) stop(s *guardSession, mode StopMode, deadline time.Duration) error {
	if g.endFrozenByOrder(s) != nil {
		g.stopped(0) // not for the marks: their disk may hang
		return nil
	}
	switch mode {
	case StopFast:
		if g.signal(s, unix.SIGINT) && g.stopped(deadline) {
			return nil
		}
		deadline = quitGrace
	case StopImmediate:
		if deadline <= 0 {
			deadline = quitGrace
		}
	default:
		return fmt.Errorf("%w: stop mode %q", errBadRequest, mode)
	}
	if g.signal(s, unix.SIGQUIT) && g.stopped(deadline) {
		return nil
	}
	sweep, err := newSweeper()
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	defer sweep.close()
	g.mu.Lock()
	pm := g.pm
	g.mu.Unlock()
	if pm != nil {
		g.killAll(sweep, g.napOrGone, func() bool { return g.pm == pm })
	}
	g.stopped(0)
	return nil
}

// signal sends sig to the postmaster, as an order of s. It gives false only if there was a mistake in sending.
func (g *guardServer) signal(s *guardSession, sig unix.Signal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pm == nil || g.pm.exited {
		return true
	}
	if s != nil {
		g.pm.orderedBy = s
	}
	if g.frozen != nil { // since stop looked: it heeds SIGKILL only
		g.endFrozen(cluster.Boottime(), false, "ordered to stop")
		return true
	}
	return unix.Kill(g.pm.pid, sig) == nil
}

// stopped waits until nothing of Postgres is left, for limit at most (0: without limit).
func (g *guardServer) stopped(limit time.Duration) bool {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	return g.await(ctx, g.nothingLeft) == nil
}

func (g *guardServer) reload() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pm == nil || g.pm.exited {
		return fmt.Errorf("reload: %w", ErrNotRunning)
	}
	if g.frozen != nil {
		return fmt.Errorf("reload: %w in term %d", ErrFrozen, g.frozen.term)
	}
	if err := unix.Kill(g.pm.pid, unix.SIGHUP); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// openStdio opens a postmaster's stdin, stdout and stderr.
func openStdio(logFile string) ([]*os.File, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	if logFile == "" {
		return []*os.File{null, os.Stdout, os.Stderr}, nil
	}
	log, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start: log: %w", err), null.Close())
	}
	return []*os.File{null, log, log}, nil
}

func descriptors(files []*os.File) []uintptr {
	fds := make([]uintptr, len(files))
	for i, f := range files {
		fds[i] = f.Fd()
	}
	return fds
}

// closeAll closes what openStdio opened, and leaves the guard's own log.
func closeAll(files []*os.File) {
	for _, f := range files {
		if f != os.Stdout && f != os.Stderr {
			_ = f.Close() // the child has its own; a second close of one file is harmless
		}
	}
}
