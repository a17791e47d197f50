//go:build integration && bench

package integration

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchParts are what can be measured, in the order in which it is.
var benchParts = []struct {
	name string
	run  func(*testing.T, *Bench)
}{
	{"outage", benchOutages},
	{"pgbench", benchPgbench},
	{"rest", benchRest},
	{"health", benchHealth},
}

// How much is measured: make bench passes them on from N, BENCH, SCENARIO and ARGS.
var benchOptions struct {
	runs      *int
	handovers *int
	parts     *string
	scenario  *string
	seconds   *int
	rounds    *int
}

func init() {
	o := &benchOptions
	o.runs = flag.Int("runs", 5, "runs of each scenario")
	o.handovers = flag.Int("handovers", 0, "runs of switchover and postmaster killed; 0: four times -runs")
	o.parts = flag.String("parts", "all", "what is measured: outage, pgbench, rest, health, with commas between; all")
	o.scenario = flag.String("scenario", ".", "regular expression of the scenarios whose outages are measured")
	o.seconds = flag.Int("seconds", 30, "length of each measurement of pgbench and of rest; a third of it for health checks")
	o.rounds = flag.Int("rounds", 6, "rounds of pgbench: each is one measurement with the agent and one without")
}

// Bench is what one run of the benchmark found. A number that misses its target is marked, and fails nothing.
type Bench struct {
	Began   time.Time    `json:"began"`
	Took    float64      `json:"seconds"`
	Machine Machine      `json:"machine"`
	Outages []OutageRow  `json:"outages,omitempty"`
	Pgbench []PgbenchRow `json:"pgbench,omitempty"`
	Rest    []RestRow    `json:"rest,omitempty"`
	Health  []HealthRow  `json:"health,omitempty"`
}

// Machine says on what it was measured, and how busy that was otherwise.
type Machine struct {
	CPU      string `json:"cpu"`
	CPUs     int    `json:"cpus"`
	Kernel   string `json:"kernel"`
	Postgres string `json:"postgres"`
	LoadAvg  string `json:"load_average_before"`
}

// TestBench measures the chosen parts, prints one table and writes out/bench.json. It fails only when something could
// not be measured, or when a scenario found a promise broken.
func TestBench(t *testing.T) {
	chosen := strings.Split(*benchOptions.parts, ",")
	for _, name := range chosen {
		known := name == "all"
		for _, part := range benchParts {
			known = known || part.name == name
		}
		if !known {
			t.Fatalf("-parts: want outage, pgbench, rest, health or all, have %q", name)
		}
	}
	b := &Bench{Began: time.Now(), Machine: lookMachine(lab)}
	built(t)
	for _, part := range benchParts {
		if !slices.Contains(chosen, "all") && !slices.Contains(chosen, part.name) {
			continue
		}
		b.progress("%s", part.name)
		t.Run(part.name, func(t *testing.T) { part.run(t, b) })
		must(t, b.Save())
	}
	fmt.Print(b.Table())
}

// progress says what goes on: a full run takes more than an hour.
func (b *Bench) progress(format string, args ...any) {
	fmt.Printf("bench %6s  %s\n", time.Since(b.Began).Round(time.Second), fmt.Sprintf(format, args...))
}

// Save writes out/bench.json, as far as it got: a full run is long.
func (b *Bench) Save() error {
	b.Took = time.Since(b.Began).Seconds()
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(outDir, 0o755), os.WriteFile(filepath.Join(outDir, "bench.json"), append(text, '\n'), 0o644))
}

func lookMachine(lab *Lab) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Kernel: firstLine("/proc/sys/kernel/osrelease"), LoadAvg: firstLine("/proc/loadavg")}
	info, _ := os.ReadFile("/proc/cpuinfo") // other systems name the processor elsewhere, or not at all
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	if out, err := output(filepath.Join(lab.PostgresIn, "postgres"), "--version"); err == nil {
		m.Postgres = strings.TrimPrefix(out, "postgres (PostgreSQL) ")
	}
	return m
}

func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
