package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// demoPrograms are what runs in a demo, beside agents and guards. A person's shell or editor in the folder is none of ours.
var demoPrograms = []string{"haproxy", "postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_controldata", "pg_receivewal"}

// endDemoProcesses waits until no process of the demo in dir is left; after grace it kills what is, by process id.
func endDemoProcesses(ctx context.Context, dir string, grace time.Duration) error {
	kill := time.Now().Add(grace)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := demoProcesses(dir)
		if err != nil || len(left) == 0 {
			return err
		}
		if !time.Now().Before(kill) {
			for _, pid := range left {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
					return fmt.Errorf("process %d of the demo in %s: %w", pid, dir, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes of the demo in %s: want none, have %v: %w", dir, left, ctx.Err())
		case <-tick.C:
		}
	}
}

// demoProcesses gives the processes that run one of the programs on files in dir, as their arguments or their working
// directory say, without the demo itself.
func demoProcesses(dir string) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		if ofDemo(filepath.Join("/proc", e.Name()), dir) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// ofDemo looks at one process. One that ended meanwhile, a zombie, or one that may not be looked at is none of ours.
func ofDemo(proc, dir string) bool {
	text, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil || len(text) == 0 {
		return false
	}
	args := strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
	// Postgres writes its title over the arguments: "postgres: walsender ...".
	program, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(args[0])), ":")
	if !slices.Contains(demoPrograms, program) && !ownProgram(program, args) {
		return false
	}
	inside := func(path string) bool { return strings.HasPrefix(path, dir+"/") }
	if slices.ContainsFunc(args[1:], inside) {
		return true
	}
	cwd, err := os.Readlink(filepath.Join(proc, "cwd"))
	return err == nil && inside(cwd)
}

// ownProgram says whether it is an agent or a guard, and not the list -W of a person who watches.
func ownProgram(program string, args []string) bool {
	exe, err := os.Executable()
	named := program == "pgquorum" || err == nil && program == filepath.Base(exe)
	return named && len(args) > 1 && (args[1] == "run" || args[1] == "guard")
}
