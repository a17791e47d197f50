package pgctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// halt sends SIGSTOP to every descendant of this process that does not stand still, the topmost first, and says how many
// there are and how many of them may still run. It reads the kernel's lists of children, not all of /proc: its time is that
// of Postgres's own processes. A list may miss a process while another on it ends; once all that it shows stand still, the
// next is complete. Source: proc_tid_children(5).
//
// A process in an uninterruptible wait of the kernel (D) counts as standing still: it has the signal pending now, and meets
// it before it returns to its own code. One that a debugger holds (t) does not: the debugger may let it go on.
func (s *sweeper) halt() (found, running int, err error) {
	pids, err := s.childrenOfAll(nil, "self")
	s.lively, s.unread = "", nil
	for i := 0; i < len(pids) && err == nil; i++ { // grows meanwhile
		p, there := s.one(pids[i])
		if !there || p.dead && p.threads <= 1 {
			continue
		}
		found++
		if p.state != 'T' {
			err = unix.Kill(p.pid, unix.SIGSTOP)
		}
		if s.runs(&p) {
			running++
		}
		if err == nil {
			pids, err = s.childrenOfAll(pids, strconv.Itoa(p.pid))
		}
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
			err = nil // it has ended
		}
	}
	if err == nil && s.unread != nil {
		err = fmt.Errorf("/proc: a process could not be looked at: %w", s.unread)
	}
	return found, running, err
}

// childrenOfAll adds the children of every thread of a process.
func (s *sweeper) childrenOfAll(to []int, name string) ([]int, error) {
	tasks, err := os.ReadDir("/proc/" + name + "/task")
	for _, task := range tasks {
		to = s.children(to, name+"/task/"+task.Name())
	}
	return to, err
}

// one looks at one process.
func (s *sweeper) one(pid int) (p process, there bool) {
	s.seen = s.seen[:0]
	clear(s.index)
	s.readStat(strconv.Itoa(pid))
	if len(s.seen) == 0 {
		return p, false
	}
	return s.seen[0], true
}

// running counts the processes of t that do not stand still.
func (s *sweeper) running(t target) (int, error) {
	return s.each(t, func(p *process) (bool, error) { return s.runs(p), nil })
}

// resume sends SIGCONT to every process of t, and says how many of them stood still. It ends a SIGSTOP that is pending as
// well.
func (s *sweeper) resume(t target) (stopped int, err error) {
	return s.each(t, func(p *process) (bool, error) {
		if err := unix.Kill(p.pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return true, fmt.Errorf("continue process %d: %w", p.pid, err)
		}
		return p.state == 'T', nil
	})
}

// gone says whether reading /proc failed because the process, or thread, has ended.
func gone(err error) bool {
	return err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}

// each calls f for every process of t that is not dead, and counts for how many it gave true.
func (s *sweeper) each(t target, f func(*process) (bool, error)) (n int, err error) {
	if err := s.scan(); err != nil {
		return 0, err
	}
	if s.unread != nil {
		return 0, fmt.Errorf("/proc: a process could not be looked at: %w", s.unread)
	}
	s.mark(t)
	s.lively = ""
	for i := range s.seen {
		p := &s.seen[i]
		if !p.target || p.dead && p.threads <= 1 { // a process whose first thread has ended has others that run
			continue
		}
		counts, ferr := f(p)
		if counts {
			n++
		}
		if ferr != nil && err == nil {
			err = ferr
		}
	}
	return n, err
}

// runs says whether any thread of a process may run its own code, once SIGSTOP was sent to it.
func (s *sweeper) runs(p *process) bool {
	if !s.mayRun(p) {
		return false
	}
	s.lively = fmt.Sprintf("process %d in state %c, %d threads", p.pid, p.state, p.threads)
	return true
}

// ran adds to a reason what the last look found running, if anything.
func (s *sweeper) ran(why string) string {
	if s.lively == "" {
		return why
	}
	return why + ": " + s.lively
}

func (s *sweeper) mayRun(p *process) bool {
	if p.threads <= 1 {
		return !still(p.state)
	}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(p.pid) + "/task")
	if err != nil {
		return !gone(err)
	}
	for _, task := range tasks {
		if state, ok := s.taskState(p.pid, task.Name()); ok && !still(state) {
			return true
		}
	}
	return false
}

// still says whether a thread in this state does not run its own code while SIGSTOP is in force. Source: proc_pid_stat(5).
func still(state byte) bool { return state == 'T' || state == 'D' || state == 'Z' || state == 'X' }

// taskState is the state of one thread; not ok: it has ended.
func (s *sweeper) taskState(pid int, task string) (state byte, ok bool) {
	fd, err := unix.Openat(s.proc, strconv.Itoa(pid)+"/task/"+task+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 'R', !gone(err)
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, s.line)
	if err != nil || n <= 0 {
		return 'R', !gone(err)
	}
	line := s.line[:n]
	end := bytes.LastIndexByte(line, ')')
	if end < 0 || end+2 >= len(line) {
		return 'R', true // not understood: it may run
	}
	return line[end+2], true
}
