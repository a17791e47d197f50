//go:build integration && bench

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pgbenchScale is in units of 100 000 accounts, 15 MB; all of it fits into the shared buffers.
const (
	pgbenchScale   = 10
	pgbenchClients = 4
	pgbenchWarm    = 2    // seconds of reads before each measurement
	pgbenchRatio   = 0.99 // the least that the agent should leave
)

// pgbenchLoads are the two kinds of work: commits, which wait for the disk, and reads, which need the processor only.
var pgbenchLoads = []struct {
	name string
	args []string
}{
	{"read-write", nil},
	{"read-only", []string{"-S"}},
}

// PgbenchRow compares one kind of work with and without the agent, in transactions per second.
type PgbenchRow struct {
	Load    string  `json:"load"`
	Agent   Spread  `json:"with_agent"`
	Plain   Spread  `json:"without_agent"`
	Ratio   float64 `json:"ratio_of_medians"`
	Noise   float64 `json:"noise"` // half of the wider one's (max-min)/median: a ratio closer to 1 than this says nothing
	Seconds int     `json:"seconds"`
	Raw     struct {
		Agent []float64 `json:"with_agent"`
		Plain []float64 `json:"without_agent"`
	} `json:"raw"`
}

// benchPgbench measures one Postgres, alone in its cluster, under the agent and started by pg_ctl in turns: the same
// data directory and files of settings. Which is first alternates too, so that a machine that gets slower or faster
// meanwhile favours neither.
func benchPgbench(t *testing.T, b *Bench) {
	s := newSolo(t)
	rows := make([]PgbenchRow, len(pgbenchLoads))
	for round := range *benchOptions.rounds {
		for turn := range 2 {
			agent := (round+turn)%2 == 0
			s.start(agent)
			for i, load := range pgbenchLoads {
				tps := s.measure(load.args)
				b.progress("pgbench: round %d of %d, %s, agent %t: %.0f/s", round+1, *benchOptions.rounds, load.name, agent, tps)
				raw := &rows[i].Raw
				if agent {
					raw.Agent = append(raw.Agent, tps)
				} else {
					raw.Plain = append(raw.Plain, tps)
				}
			}
			s.stop(agent)
		}
	}
	for i, row := range rows {
		row.Load, row.Seconds = pgbenchLoads[i].name, *benchOptions.seconds
		row.Agent, row.Plain = spreadOf(row.Raw.Agent, 0), spreadOf(row.Raw.Plain, 0)
		row.Ratio = row.Agent.Median / max(row.Plain.Median, 1)
		row.Noise = max(row.Agent.half(), row.Plain.half())
		b.Pgbench = append(b.Pgbench, row)
	}
}

// solo is one Postgres with nobody to confirm its commits.
type solo struct {
	*testing.T
	*Cluster
	h     *Host
	ctx   context.Context
	bench Where // pgbench's own place: the network of the clients, a cgroup that nobody kills
}

func newSolo(t *testing.T) *solo {
	t.Helper()
	c := New(t, built(t), Options{})
	s := &solo{T: t, Cluster: c, h: c.Hosts[0], ctx: t.Context()}
	file := c.nodeFile(s.h)
	file.Members = c.Hosts[:1]
	must(t, writeQuiet(s.h, file))
	dir := filepath.Join(c.dir, "bench")
	cgroup := filepath.Join(s.h.cgroups, "bench")
	must(t, errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, int(lab.UID), int(lab.GID)), os.Mkdir(cgroup, 0o755)))
	s.bench = Where{Network: c.client, Cgroup: cgroup, UID: lab.UID, GID: lab.GID, Dir: dir}
	s.start(true)
	must(t, c.prepare(s.ctx))
	_, err := s.pgbench("-i", "-q", "-s", strconv.Itoa(pgbenchScale))
	must(t, err)
	s.stop(true)
	return s
}

// quiet is what a node's file has other than in the scenarios: the log as it is by default, and buffers for the data.
var quiet = strings.NewReplacer("level: debug", "level: info", "shared_buffers: 32MB", "shared_buffers: 256MB")

func writeQuiet(h *Host, f NodeFile) error {
	text := quiet.Replace(f.Text())
	return errors.Join(os.WriteFile(h.File(), []byte(text), 0o600), os.Chown(h.File(), int(h.lab.UID), int(h.lab.GID)))
}

func (s *solo) start(agent bool) {
	s.Helper()
	if !agent {
		startPlain(s.T, s.h)
		return
	}
	must(s.T, s.h.Start())
	ctx, cancel := context.WithTimeout(s.ctx, settleTime)
	defer cancel()
	must(s.T, until(ctx, 20*time.Millisecond, func() error {
		code, err := s.Code(ctx, s.h, "/primary")
		if err == nil && code != 200 {
			err = fmt.Errorf("%s: GET /primary: %d", s.h.Name, code)
		}
		return err
	}))
}

func (s *solo) stop(agent bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, settleTime)
	defer cancel()
	if agent {
		must(s.T, s.h.Signal(syscall.SIGTERM, s.h.Agent))
		must(s.T, s.h.Exited(ctx))
		must(s.T, until(ctx, 10*time.Millisecond, func() error {
			if s.h.PostgresRuns() {
				return errors.New("the agent has ended, its Postgres has not")
			}
			return nil
		}))
		return
	}
	must(s.T, s.h.Run(ctx, filepath.Join(lab.PostgresIn, "pg_ctl"), "-D", s.h.Data(), "-w", "-s", "-m", "fast", "stop"))
}

// measure gives the transactions per second of one run. Before it, what earlier runs left is cleared away.
func (s *solo) measure(args []string) float64 {
	s.Helper()
	must(s.T, s.Exec(s.ctx, s.h, "CHECKPOINT"))
	_, err := s.pgbench("-S", "-n", "-M", "prepared", "-c", strconv.Itoa(pgbenchClients), "-T", strconv.Itoa(pgbenchWarm))
	must(s.T, err)
	// Without -n pgbench vacuums and empties its history first.
	args = append([]string{"-M", "prepared", "-c", strconv.Itoa(pgbenchClients), "-T", strconv.Itoa(*benchOptions.seconds)}, args...)
	text, err := s.pgbench(args...)
	must(s.T, err)
	found := tpsLine.FindStringSubmatch(text)
	if found == nil {
		s.Fatalf("pgbench: no line with tps in %q", text)
	}
	tps, err := strconv.ParseFloat(found[1], 64)
	must(s.T, err)
	return tps
}

// tpsLine is of PostgreSQL 14 and later. Source: printResults, src/bin/pgbench/pgbench.c.
var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)$`)

// pgbench runs it as a client of the host and gives what it wrote.
func (s *solo) pgbench(args ...string) (string, error) {
	where := s.bench
	where.Log = filepath.Join(where.Dir, "pgbench.log")
	if err := os.WriteFile(where.Log, nil, 0o644); err != nil {
		return "", err
	}
	p, err := where.Start(filepath.Join(lab.PostgresIn, "pgbench"), append(args, "-h", s.h.Addr, "-U", "app", "app")...)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Duration(*benchOptions.seconds)*time.Second+2*time.Minute)
	defer cancel()
	err = p.Wait(ctx)
	text, rerr := os.ReadFile(where.Log)
	if err != nil {
		err = fmt.Errorf("pgbench %s: %w: %s", strings.Join(args, " "), err, tail(where.Log, 5))
	}
	return string(text), errors.Join(err, rerr)
}
