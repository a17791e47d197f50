//go:build integration && bench

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a node may cost when nothing happens, agent and guard together.
const (
	restMemory = 60.0 // MiB
	restCPU    = 1.0  // percent of one core
)

// RestRow is what one node's agent and guard cost at rest.
type RestRow struct {
	Node     string  `json:"node"`
	Role     string  `json:"role"`
	Checked  bool    `json:"checked_by_haproxy"`
	AgentMiB float64 `json:"agent_mib"` // PSS
	GuardMiB float64 `json:"guard_mib"`
	AgentCPU float64 `json:"agent_cpu_percent"` // of one core
	GuardCPU float64 `json:"guard_cpu_percent"`
	Seconds  float64 `json:"seconds"`
}

func (r RestRow) memory() float64 { return r.AgentMiB + r.GuardMiB }
func (r RestRow) cpu() float64    { return r.AgentCPU + r.GuardCPU }

// benchRest looks at a cluster of three without clients: first alone, then with HAProxy's health checks.
func benchRest(t *testing.T, b *Bench) {
	c := newQuiet(t)
	for _, checked := range []bool{false, true} {
		if checked {
			must(t, c.LB.Start())
			must(t, c.WaitConverged(t.Context()))
		}
		b.progress("rest: %d s, checked by HAProxy: %t", *benchOptions.seconds, checked)
		rows, err := c.rest(time.Duration(*benchOptions.seconds)*time.Second, checked)
		must(t, err)
		b.Rest = append(b.Rest, rows...)
	}
}

// newQuiet is a whole cluster of three that nobody writes to. Each host has its own copy of the binary, as on machines
// of their own: pages that the nodes shared would be counted for a third each.
func newQuiet(t *testing.T) *Cluster {
	t.Helper()
	c := New(t, built(t), Options{})
	for _, h := range c.Nodes() {
		own := &Lab{Bin: filepath.Join(h.Dir, "pgquorum"), PostgresIn: lab.PostgresIn, UID: lab.UID, GID: lab.GID, dir: lab.dir, cgroups: lab.cgroups}
		must(t, errors.Join(copyFile(lab.Bin, own.Bin), os.Chmod(own.Bin, 0o755)))
		h.lab = own
		must(t, writeQuiet(h, c.nodeFile(h)))
		must(t, h.Start())
	}
	must(t, c.WaitConverged(t.Context()))
	return c
}

// rest measures all nodes at once. What the start has left to do is over after a while without questions.
func (c *Cluster) rest(d time.Duration, checked bool) ([]RestRow, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	primary, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	<-time.After(min(d, 10*time.Second))
	pids := map[*Host][2]int{}
	before := map[int]time.Duration{}
	for _, h := range c.Nodes() {
		agent, err := h.Agent()
		guard, gerr := h.Guard()
		if err := errors.Join(err, gerr); err != nil {
			return nil, err
		}
		pids[h] = [2]int{agent, guard}
		for _, pid := range pids[h] {
			if before[pid], err = cpuOf(pid); err != nil {
				return nil, err
			}
		}
	}
	began := time.Now()
	<-time.After(d)
	took := time.Since(began)
	var rows []RestRow
	for _, h := range c.Nodes() {
		var mib, cpu [2]float64
		for i, pid := range pids[h] {
			used, err := cpuOf(pid)
			if err != nil {
				return nil, err
			}
			cpu[i] = 100 * (used - before[pid]).Seconds() / took.Seconds()
			if mib[i], err = pssOf(pid); err != nil {
				return nil, err
			}
		}
		role := "standby"
		if h == primary {
			role = "primary"
		}
		rows = append(rows, RestRow{Node: h.Name, Role: role, Checked: checked, AgentMiB: mib[0], GuardMiB: mib[1],
			AgentCPU: cpu[0], GuardCPU: cpu[1], Seconds: took.Seconds()})
	}
	return rows, nil
}

// userHZ is the unit of times in /proc/PID/stat on every platform that Go runs on. Source: proc(5), sysconf(3).
const userHZ = 100

// cpuOf is the processor time that a process has used, in and outside of the kernel, with all its threads.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name may hold anything
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: want utime and stime, have %q", pid, text)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, serr := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / userHZ, errors.Join(err, serr)
}

// pssOf is a process's memory in MiB, shared pages counted in proportion.
func pssOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/smaps_rollup: no line Pss", pid)
}
