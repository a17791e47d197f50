package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chaosHost is a host with what a service manager does for it: its agent is started again whenever it ends, unless a
// fault keeps it down. Several faults may have to do with one host at once.
type chaosHost struct {
	*Host
	http *http.Client // from the host's own namespace: no cut is between it and the node

	mu     sync.Mutex // of the host's processes, and of what follows
	down   int        // faults that keep the agent down
	frozen int        // faults that keep its disk hanging
	seen   *Process   // whose end was noted
	exits  []AgentExit

	compaction compaction // of its Raft log
}

// AgentExit is an agent's end that no fault asked for.
type AgentExit struct {
	Node string        `json:"node"`
	At   time.Duration `json:"at"`
	Err  string        `json:"err"`
}

// restartDelay is the time that a service manager takes, RestartSec=1 of systemd.
const restartDelay = time.Second

// supervise starts the agent now, and again a while after each end, until ctx ends.
func (h *chaosHost) supervise(ctx context.Context, now func() time.Duration) error {
	var ended time.Duration
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := h.keepUp(now, &ended); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *chaosHost) keepUp(now func() time.Duration, ended *time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down > 0 {
		return nil
	}
	if h.agent != nil && h.agent.Running() {
		return nil
	}
	if h.agent != nil && h.agent != h.seen {
		h.seen, *ended = h.agent, now()
		h.exits = append(h.exits, AgentExit{h.Name, *ended, fmt.Sprint(h.agent.err)})
	}
	if *ended != 0 && now()-*ended < restartDelay {
		return nil
	}
	return h.Start()
}

// hold keeps the agent down, from before f on, until the function that it gives is called.
func (h *chaosHost) hold(f func() error) (release func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := f(); err != nil {
		return nil, err
	}
	h.down++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.down--
		if h.agent != nil && !h.agent.Running() {
			h.seen = h.agent // the fault's work
		}
	}, nil
}

// powerOff ends everything on the host. A disk that hangs is thawed first: what hangs in it cannot be killed.
func (h *chaosHost) powerOff() error {
	if h.frozen > 0 {
		if err := h.ThawDisk(); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
		h.frozen = 0
	}
	return h.KillAll()
}

// of gives the processes of a part of the node; pick chooses one of several.
func (h *chaosHost) of(part string, pick float64) ([]int, error) {
	one := func(pid int, err error) ([]int, error) { return []int{pid}, err }
	switch part {
	case partAgent:
		return one(h.Agent())
	case partGuard:
		return one(h.Guard())
	case partPostmaster:
		return one(h.Postmaster())
	case partAgentAndGuard:
		agent, err := h.Agent()
		guard, gerr := h.Guard()
		return []int{agent, guard}, errors.Join(err, gerr)
	}
	pids, err := pidsOf(h.cgroup)
	if err != nil {
		return nil, err
	}
	postmaster, err := h.Postmaster()
	if err != nil {
		return nil, err
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool {
		args := commandLine(pid)
		child := len(args) > 0 && strings.HasPrefix(args[0], "postgres:")
		return !child && !(part == partPostgres && pid == postmaster)
	})
	if len(pids) == 0 {
		return nil, fmt.Errorf("%s: no process of postgres", h.Name)
	}
	if part == partBackend {
		slices.Sort(pids)
		return one(pids[int(pick*float64(len(pids)))], nil)
	}
	return pids, nil
}

// handles opens the processes, so that a signal later cannot meet another process of the same number.
func (h *chaosHost) handles(part string, pick float64) (fds []int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pids, err := h.of(part, pick)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: pid %d: %w", h.Name, pid, err), closeAll(fds))
		}
		fds = append(fds, fd)
	}
	if len(fds) == 0 {
		return nil, fmt.Errorf("%s: %s: gone", h.Name, part)
	}
	return fds, nil
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// signalAll sends a signal to each; one that has ended has none to get.
func signalAll(fds []int, sig syscall.Signal) error {
	var errs []error
	for _, fd := range fds {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// freeze stops everything on the host in one step, until the function that it gives is called.
func (h *chaosHost) freeze() (thaw func() error, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	file := filepath.Join(h.cgroup, "cgroup.freeze")
	write := func(text string) error { return os.WriteFile(file, []byte(text), 0) }
	return func() error { return write("0") }, write("1")
}

// sweepKept removes what former lives of the data directory were kept aside, as an operator does in time.
func (h *chaosHost) sweepKept() (n int, err error) {
	var errs []error
	for _, pattern := range []string{h.Data() + ".replaced-*", filepath.Join(h.Raft(), "kept", "*")} {
		dirs, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, dir := range dirs {
			errs = append(errs, os.RemoveAll(dir))
			n++
		}
	}
	return n, errors.Join(errs...)
}
