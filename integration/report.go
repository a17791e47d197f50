package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outDir is where reports and the logs of failed scenarios go.
const outDir = "out"

// Report is what the runs of one scenario measured, in seconds.
type Report struct {
	Scenario string    `json:"scenario"`
	Budgets  Budgets   `json:"budgets"`
	Direct   []float64 `json:"direct"`
	HAProxy  []float64 `json:"haproxy"`
	Phases   []Phases  `json:"phases,omitempty"` // of the take-overs
}

// Budgets are the longest write outages allowed in the median; zero means no budget.
type Budgets struct {
	Direct  time.Duration `json:"direct"`
	HAProxy time.Duration `json:"haproxy"`
}

// Add takes the outages of one fault.
func (r *Report) Add(viaDirect, viaHAProxy time.Duration) {
	r.Direct = append(r.Direct, viaDirect.Seconds())
	r.HAProxy = append(r.HAProxy, viaHAProxy.Seconds())
}

// AddPhases takes the parts of one take-over's outage; nil where they are not known.
func (r *Report) AddPhases(p Phases) {
	if p != nil {
		r.Phases = append(r.Phases, p)
	}
}

// Over says which medians exceed their budgets.
func (r *Report) Over() (over []string) {
	for _, way := range []struct {
		name   string
		budget time.Duration
		got    []float64
	}{{direct, r.Budgets.Direct, r.Direct}, {haproxy, r.Budgets.HAProxy, r.HAProxy}} {
		if m := median(way.got); way.budget > 0 && m > way.budget.Seconds() {
			over = append(over, fmt.Sprintf("%s: median outage %.3f s of %d faults, budget %.3f s", way.name, m, len(way.got), way.budget.Seconds()))
		}
	}
	return over
}

// String is one line: median and maximum of each way.
func (r *Report) String() string {
	return fmt.Sprintf("%s: %d faults, write outage direct median %.3f s max %.3f s, haproxy median %.3f s max %.3f s",
		r.Scenario, len(r.Direct), median(r.Direct), highest(r.Direct), median(r.HAProxy), highest(r.HAProxy))
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}

func highest(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Max(values)
}

// Save writes the report to out/report as JSON.
func (r *Report) Save() error {
	dir := filepath.Join(outDir, "report")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(struct {
		*Report
		MedianDirect  float64 `json:"median_direct"`
		MaxDirect     float64 `json:"max_direct"`
		MedianHAProxy float64 `json:"median_haproxy"`
		MaxHAProxy    float64 `json:"max_haproxy"`
	}{r, median(r.Direct), highest(r.Direct), median(r.HAProxy), highest(r.HAProxy)}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fileName(r.Scenario)+".json"), append(text, '\n'), 0o644)
}

func fileName(test string) string { return strings.ReplaceAll(test, "/", "_") }

// tailLines is how much of each agent's log a failed scenario prints.
const tailLines = 40

// kept says whether a test's logs and history are kept: when it failed, and always with PGQUORUM_KEEP=1.
func kept(t *testing.T) bool { return t.Failed() || os.Getenv("PGQUORUM_KEEP") == "1" }

// keepLogs copies what the hosts wrote to out/SCENARIO. When the test failed, it also asks each node how it sees things,
// has each agent write where its goroutines are (SIGQUIT), and prints the tails of the agents' logs.
func (c *Cluster) keepLogs(t *testing.T) {
	dir := filepath.Join(outDir, fileName(t.Name()))
	for _, h := range c.Hosts {
		if t.Failed() {
			t.Logf("---- %s, the end of agent.log (all logs in integration/%s)\n%s", h.Name, dir, tail(h.Log(), tailLines))
			c.keepAnswers(t, h, dir)
			h.dumpAgent()
		}
		for _, log := range append(logsBelow(h.Dir), h.File()) {
			rel, err := filepath.Rel(c.dir, log)
			if err == nil {
				err = keepFile(log, filepath.Join(dir, strings.ReplaceAll(rel, "/", "_")))
			}
			if err != nil && !os.IsNotExist(err) {
				t.Logf("keeping %s: %v", log, err)
			}
		}
	}
	if c.LB != nil {
		if err := keepFile(c.LB.where.Log, filepath.Join(dir, "haproxy.log")); err != nil && !os.IsNotExist(err) {
			t.Logf("keeping the log of HAProxy: %v", err)
		}
	}
}

// keepAnswers keeps what a node says of itself and of the others.
func (c *Cluster) keepAnswers(t *testing.T, h *Host, dir string) {
	if _, err := h.Agent(); err != nil {
		return // nobody to ask
	}
	for _, path := range []string{"/patroni", "/cluster", "/events"} {
		_, answer, err := c.call(context.Background(), http.MethodGet, h, path, nil)
		if err == nil {
			err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, h.Name+fileName(path)+".json"), answer, 0o644))
		}
		if err != nil {
			t.Logf("%s: GET %s: %v", h.Name, path, err)
		}
	}
}

// dumpAgent ends the agent in the way that makes it write all its goroutines.
func (h *Host) dumpAgent() {
	if h.Signal(syscall.SIGQUIT, h.Agent) != nil {
		return // it does not run
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = h.Exited(ctx) // a stopped one does not write, and all is killed next
}

// logsBelow finds the logs under a directory: agent, guard, Postgres.
func logsBelow(dir string) (logs []string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") && d.Type().IsRegular() {
			logs = append(logs, path)
		}
		return nil // what cannot be read is not kept
	})
	return logs
}

func keepFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return copyFile(from, to)
}

func tail(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
