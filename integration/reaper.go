package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The reaper is to the hosts what init is to a machine: orphans of an agent or a guard that was killed become children
// of the test process, and their exit status is taken at once. A container's first process may take it late or never,
// and to Postgres a zombie postmaster is one that still runs.
var reaper = struct {
	sync.Mutex              // held from a fork until the child is in own
	own        map[int]bool // children that os/exec waits for
}{own: map[int]bool{}}

// StartReaper makes this process the one that orphans come to.
func StartReaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("child subreaper: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			reapOrphans()
		}
	}()
	return nil
}

// forked runs a fork and notes the child as one that os/exec waits for.
func forked(fork func() (pid int, err error)) error {
	reaper.Lock()
	defer reaper.Unlock()
	pid, err := fork()
	if err == nil {
		reaper.own[pid] = true
	}
	return err
}

// waited forgets a child whose status os/exec has taken: its number may come again.
func waited(pid int) {
	reaper.Lock()
	defer reaper.Unlock()
	delete(reaper.own, pid)
}

// reapOrphans takes the status of every ended child that lived in one of our hosts' cgroups and that nobody waits for.
func reapOrphans() {
	reaper.Lock()
	defer reaper.Unlock()
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil || reaper.own[pid] {
				continue
			}
			cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			if err == nil && bytes.Contains(cgroup, []byte(owned(os.Getpid(), ""))) {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // one that still runs is looked at again when it ends
			}
		}
	}
}
