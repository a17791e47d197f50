//go:build integration && bench

package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	healthRate        = 20_000.0             // per second on one core, with keep-alive
	healthLatency     = 5 * time.Millisecond // of the 99th in 100
	healthConnections = 16
)

// HealthRow is how one kind of health check was answered.
type HealthRow struct {
	Method    string  `json:"method"`
	KeepAlive bool    `json:"keep_alive"` // else each check has a new connection
	Rate      float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Checks    int     `json:"checks"`
	Failed    int     `json:"failed"`      // another answer than 200, or none
	AgentCPU  float64 `json:"agent_cores"` // processor time used by the agent, of one core
	Where     string  `json:"where"`
}

// benchHealth asks the primary of a cluster of three for /primary, as fast as its agent answers: 16 connections, one
// question at a time on each. The agent is held on one core. The questions come from one thread on another core, where
// there is one: what is measured is what the agent can do with a core, not how the two share it.
func benchHealth(t *testing.T, b *Bench) {
	c := newQuiet(t)
	p, err := c.Primary(t.Context())
	must(t, err)
	agent, err := p.Agent()
	must(t, err)
	cores, err := allowedCores()
	must(t, err)
	mine, theirs := cores[len(cores)-1], cores[0]
	must(t, pin(agent, theirs))
	where := fmt.Sprintf("agent on core %d, load on core %d", theirs, mine)
	for _, keepAlive := range []bool{true, false} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			l := &healthLoad{addr: p.Addr, port: 8008, keepAlive: keepAlive,
				request: []byte(method + " /primary HTTP/1.1\r\nHost: " + p.Addr + "\r\n\r\n")}
			before, err := cpuOf(agent)
			must(t, err)
			d := max(time.Second, time.Duration(*benchOptions.seconds)*time.Second/3)
			b.progress("health: %s /primary, keep-alive %t, %s", method, keepAlive, d)
			must(t, c.client.Do(func() error { return onCore(mine, func() error { return l.run(d) }) }))
			used, err := cpuOf(agent)
			must(t, err)
			row := HealthRow{Method: method, KeepAlive: keepAlive, Checks: len(l.took), Failed: l.failed, Where: where,
				Rate: float64(len(l.took)) / l.lasted.Seconds(), AgentCPU: (used - before).Seconds() / l.lasted.Seconds()}
			if n := len(l.took); n > 0 {
				slices.Sort(l.took)
				row.P50, row.P99 = 1000*l.took[n/2].Seconds(), 1000*l.took[n*99/100].Seconds()
			}
			b.Health = append(b.Health, row)
		}
	}
}

// allowedCores are the cores that this process may use.
func allowedCores() (cores []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	for core := range 64 * len(set) {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	if len(cores) == 0 {
		return nil, errors.New("no core to run on")
	}
	return cores, nil
}

// pin holds all threads of a process on one core; threads that they start later inherit it.
func pin(pid, core int) error {
	var set unix.CPUSet
	set.Set(core)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, thread := range threads {
		id, aerr := strconv.Atoi(thread.Name())
		if aerr == nil {
			aerr = unix.SchedSetaffinity(id, &set)
		}
		if !errors.Is(aerr, unix.ESRCH) { // a thread may end meanwhile
			err = errors.Join(err, aerr)
		}
	}
	return err
}

// onCore runs f with the calling thread held on one core.
func onCore(core int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	only.Set(core)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return err
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}
