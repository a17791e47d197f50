package pgctl

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// detail is everything the guard says of itself, from memory.
func (g *guardServer) detail() *GuardDetail {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := &GuardDetail{
		GuardStatus: cluster.GuardStatus{
			Alive: true, PID: os.Getpid(), Term: g.lease.Term, NoPrimary: g.marked,
			Containment: g.containmentLocked(), Locked: g.note.locked, Watchdog: g.watchdogStatus(),
		},
		Version: guardVersion, Lease: g.lease, Fence: g.budget, Grace: g.grace, Fencing: g.fencing != nil, Last: g.last, Notes: g.note.notes,
	}
	if !g.lease.End.IsZero() {
		d.Remaining = g.lease.End.Sub(cluster.Boottime())
	}
	if fr := g.frozen; fr != nil {
		d.Frozen, d.FrozenLeft = fr.term, max(0, fr.until.Sub(cluster.Boottime()))
	}
	if g.pm != nil {
		d.Postmaster, d.Primary = g.pm.pid, g.pm.primary || g.pm.promoted
	}
	return d
}

func (g *guardServer) containment() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.containmentLocked()
}

func (g *guardServer) containmentLocked() string {
	if g.cg != nil {
		return containCgroup
	}
	return containDescendants
}

// notify wakes whoever waits for a change. Called with mu held.
func (g *guardServer) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// await returns nil as soon as done, called with mu held, says true.
func (g *guardServer) await(ctx context.Context, done func() bool) error {
	for {
		g.mu.Lock()
		ok, changed := done(), g.changed
		g.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// push tells the newest session, and keeps the event for the next.
func (g *guardServer) push(e GuardEvent) {
	g.mu.Lock()
	g.last = &e
	s := g.session
	g.mu.Unlock()
	g.log.Info("guard event", "event", e.Kind, "term", e.Term, "detail", e.Detail)
	if s == nil {
		return
	}
	if err := s.send(guardAnswer{Event: &e}); err != nil {
		g.log.Warn("event not sent", "event", e.Kind, "error", err)
	}
}

// prepareQuit makes sure that nothing runs and that nothing will be started.
func (g *guardServer) prepareQuit() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pm != nil || g.spawns > 0 || g.fencing != nil {
		return fmt.Errorf("quit: %w", ErrRunning)
	}
	if g.quitting {
		return fmt.Errorf("%w: the guard is ending already", errBadRequest)
	}
	g.quitting = true
	return nil
}

func (n *guardNotes) add(what string, cause error) {
	n.notes = append(n.notes, fmt.Sprintf("%s: %v", what, cause))
}

// protect locks the guard's memory and makes the kernel spare it when memory runs out, each where permitted.
func (n *guardNotes) protect() {
	if err := lockMemory(); err != nil {
		n.add("memory not locked", err)
	} else {
		n.locked = true
	}
	const path, wanted = "/proc/self/oom_score_adj", "-900"
	before, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(wanted), 0)
	}
	if err != nil {
		n.add("oom_score_adj not lowered", err)
		return
	}
	n.oomBefore = strings.TrimSpace(string(before))
}

// lockMemory keeps the guard's pages in memory once they were touched (the fence is rehearsed for that). A limited
// RLIMIT_MEMLOCK counts address space, of which Go reserves much, and would later fail an allocation, which ends a Go
// program: so only without a limit. Source: mlockall(2), getrlimit(2).
func lockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Cur != unix.RLIM_INFINITY && !mayLockMemory() {
		return fmt.Errorf("want RLIMIT_MEMLOCK unlimited, have %d bytes", limit.Cur)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("mlockall: %w", err)
	}
	return nil
}

// mayLockMemory says whether this process has CAP_IPC_LOCK, which no limit binds.
func mayLockMemory() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// restoreOOM gives Postgres the score that the guard had before it lowered its own.
func (n *guardNotes) restoreOOM(pid int) error {
	if n.oomBefore == "" {
		return nil
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(n.oomBefore), 0); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("postmaster %d: oom_score_adj: %w", pid, err)
	}
	return nil
}

// bootTimer is a timerfd on CLOCK_BOOTTIME: it goes on while the machine is suspended, as the lease does.
type bootTimer struct{ fd int }

func newBootTimer() (*bootTimer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd on CLOCK_BOOTTIME: %w", err)
	}
	return &bootTimer{fd}, nil
}

// set makes the timer ring at i, at once if that has passed, and never for zero.
func (t *bootTimer) set(i cluster.Instant) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(i))}
	if err := unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("timerfd: set %v: %w", time.Duration(i), err)
	}
	return nil
}

// wait blocks the calling thread until the timer rings.
func (t *bootTimer) wait() error {
	var count [8]byte
	for {
		_, err := unix.Read(t.fd, count[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("timerfd: read: %w", err)
		}
		return nil
	}
}
