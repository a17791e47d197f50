package pgctl

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// postmaster is the running server of PGDATA, as postmaster.pid and /proc tell of it.
type postmaster struct {
	pid   int
	birth string // its start, in clock ticks since boot: with the pid, its identity on this machine
	state string // last line of postmaster.pid: starting, stopping, ready or standby
}

// The states in which a postmaster takes sessions. Source: pidfile.h, PostgreSQL 15.
const (
	stateReady   = "ready"
	stateStandby = "standby"
)

// same says whether two looks saw the same life of a server.
func (m postmaster) same(o postmaster) bool {
	return m.pid != 0 && m.pid == o.pid && m.birth == o.birth
}

// postmaster reads postmaster.pid; ok is false when no server of PGDATA lives. A stale file is no server: its process
// must exist and have PGDATA as its working directory, as every postmaster does.
// Source: src/include/utils/pidfile.h, PostgreSQL 15.
func (p *Postgres) postmaster() (m postmaster, ok bool) {
	data, err := os.ReadFile(filepath.Join(p.opt.DataDir, "postmaster.pid"))
	if err != nil {
		return m, false
	}
	lines := strings.Split(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 {
		return m, false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return m, false
	}
	want, err := filepath.EvalSymlinks(p.opt.DataDir)
	if err != nil || cwd != want {
		return m, false
	}
	m.pid = pid
	m.birth, ok = processBirth(pid)
	if len(lines) > 7 {
		m.state = strings.TrimSpace(lines[7])
	}
	return m, ok
}

// processBirth is field 22 of /proc/<pid>/stat; ok is false when the process has ended, a zombie included.
func processBirth(pid int) (birth string, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The name in field 2 is in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", false
	}
	return fields[19], true
}

// child is a process that the postmaster forked.
type child struct {
	pid   int
	title string // its command line, which Postgres overwrites with what it does
}

// children lists what the postmaster has forked and not yet reaped.
func (m postmaster) children() ([]child, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", m.pid))
	if err != nil {
		return nil, err
	}
	if len(tasks) == 0 {
		return m.childrenByScan()
	}
	var list []child
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			return nil, fmt.Errorf("children of postmaster %d: %w", m.pid, err)
		}
		for _, f := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil {
				list = append(list, child{pid: pid, title: processTitle(pid)})
			}
		}
	}
	return list, nil
}

// childrenByScan is for kernels built without CONFIG_PROC_CHILDREN.
func (m postmaster) childrenByScan() ([]child, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("children of postmaster %d: %w", m.pid, err)
	}
	var list []child
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended meanwhile
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(m.pid) {
			list = append(list, child{pid: pid, title: processTitle(pid)})
		}
	}
	return list, nil
}

// processTitle is the command line, with blanks between the words; empty for a process that has ended.
func processTitle(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
}

// isReceiver says whether a child is a WAL receiver, or may become one: a forked process bears the postmaster's own
// command line until it has set its title.
// Source: init_ps_display and GetBackendTypeDesc, PostgreSQL 15 ("postgres: [cluster_name: ]walreceiver ...").
func (c child) isReceiver() (is, unsure bool) {
	if !strings.HasPrefix(c.title, "postgres: ") {
		return false, c.title != ""
	}
	rest := strings.TrimPrefix(c.title, "postgres: ")
	return strings.HasPrefix(rest, "walreceiver") || strings.Contains(rest, ": walreceiver"), false
}

// isStartup says whether a child is the startup process, the one that replays WAL.
func (c child) isStartup() bool {
	rest, ok := strings.CutPrefix(c.title, "postgres: ")
	return ok && (strings.HasPrefix(rest, "startup") || strings.Contains(rest, ": startup"))
}

// signalChild sends sig; a process that has ended is no error.
func signalChild(pid int, sig unix.Signal) error {
	if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal %v to process %d: %w", sig, pid, err)
	}
	return nil
}

// signalPending says whether sig was sent to pid and not yet delivered.
// Source: proc(5), SigPnd (of the thread) and ShdPnd (of the process).
func signalPending(pid int, sig unix.Signal) (bool, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, fmt.Errorf("signals of process %d: %w", pid, err)
	}
	var pending uint64
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if key == "SigPnd" || key == "ShdPnd" {
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return false, fmt.Errorf("signals of process %d: %w", pid, err)
			}
			pending |= mask
		}
	}
	return pending&(1<<(uint(sig)-1)) != 0, nil
}
