package pgctl

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// ward is the Postgres that this guard is the parent of, from its fork until the last of its processes is reaped.
type ward struct {
	pid       int
	term      cluster.Term // of its start as a primary, or of its promotion
	primary   bool         // started as a primary
	promoted  bool         // a promotion was ordered; stays true also if that failed
	exited    bool         // the postmaster itself is reaped; others may remain
	status    syscall.WaitStatus
	orderedBy *guardSession // the session that ordered its end; nil: none did
}

// spawner starts processes from one thread that never ends while anything runs: the kernel sends a parent-death signal
// when the thread that forked ends, not only the process (U5). Source: PR_SET_PDEATHSIG(2const).
type spawner struct{ jobs chan spawnJob }

type spawnJob struct {
	argv []string
	attr syscall.ProcAttr
	out  chan spawned
}

type spawned struct {
	pid int
	err error
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan spawnJob)}
	go func() {
		runtime.LockOSThread()
		for j := range s.jobs {
			pid, err := syscall.ForkExec(j.argv[0], j.argv, &j.attr)
			j.out <- spawned{pid, err}
		}
	}()
	return s
}

func (s *spawner) spawn(argv []string, attr syscall.ProcAttr) (int, error) {
	out := make(chan spawned, 1)
	s.jobs <- spawnJob{argv, attr, out}
	r := <-out
	return r.pid, r.err
}

// spawn forks argv into Postgres's cgroup. The caller counted it in g.spawns under mu, together with its checks, so that
// a fence waits for it; adopt, called with mu held, takes the child over before the reaper can look for it.
func (g *guardServer) spawn(argv []string, attr syscall.ProcAttr, adopt func(pid int)) error {
	g.mu.Lock()
	cg := g.cg
	g.mu.Unlock()
	pid, err := g.fork(argv, attr, cg)
	g.mu.Lock()
	g.spawns--
	if err == nil {
		g.childless = false
		adopt(pid)
		if ws, over := g.early[pid]; over {
			g.took(pid, ws)
		}
	}
	if g.spawns == 0 {
		clear(g.early)
	}
	g.notify()
	g.mu.Unlock()
	g.reap() // it may have ended before anybody knew it
	if err != nil {
		return fmt.Errorf("%s: start: %w", argv[0], err)
	}
	return nil
}

// fork forks into cg. Where that is not possible but a plain fork is, the cgroup is given up for good.
func (g *guardServer) fork(argv []string, attr syscall.ProcAttr, cg *cgroup) (int, error) {
	if cg == nil {
		return g.spawner.spawn(argv, attr)
	}
	inside := *attr.Sys
	inside.UseCgroupFD, inside.CgroupFD = true, int(cg.procs.Fd())
	contained := attr
	contained.Sys = &inside
	pid, err := g.spawner.spawn(argv, contained)
	if err == nil || !cannotContain(err) {
		return pid, err
	}
	plain, perr := g.spawner.spawn(argv, attr)
	if perr == nil {
		g.giveUpCgroup(err)
	}
	return plain, perr
}

// cannotContain says whether a fork failed because the kernel, or a filter in front of it, does not let us fork into a
// cgroup (clone3 with CLONE_INTO_CGROUP, Linux 5.7).
func cannotContain(err error) bool {
	for _, e := range []error{unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EBUSY, unix.ENODEV, unix.E2BIG, unix.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (g *guardServer) giveUpCgroup(cause error) {
	g.log.Warn("containment by cgroup given up", "error", cause)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cg = nil
	g.note.add("containment by descendants only", cause)
}

// reap takes the status of every child that has ended, ours or inherited: this process is a subreaper, and nothing in it
// uses os/exec. It does so under mu, so that whoever holds mu knows that the pids it sees are still ours.
func (g *guardServer) reap() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ECHILD):
			g.childless = true
			g.notify()
			return
		case err != nil || pid <= 0:
			return
		default:
			g.took(pid, ws)
		}
	}
}

// took notes that a child ended. Called with mu held.
func (g *guardServer) took(pid int, ws syscall.WaitStatus) {
	if pm := g.pm; pm != nil && pm.pid == pid && !pm.exited {
		pm.exited, pm.status = true, ws
		if g.frozen != nil {
			g.endFrozen(cluster.Boottime(), true, "its postmaster has ended")
		}
		e := GuardEvent{Kind: EventExited, Term: pm.term, Detail: statusText(ws), At: cluster.Boottime()}
		if g.lease.Term != 0 {
			e.Term = g.lease.Term
		}
		go g.clear(pm, e)
		if g.fencing == nil && pm.orderedBy == nil {
			died := e
			died.Kind = EventDied
			go g.push(died)
		}
		return
	}
	if g.spawns > 0 {
		g.early[pid] = ws
	}
}

// clear ends at once what a postmaster left behind: its backends would go on acknowledging commits for seconds (U3). Only
// then is it told that the postmaster exited, unless whoever listens ordered that, or a fence did.
func (g *guardServer) clear(pm *ward, e GuardEvent) {
	s, err := newSweeper()
	if err == nil {
		defer s.close()
		g.killAll(s, g.napOrGone, func() bool { return !g.childless })
	} else {
		g.log.Error("leftovers not swept, waiting for their own end", "error", err)
	}
	g.waitChildless()
	g.mu.Lock()
	g.pm = nil
	g.notify()
	quiet := g.fencing != nil || pm.orderedBy != nil && pm.orderedBy == g.session
	g.mu.Unlock()
	if !quiet {
		g.push(e)
	}
}

// waitChildless returns when wait4 has said that no child, and so no descendant, is left.
func (g *guardServer) waitChildless() {
	for {
		g.mu.Lock()
		ok, changed := g.childless && g.spawns == 0, g.changed
		g.mu.Unlock()
		if ok {
			return
		}
		<-changed
	}
}

// nothingLeft says whether every process is reaped and none is being started. Called with mu held.
func (g *guardServer) nothingLeft() bool { return g.pm == nil && g.spawns == 0 && g.childless }

// target is all that this guard may kill: its descendants, and any Postgres in PGDATA.
func (g *guardServer) target() target {
	return target{root: syscall.Getpid(), dataDir: *g.dataDir.Load()}
}

// statusText says how a process ended, in the words of os.ProcessState.
func statusText(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "signal: " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}
