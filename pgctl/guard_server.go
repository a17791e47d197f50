package pgctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// ErrGuardRuns says that another guard of the same directory lives.
var ErrGuardRuns = errors.New("another guard of this directory runs")

// errRoot says that the guard was started by root.
var errRoot = errors.New("the guard runs as Postgres's user, never as root")

// guardServer is the guard. Its state stands under mu, which nobody holds across I/O: the fencing thread takes it.
type guardServer struct {
	opt     GuardOptions
	log     *slog.Logger
	note    guardNotes
	spawner *spawner
	timer   *bootTimer
	dataDir atomic.Pointer[string] // PGDATA's real path, taken anew at each start

	orders sync.Mutex // one start, or one writing of marks, at a time

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced whenever what follows changes in a way that somebody waits for
	cg        *cgroup       // nil: containment by descendants
	lease     cluster.Lease // zero: none
	budget    time.Duration // F of lease
	grace     time.Duration // how long a primary of lease may stay frozen; 0: it is ended at once (U6)
	frozen    *freeze       // a primary that is frozen, or being frozen; nil: none
	refused   cluster.Term  // leases of terms <= refused are refused
	marked    cluster.Term  // the durable part of refused
	fencing   *fencing      // a fence on its way; nil: none
	pm        *ward         // nil: none, and nothing of a former one either
	spawns    int           // forks under way
	early     map[int]syscall.WaitStatus
	childless bool // wait4 said that this process has no child at all, hence no descendant
	session   *guardSession
	last      *GuardEvent
	quitting  bool
	quit      chan struct{}

	dog guardDog
}

// guardNotes is what the machine permitted.
type guardNotes struct {
	locked    bool
	oomBefore string // oom_score_adj before it was lowered; "": it was not
	notes     []string
}

// RunGuard is the main of the guard's process (U1): it serves opt.Dir/guard.sock until it is told to quit. When ctx ends, or
// on SIGTERM, it stops Postgres first. It takes over the whole process: its signals, its children, its memory. It logs
// to slog's default logger.
func RunGuard(ctx context.Context, opt GuardOptions) error {
	if os.Geteuid() == 0 {
		return fmt.Errorf("guard: %w", errRoot)
	}
	opt, err := opt.absolute()
	if err != nil {
		return err
	}
	syscall.Umask(0o077)
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return fmt.Errorf("guard directory: %w", err)
	}
	lock, err := lockGuard(opt.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	// Received and left unheeded, not ignored: an ignored signal stays ignored in Postgres.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	g, err := newGuardServer(opt, slog.Default())
	if err != nil {
		return err
	}
	return g.run(ctx)
}

// lockGuard makes this the only guard of dir; the kernel drops the lock with the process.
func lockGuard(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, guardLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("guard lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		cause := fmt.Errorf("guard lock %s: %w", f.Name(), err)
		if errors.Is(err, unix.EWOULDBLOCK) {
			cause = fmt.Errorf("%s: %w", dir, ErrGuardRuns)
		}
		return nil, errors.Join(cause, f.Close())
	}
	return f, nil
}

// newGuardServer prepares the process: subreaper, cgroup, memory, marks.
func newGuardServer(opt GuardOptions, log *slog.Logger) (*guardServer, error) {
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(25)
	g := &guardServer{
		opt: opt, log: log, changed: make(chan struct{}), quit: make(chan struct{}),
		early: map[int]syscall.WaitStatus{}, childless: true, dog: newGuardDog(opt.watchdog),
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("guard: become child subreaper: %w", err)
	}
	marked, err := readFenced(opt.Dir)
	if err != nil {
		return nil, err // a guard that forgot its marks could grant a lease of a fenced term
	}
	g.marked, g.refused = marked, marked
	if err := g.lookUpData(); err != nil {
		return nil, err
	}
	if g.cg, err = newCgroup(opt.Dir); err != nil {
		g.note.add("containment by descendants only", err)
	}
	g.note.protect()
	if g.timer, err = newBootTimer(); err != nil {
		return nil, err
	}
	g.spawner = newSpawner()
	return g, nil
}

// lookUpData takes PGDATA's real path, which may have been swapped since.
func (g *guardServer) lookUpData() error {
	path, err := realPath(g.opt.DataDir)
	if err != nil {
		return err
	}
	g.dataDir.Store(&path)
	return nil
}

// run serves until quit, or until ctx ends and Postgres is stopped.
func (g *guardServer) run(ctx context.Context) error {
	listener, err := g.listen()
	if err != nil {
		return err
	}
	fence, err := newFencer(g)
	if err != nil {
		return err
	}
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	go func() {
		for range child {
			g.reap()
		}
	}()
	go fence.run()
	go g.keepWatchdog()
	go g.accept(listener)
	g.log.Info("guard ready", "pid", os.Getpid(), "dir", g.opt.Dir, "containment", g.containment(), "locked", g.note.locked,
		"no_primary", g.marked, "notes", g.note.notes)
	select {
	case <-g.quit:
	case <-ctx.Done():
		g.log.Info("guard told to end, stopping postgres", "reason", context.Cause(ctx))
		g.endOrderly()
	}
	g.leaveWatchdog()
	err = listener.Close() // removes the socket
	if g.cg != nil {
		g.cg.remove()
	}
	g.log.Info("guard ended")
	return err
}

// endOrderly stops Postgres for a guard that has been told to end: no new start, then a fast stop. A lease that runs
// out meanwhile still fences.
func (g *guardServer) endOrderly() {
	g.mu.Lock()
	g.quitting = true
	g.mu.Unlock()
	if err := g.stop(nil, StopFast, 10*time.Second); err != nil {
		g.log.Error("postgres not stopped", "error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.await(ctx, func() bool { return g.fencing == nil }); err != nil {
		g.log.Error("fence not written", "error", err)
	}
}

// listen opens the socket; one that a dead guard left is replaced, since the lock says that it is dead.
func (g *guardServer) listen() (net.Listener, error) {
	path, err := socketPath(g.opt)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("guard socket: %w", err)
	}
	l, err := net.Listen("unix", path) // nobody else can use it, by the process's umask
	if err != nil {
		return nil, fmt.Errorf("guard socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("guard socket: %w", err), l.Close())
	}
	return l, nil
}
