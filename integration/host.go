package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one machine of a cluster: an address, a directory, a cgroup, and the agent with all that it starts.
type Host struct {
	Name string
	Addr string
	Dir  string // everything of the host: node.yml, agent.log, data, raft

	lab       *Lab
	net       *Network
	ns        *Namespace
	cgroups   string // the parent of the host's cgroups
	ownDisk   bool   // data and raft are on a disk of the host's own
	raftApart bool   // raft is not
	boots     int
	cgroup    string // of the present boot
	killed    bool   // since that boot
	agent     *Process
	clockBin  string // the agent whose wall clock is to jump; empty: the usual one
}

// newHost makes the host's namespace, directory and first cgroup, all the user postgres's.
func newHost(lab *Lab, net *Network, name, dir, cgroup string, last int) (*Host, error) {
	ns, err := net.Attach(name, last)
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Addr: ns.Addr, Dir: filepath.Join(dir, name), lab: lab, net: net, ns: ns, cgroups: cgroup}
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chown(h.Dir, int(lab.UID), int(lab.GID)); err != nil {
		return nil, err
	}
	return h, h.newCgroup()
}

// newCgroup gives the host a cgroup of its own, delegated to postgres as systemd does with Delegate=yes. Each boot has
// another: on Linux 6.14 and later nothing can be started directly into one (CLONE_INTO_CGROUP) that was once killed
// by cgroup.kill, since the child's kill_seq is then taken from the parent's cgroup (cgroup_css_set_fork).
func (h *Host) newCgroup() error {
	h.boots++
	h.killed = false
	h.cgroup = filepath.Join(h.cgroups, fmt.Sprintf("%s-boot%d", h.Name, h.boots))
	if err := os.Mkdir(h.cgroup, 0o755); err != nil {
		return err
	}
	for _, file := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(h.cgroup, file), int(h.lab.UID), int(h.lab.GID)); err != nil {
			return err
		}
	}
	return nil
}

// File, Data, Raft and Log are where the host keeps its things.
func (h *Host) File() string { return filepath.Join(h.Dir, "node.yml") }

// Data is PGDATA.
func (h *Host) Data() string { return filepath.Join(h.home(), "data") }

// Raft is raft.data_dir.
func (h *Host) Raft() string {
	if h.raftApart {
		return filepath.Join(h.Dir, "raft")
	}
	return filepath.Join(h.home(), "raft")
}

// Log is the agent's log.
func (h *Host) Log() string { return filepath.Join(h.Dir, "agent.log") }

// where is the host as it runs now; one that was killed boots.
func (h *Host) where() (Where, error) {
	if h.killed {
		if err := h.newCgroup(); err != nil {
			return Where{}, err
		}
	}
	return Where{Network: h.ns, Cgroup: h.cgroup, UID: h.lab.UID, GID: h.lab.GID, Dir: h.Dir, Log: h.Log()}, nil
}

// Start starts the agent; one that runs already is an error.
func (h *Host) Start() error {
	if h.agent != nil && h.agent.Running() {
		return fmt.Errorf("%s: the agent runs already, pid %d", h.Name, h.agent.PID)
	}
	where, err := h.where()
	if err != nil {
		return err
	}
	bin := h.lab.Bin
	if h.clockBin != "" {
		bin, where.Env = h.clockBin, []string{"CHAOS_CLOCK=" + h.clock()}
	}
	h.agent, err = where.Start(bin, "run", h.File())
	return err
}

// Run runs a program on the host to its end, as postgres.
func (h *Host) Run(ctx context.Context, name string, args ...string) error {
	where, err := h.where()
	if err != nil {
		return err
	}
	return where.Run(ctx, name, args...)
}

// Agent is the agent's pid.
func (h *Host) Agent() (int, error) {
	if h.agent == nil || !h.agent.Running() {
		return 0, fmt.Errorf("%s: no agent runs", h.Name)
	}
	return h.agent.PID, nil
}

// Exited waits for the agent's end and gives its exit error, nil for code 0.
func (h *Host) Exited(ctx context.Context) error { return h.agent.Wait(ctx) }

// Guard is the guard's pid, found by its command line among the host's processes.
func (h *Host) Guard() (int, error) {
	pids, err := pidsOf(h.cgroup)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if args := commandLine(pid); len(args) > 1 && args[1] == "guard" {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s: no guard runs", h.Name)
}

// Postmaster is the postmaster's pid, from postmaster.pid, checked to be alive.
// Source: AddToDataDirLockFile, src/backend/utils/init/miscinit.c: the first line is the pid.
func (h *Host) Postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(h.Data(), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("%s: no postmaster: %w", h.Name, err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(first)))
	if err != nil {
		return 0, fmt.Errorf("%s: postmaster.pid: %w", h.Name, err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		return 0, fmt.Errorf("%s: no postmaster: pid %d: %w", h.Name, pid, err)
	}
	return pid, nil
}

// PostgresRuns says whether any process of the host is a postgres.
func (h *Host) PostgresRuns() bool {
	pids, err := pidsOf(h.cgroup)
	if err != nil {
		return true // it could not be excluded
	}
	for _, pid := range pids {
		if args := commandLine(pid); len(args) > 0 && (filepath.Base(args[0]) == "postgres" || bytes.HasPrefix([]byte(args[0]), []byte("postgres:"))) {
			return true
		}
	}
	return false
}

// Signal sends a signal to processes given by functions such as h.Agent or h.Postmaster, all looked up first.
func (h *Host) Signal(sig syscall.Signal, which ...func() (int, error)) error {
	var pids []int
	for _, f := range which {
		pid, err := f()
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	var errs []error
	for _, pid := range pids {
		errs = append(errs, syscall.Kill(pid, sig))
	}
	return errors.Join(errs...)
}

// KillAll sends SIGKILL to everything on the host in one step and waits until all is gone.
func (h *Host) KillAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	if err := killCgroup(ctx, h.cgroup); err != nil {
		return err
	}
	h.killed = true
	if h.agent == nil {
		return nil
	}
	if err := h.agent.Wait(ctx); ctx.Err() != nil {
		return err
	}
	return nil
}

// Crash is the power cord: the network is gone first, so that no peer sees a connection close, then everything dies.
func (h *Host) Crash() error {
	if err := h.net.Cut(h.Name); err != nil {
		return err
	}
	return h.KillAll()
}

// Boot brings a crashed host back: network, then agent.
func (h *Host) Boot() error {
	if err := h.net.Heal(h.Name); err != nil {
		return err
	}
	return h.Start()
}

// freeSharedMemory removes the System V segment of a Postgres that was killed and never started again: the kernel keeps
// it for ever otherwise. Source: CreateLockFile's layout in miscadmin.h: line 7 holds shmem key and id.
func (h *Host) freeSharedMemory() {
	text, err := os.ReadFile(filepath.Join(h.Data(), "postmaster.pid"))
	if err != nil {
		return
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) < 7 {
		return
	}
	fields := bytes.Fields(lines[6])
	if len(fields) != 2 {
		return
	}
	if id, err := strconv.Atoi(string(fields[1])); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // gone already is as good
	}
}

// LogContains waits until the agent's log has a line with every one of the words.
func (h *Host) LogContains(ctx context.Context, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return until(ctx, 20*time.Millisecond, func() error {
		text, err := os.ReadFile(h.Log())
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			all := true
			for _, w := range words {
				all = all && bytes.Contains(bytes.ToLower(line), bytes.ToLower([]byte(w)))
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("%s: no line with %q in %s", h.Name, words, h.Log())
	})
}
