package pgctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// sweeper finds in /proc the processes of one Postgres, and signals them. It keeps /proc open and its buffers between
// sweeps, and touches no file of a disk: the fencing thread sweeps (U3). One goroutine at a time.
type sweeper struct {
	proc  int // descriptor of /proc
	self  int
	uid   uint32
	dents []byte
	line  []byte
	seen  []process
	index map[int]int // pid -> place in seen

	lively string // what the last look at processes that should stand still found running
	unread error  // why a process that is there was not seen, in the last scan; nil: all were
}

// process is one line of /proc/<pid>/stat.
type process struct {
	pid, ppid int
	state     byte
	threads   int
	dead      bool // a zombie: it runs no more code, its parent has yet to reap it
	postgres  bool // its command name is postgres
	target    bool
}

// target says whose processes a sweep is after.
type target struct {
	root    int    // all descendants of this process; 0: of none
	dataDir string // every postgres with this working directory, and its descendants; PGDATA's real path, "": none
}

func newSweeper() (*sweeper, error) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc: open: %w", err)
	}
	return &sweeper{
		proc: fd, self: os.Getpid(), uid: uint32(os.Geteuid()),
		dents: make([]byte, 32<<10), line: make([]byte, 1<<10),
		seen: make([]process, 0, 1024), index: make(map[int]int, 1024),
	}, nil
}

func (s *sweeper) close() { _ = unix.Close(s.proc) } // opened for reading only: nothing can be lost

// sweep sends sig to every living process of t, the topmost first so that they start no more, and says how many there
// were. New ones may have come meanwhile: whoever wants an end repeats it until it gives 0.
func (s *sweeper) sweep(t target, sig unix.Signal) (int, error) {
	if err := s.scan(); err != nil {
		return 0, err
	}
	s.mark(t)
	left := 0
	var firstErr error
	for _, p := range s.seen {
		if !p.target || p.dead {
			continue
		}
		err := unix.Kill(p.pid, sig)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		left++
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("signal %v to process %d: %w", sig, p.pid, err)
		}
	}
	return left, firstErr
}

// strike sends sig to the descendants of this process as the kernel lists them, without looking at any other process:
// on a machine with thousands of them a full scan takes longer than a fence may. The lists may miss a process (one that
// has just been reparented, a child of a thread, a kernel without CONFIG_PROC_CHILDREN), so a sweep follows. It gives how
// many it signalled, zombies included.
func (s *sweeper) strike(sig unix.Signal) int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	var found []int
	for _, task := range tasks {
		found = s.children(found, "self/task/"+task.Name())
	}
	for i := 0; i < len(found); i++ { // grows meanwhile
		name := strconv.Itoa(found[i])
		found = s.children(found, name+"/task/"+name) // before the signal: the dead have no children
		_ = unix.Kill(found[i], sig)                  // one that has ended needs nothing
	}
	return len(found)
}

// children adds the children of one thread. Source: proc_tid_children(5).
func (s *sweeper) children(to []int, task string) []int {
	fd, err := unix.Openat(s.proc, task+"/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.missed(err)
		return to
	}
	defer unix.Close(fd)
	var list []byte
	for {
		n, err := unix.Read(fd, s.dents)
		if n <= 0 || err != nil {
			s.missed(err)
			break
		}
		list = append(list, s.dents[:n]...)
	}
	for _, f := range bytes.Fields(list) {
		if pid, err := strconv.Atoi(string(f)); err == nil {
			to = append(to, pid)
		}
	}
	return to
}

// missed notes that a process could not be looked at, unless it has ended, or is another user's and hidden.
func (s *sweeper) missed(err error) {
	if !gone(err) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		s.unread = err
	}
}

// mark chooses the processes of t among those seen.
func (s *sweeper) mark(t target) {
	for i := range s.seen {
		p := &s.seen[i]
		if t.dataDir != "" && p.postgres && p.pid != s.self {
			p.target = s.worksIn(p.pid, t.dataDir)
		}
	}
	for changed := true; changed; {
		changed = false
		for i := range s.seen {
			p := &s.seen[i]
			if p.target || p.pid == s.self {
				continue
			}
			if parent, known := s.index[p.ppid]; p.ppid == t.root && t.root != 0 || known && s.seen[parent].target {
				p.target, changed = true, true
			}
		}
	}
}

// worksIn says whether pid is ours and its working directory is dir, also one that was removed since. The link is read,
// never followed: following could wait for a disk.
func (s *sweeper) worksIn(pid int, dir string) bool {
	var st unix.Stat_t
	name := strconv.Itoa(pid)
	if s.uid != 0 && (unix.Fstatat(s.proc, name, &st, 0) != nil || st.Uid != s.uid) {
		return false
	}
	n, err := unix.Readlinkat(s.proc, name+"/cwd", s.line)
	for err == nil && n == len(s.line) { // it may have been cut short
		s.line = make([]byte, 2*len(s.line))
		n, err = unix.Readlinkat(s.proc, name+"/cwd", s.line)
	}
	if err != nil {
		return false // it ended meanwhile
	}
	cwd := bytes.TrimSuffix(s.line[:n], []byte(" (deleted)"))
	return string(cwd) == dir
}

// scan reads all of /proc. A process that ends meanwhile is left out.
func (s *sweeper) scan() error {
	s.seen, s.unread = s.seen[:0], nil
	clear(s.index)
	if _, err := unix.Seek(s.proc, 0, 0); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for {
		n, err := unix.Getdents(s.proc, s.dents)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("/proc: read: %w", err)
		}
		if n == 0 {
			return nil
		}
		var names []string
		_, _, names = unix.ParseDirent(s.dents[:n], -1, names)
		for _, name := range names {
			if name[0] >= '1' && name[0] <= '9' {
				s.readStat(name)
			}
		}
	}
}

// readStat adds the process called name to seen. Fields: proc(5), /proc/pid/stat; the command name may hold anything,
// so the fields after it are counted from its last parenthesis.
func (s *sweeper) readStat(name string) {
	fd, err := unix.Openat(s.proc, name+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.missed(err)
		return
	}
	n, err := unix.Read(fd, s.line)
	_ = unix.Close(fd)
	if err != nil || n <= 0 {
		return
	}
	line := s.line[:n]
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return
	}
	rest := bytes.Fields(line[end+1:])
	pid, err := strconv.Atoi(name)
	if err != nil || len(rest) < 18 {
		return
	}
	ppid, err := strconv.Atoi(string(rest[1]))
	if err != nil {
		return
	}
	threads, err := strconv.Atoi(string(rest[17]))
	if err != nil {
		return
	}
	state := rest[0][0]
	s.index[pid] = len(s.seen)
	s.seen = append(s.seen, process{
		pid: pid, ppid: ppid, state: state, threads: threads,
		dead:     state == 'Z' || state == 'X',
		postgres: string(line[open+1:end]) == "postgres",
	})
}

// realPath is PGDATA as the kernel names it in /proc/<pid>/cwd. A directory that is gone keeps the name that it had.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		parent, perr := filepath.EvalSymlinks(filepath.Dir(abs))
		if perr != nil {
			return abs, nil
		}
		return filepath.Join(parent, filepath.Base(abs)), nil
	}
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return real, nil
}
