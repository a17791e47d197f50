//go:build integration && bench

package integration

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// tableWidth is what the table fits into.
const tableWidth = 100

// Spread is several measurements of one thing, and what their median should not exceed; 0: no target.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Target float64 `json:"target,omitempty"`
	Missed bool    `json:"missed,omitempty"`
}

func spreadOf(values []float64, target float64) Spread {
	if len(values) == 0 {
		return Spread{Target: target}
	}
	s := Spread{Median: median(values), Min: slices.Min(values), Max: slices.Max(values), Target: target}
	s.Missed = target > 0 && s.Median > target
	return s
}

// half is half of the range, in parts of the median.
func (s Spread) half() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / 2 / s.Median
}

// mark stands behind what missed its target.
func mark(missed bool) string {
	if missed {
		return " !"
	}
	return ""
}

// Table is everything for a reader, at most 100 columns wide.
func (b *Bench) Table() string {
	var t strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&t, strings.TrimRight(format, " ")+"\n", args...) }
	rule := strings.Repeat("-", tableWidth)
	line("%s", rule)
	line("pgquorum bench, %s, %s", b.Began.UTC().Format(time.DateTime), time.Duration(b.Took*float64(time.Second)).Round(time.Second))
	m := b.Machine
	line("%s", short(fmt.Sprintf("%d x %s, Linux %s, PostgreSQL %s", m.CPUs, m.CPU, m.Kernel, m.Postgres), tableWidth))
	line("load average before: %s.   ! marks what missed its target", m.LoadAvg)
	b.outageTable(line)
	b.pgbenchTable(line)
	b.restTable(line)
	b.healthTable(line)
	line("%s", rule)
	return t.String()
}

func (b *Bench) outageTable(line func(string, ...any)) {
	if len(b.Outages) == 0 {
		return
	}
	line("")
	line("%-31s %25s   %25s", "write outage, ms", "direct", "by HAProxy")
	line("%-25s %5s %6s %7s %5s %6s   %6s %7s %5s %6s", "", "runs", "median", "min", "max", "budget", "median", "min", "max", "budget")
	for _, row := range b.Outages {
		line("%s", row.line())
	}
	line("")
	line("%-26s %8s %9s %8s %7s %9s %7s %8s", "of which, medians, ms", phaseNoticed, phaseReleased, phaseElected, phaseChosen, phasePromoted, phaseCommit, "+"+phaseHAProxy)
	for _, row := range b.Outages {
		p := func(name string) float64 { return 1000 * row.Phases[name] }
		if row.Phases != nil {
			line("%-26s %8.0f %9.0f %8.0f %7.0f %9.0f %7.0f %8.0f", short(row.Scenario, 26), p(phaseNoticed), p(phaseReleased), p(phaseElected),
				p(phaseChosen), p(phasePromoted), p(phaseCommit), p(phaseHAProxy))
		}
	}
	line("  an old primary that is silent is noticed by the election; +haproxy: after the first direct commit")
}

func (r OutageRow) line() string {
	runs := fmt.Sprint(r.Runs)
	if r.Runs < r.Wanted {
		runs = fmt.Sprintf("%d/%d", r.Runs, r.Wanted)
	}
	way := func(s Spread) string {
		return fmt.Sprintf("%6.0f%-2s %5.0f %5.0f %6.0f", 1000*s.Median, mark(s.Missed), 1000*s.Min, 1000*s.Max, 1000*s.Target)
	}
	return fmt.Sprintf("%-25s %5s %s   %s", short(r.Scenario, 25), runs, way(r.Direct), way(r.HAProxy))
}

func short(name string, width int) string { return name[:min(len(name), width)] }

func (b *Bench) pgbenchTable(line func(string, ...any)) {
	if len(b.Pgbench) == 0 {
		return
	}
	line("")
	line("%-31s %20s   %20s", "pgbench, one node, tps", "with the agent", "without")
	line("%-25s %5s %6s %6s %6s   %6s %6s %6s  %8s  %6s", "", "runs", "median", "min", "max", "median", "min", "max", "ratio", "noise")
	for _, r := range b.Pgbench {
		line("%-25s %5d %6.0f %6.0f %6.0f   %6.0f %6.0f %6.0f  %8.4f%-2s +-%.1f %%", fmt.Sprintf("%s, %d s", r.Load, r.Seconds), len(r.Raw.Agent),
			r.Agent.Median, r.Agent.Min, r.Agent.Max, r.Plain.Median, r.Plain.Min, r.Plain.Max, r.Ratio, mark(r.Ratio < pgbenchRatio), 100*r.Noise)
	}
	line("  target: a ratio of the medians of %.2f or more; a difference within the noise says nothing", pgbenchRatio)
}

func (b *Bench) restTable(line func(string, ...any)) {
	if len(b.Rest) == 0 {
		return
	}
	line("")
	line("%-26s %30s   %30s", "at rest, three nodes", "memory (PSS), MiB", "processor, % of a core")
	line("%-26s %8s %8s %12s   %8s %8s %12s", "", "agent", "guard", fmt.Sprintf("both (%.0f)", restMemory), "agent", "guard", fmt.Sprintf("both (%.0f)", restCPU))
	for _, r := range b.Rest {
		name := r.Node + " " + r.Role
		if r.Checked {
			name += ", checked"
		}
		line("%-26s %8.1f %8.1f %12.1f%-2s %8.2f %8.2f %12.2f%s", name, r.AgentMiB, r.GuardMiB, r.memory(), mark(r.memory() > restMemory),
			r.AgentCPU, r.GuardCPU, r.cpu(), mark(r.cpu() > restCPU))
	}
	line("  each node has a binary of its own; checked: by HAProxy with the sample configuration")
}

func (b *Bench) healthTable(line func(string, ...any)) {
	if len(b.Health) == 0 {
		return
	}
	line("")
	line("%-33s %-16s %8s %10s %9s %11s", "health checks", "per second", "p50, ms", "p99, ms", "failed", "agent cores")
	for _, r := range b.Health {
		name, rate := r.Method+" /primary, new connections", fmt.Sprintf("%.0f", r.Rate)
		if r.KeepAlive {
			name, rate = r.Method+" /primary, keep-alive", fmt.Sprintf("%.0f (%.0f)%s", r.Rate, healthRate, mark(r.Rate < healthRate))
		}
		line("%-33s %-16s %8.2f %10.2f%-2s %7d %11.2f", name, rate, r.P50, r.P99, mark(r.P99 > 1000*healthLatency.Seconds()), r.Failed, r.AgentCPU)
	}
	line("  %s; generator: the bench's own, %d connections, one", b.Health[0].Where, healthConnections)
	line("  question at a time on each; targets: the rate in brackets, p99 under %s", healthLatency)
}

// output is the standard output of a short program.
func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(out)), err
}

// The table fits its width with large and small numbers, and says what missed its target.
func TestBenchTable(t *testing.T) {
	t.Parallel()
	b := &Bench{
		Machine: Machine{CPU: strings.Repeat("a long name ", 12), CPUs: 2},
		Outages: []OutageRow{{
			Scenario: "AgentPaused/agent and guard", Wanted: 20, Runs: 19,
			Direct: spreadOf([]float64{3.1, 12.5, 0.2}, 3), HAProxy: spreadOf([]float64{3.2, 12.9}, 3), Phases: Phases{phaseElected: 2.9},
		}},
		Pgbench: []PgbenchRow{{Load: "read-write", Agent: spreadOf([]float64{31999}, 0), Plain: spreadOf([]float64{32999}, 0), Ratio: 0.9697}},
		Rest:    []RestRow{{Node: "n1", Role: "primary", Checked: true, AgentMiB: 50.5, GuardMiB: 20, AgentCPU: 1.5}},
		Health:  []HealthRow{{Method: "OPTIONS", KeepAlive: true, Rate: 1999, P50: 7, P99: 12.25}, {Method: "OPTIONS", P99: 1}},
	}
	table := b.Table()
	for line := range strings.Lines(table) {
		if len(line)-1 > tableWidth {
			t.Errorf("%d columns: %q", len(line)-1, line)
		}
	}
	for _, want := range []string{"19/20", "3100 !", "0.9697 !", "70.5 !", "1.50 !", "1999 (20000) !", "12.25 !"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}
