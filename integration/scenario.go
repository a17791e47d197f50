package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Scenario is a fault and what is expected of it. A scenario's file says what happens; Run does what is the same in
// all: a whole cluster, clients that write, the wait until all is whole again, and the checks of P1 and P2.
type Scenario struct {
	Options
	Budgets
}

// runTime bounds one run of a scenario, from an empty machine to the checks.
const runTime = 6 * time.Minute

// Stage is one run of a scenario, as its file sees it.
type Stage struct {
	*testing.T
	*Cluster
	Load *Load
	Ctx  context.Context

	said   []string        // why the scenario failed
	faults []time.Duration // on the history's clock

	before map[string]nodePhases // only when a report is written
	told   []told                // of the take-overs after the fault
}

// Run plays the scenario PGQUORUM_RUNS times and holds the median outages against the budgets if PGQUORUM_BUDGET=1.
func (s Scenario) Run(t *testing.T, lab *Lab, play func(*Stage)) {
	t.Helper()
	report := &Report{Scenario: t.Name(), Budgets: s.Budgets}
	for i := range number("PGQUORUM_RUNS", 1) {
		t.Run(fmt.Sprintf("run%d", i+1), func(t *testing.T) { s.once(t, lab, report, play) })
	}
	if len(report.Direct) == 0 {
		return
	}
	t.Log(report)
	if reporting() {
		if err := report.Save(); err != nil {
			t.Error(err)
		}
	}
	if os.Getenv("PGQUORUM_BUDGET") == "1" {
		for _, over := range report.Over() {
			t.Error(over)
		}
	}
}

// number reads a positive number from the environment.
func number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func (s Scenario) once(t *testing.T, lab *Lab, report *Report, play func(*Stage)) {
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	stage := &Stage{T: t, Ctx: ctx}
	t.Cleanup(func() { // after the logs' tails, which are long
		if len(stage.said) > 0 {
			t.Logf("%s failed: %s", t.Name(), strings.Join(stage.said, "\n"))
		}
	})
	stage.Cluster = New(t, lab, s.Options)
	stage.must(stage.Cluster.Start())
	stage.must(stage.WaitConverged(ctx))
	load, err := stage.StartLoad(ctx)
	stage.must(err)
	stop := sync.OnceValue(load.Stop)
	t.Cleanup(func() {
		stop()
		if kept(t) {
			stage.keepHistory()
		}
	})
	stage.Load = load
	stage.WaitWrites(0)
	stage.calm()
	stage.notePhases()
	play(stage)
	stage.must(stage.WaitConverged(ctx))
	stage.WaitWrites(load.History.Now())
	end := stop()
	stage.notePhases()
	stage.check()
	stage.measure(report, end)
}

// measure adds each fault's outage to the report, and what the take-overs were made of.
func (s *Stage) measure(report *Report, end time.Duration) {
	writes := s.Load.History.Writes()
	for i, fault := range s.faults {
		until := end
		if i+1 < len(s.faults) {
			until = s.faults[i+1]
		}
		report.Add(Outage(writes, direct, fault, until), Outage(writes, haproxy, fault, until))
	}
	for _, said := range s.told {
		report.AddPhases(takeOverPhases(said, s.Load.History))
	}
}

// calm lets the making of the cluster end before the fault: its dirty pages are written, the standbys have replayed it,
// and the clients have written for a second since.
func (s *Stage) calm() {
	s.Helper()
	for _, h := range append([]*Host{s.MustPrimary()}, s.Others(s.MustPrimary())...) {
		s.must(s.Exec(s.Ctx, h, "CHECKPOINT"))
	}
	s.WaitWrites(s.Load.History.Now() + time.Second)
}

func (s *Stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v", err)
	}
}

// Errorf and Fatalf are the test's own, and remember what they say.
func (s *Stage) Errorf(format string, args ...any) {
	s.Helper()
	s.said = append(s.said, fmt.Sprintf(format, args...))
	s.T.Errorf(format, args...)
}

func (s *Stage) Fatalf(format string, args ...any) {
	s.Helper()
	s.said = append(s.said, fmt.Sprintf(format, args...))
	s.T.Fatalf(format, args...)
}

// Fault injects a fault and remembers the moment before it. Each is measured by itself, until the next.
func (s *Stage) Fault(inject func() error) {
	s.Helper()
	s.faults = append(s.faults, s.Load.History.Now())
	s.must(inject())
}

// MustPrimary is the present primary.
func (s *Stage) MustPrimary() *Host {
	s.Helper()
	p, err := s.Primary(s.Ctx)
	s.must(err)
	return p
}

// MustTerm is the present voting term.
func (s *Stage) MustTerm() uint64 {
	s.Helper()
	term, err := s.Term(s.Ctx)
	s.must(err)
	return term
}

// NewPrimary waits for a primary other than old.
func (s *Stage) NewPrimary(old *Host) *Host {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
	defer cancel()
	p, err := s.WaitPrimary(ctx, old)
	s.must(err)
	return p
}

// LastEvent is the number of the newest event.
func (s *Stage) LastEvent() uint64 {
	s.Helper()
	events, err := s.Events(s.Ctx, s.MustPrimary())
	s.must(err)
	if len(events) == 0 {
		return 0
	}
	return events[len(events)-1].ID
}

// CountEvents counts the events of some types since a number, as every node has them.
func (s *Stage) CountEvents(since uint64, types ...string) (n int) {
	s.Helper()
	events, err := s.Events(s.Ctx, s.MustPrimary())
	s.must(err)
	for _, e := range events {
		if e.ID > since && slices.Contains(types, e.Type) {
			n++
		}
	}
	return n
}

// Settled waits until the nodes (none named: all) are one cluster. It looks at the clients first: to ask the nodes again
// and again would cost them the very time that is measured.
func (s *Stage) Settled(nodes ...*Host) {
	s.Helper()
	s.WaitWrites(s.Load.History.Now() + 50*time.Millisecond) // by then no session of a killed node answers any more
	s.must(s.WaitConverged(s.Ctx, nodes...))
	s.notePhases()
}

// Within waits for a condition.
func (s *Stage) Within(limit time.Duration, f func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Ctx, limit)
	defer cancel()
	s.must(until(ctx, 20*time.Millisecond, f))
}

// For lets a time pass while the clients write: the length of a pause is part of the fault, not a synchronisation.
func (s *Stage) For(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.Ctx.Done():
	}
}

// Throughout wants a thing to hold at every look during a time.
func (s *Stage) Throughout(d time.Duration, f func() error) {
	s.Helper()
	begun, tick := time.Now(), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for looks := 0; time.Since(begun) < d; looks++ {
		if err := f(); err != nil {
			s.Fatalf("after %v, at look %d: %v", time.Since(begun).Round(time.Millisecond), looks, err)
		}
		select {
		case <-tick.C:
		case <-s.Ctx.Done():
			s.Fatalf("ended after %v, at look %d: %v", time.Since(begun).Round(time.Millisecond), looks, context.Cause(s.Ctx))
		}
	}
}

// WaitWrites waits until clients of both ways have had writes acknowledged that were begun after a moment.
func (s *Stage) WaitWrites(since time.Duration) {
	s.Helper()
	s.Within(settleTime, func() error {
		for _, via := range []string{direct, haproxy} {
			if !s.Load.History.Acked(via, since) {
				return fmt.Errorf("no write acknowledged to %s", via)
			}
		}
		return nil
	})
}

// check holds the whole history against what the nodes have.
func (s *Stage) check() {
	s.Helper()
	p := s.MustPrimary()
	s.must(s.Load.readRegister(s.Ctx, p))
	writes := s.Load.History.Writes()
	for _, proof := range first(TwoPrimaries(writes)) {
		s.Errorf("P1: %s", proof)
	}
	if err := Linearizable(s.Load.History.Swaps()); err != nil {
		s.Errorf("P1, P2: %v", err)
	}
	for _, h := range s.Nodes() {
		s.checkHeld(h, h == p, writes)
	}
}

// checkHeld compares a node's table with the history; a standby gets time to replay.
func (s *Stage) checkHeld(h *Host, primary bool, writes []Write) {
	s.Helper()
	var lost []Write
	var held map[int64]bool
	ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
	defer cancel()
	err := until(ctx, 50*time.Millisecond, func() (err error) {
		if held, err = s.Held(ctx, h); err != nil {
			return err
		}
		if lost = Lost(writes, held); len(lost) > 0 && !primary {
			return fmt.Errorf("%s: %d acknowledged writes not replayed", h.Name, len(lost))
		}
		return nil
	})
	if err != nil {
		s.Errorf("%v", err)
	}
	for _, w := range first(lost) {
		s.Errorf("P2: %s lost write %d, acknowledged by %s on timeline %d at %s", h.Name, w.ID, w.Node, w.Timeline, w.End)
	}
	for _, id := range first(Phantoms(writes, held)) {
		s.Errorf("%s holds write %d, which no client sent", h.Name, id)
	}
}

// first keeps a failure readable.
func first[T any](all []T) []T { return all[:min(len(all), 5)] }

// keepHistory writes what the clients saw beside the logs.
func (s *Stage) keepHistory() {
	dir := filepath.Join(outDir, fileName(s.Name()))
	text, err := json.Marshal(map[string]any{"faults": s.faults, "writes": s.Load.History.Writes(), "swaps": s.Load.History.Swaps()})
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "history.json"), text, 0o644)
	}
	if err != nil {
		s.Logf("keeping the history: %v", err)
	}
}
