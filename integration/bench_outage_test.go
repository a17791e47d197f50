//go:build integration && bench

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// outageScenarios are the scenarios with a budget. The hand-overs are the ones that happen every day: they run more often.
var outageScenarios = []struct {
	name     string
	play     func(*testing.T)
	handover bool
}{
	{"Switchover", TestSwitchover, true},
	{"PostmasterKilled", TestPostmasterKilled, true},
	{"AgentTerminated", TestAgentTerminated, false},
	{"AgentRestarted", TestAgentRestarted, false},
	{"AgentKilled", TestAgentKilled, false},
	{"AgentPaused", TestAgentPaused, false},
	{"HostCrash", TestHostCrash, false},
	{"PrimaryCut", TestPrimaryCut, false},
	{"OneWayCut", TestOneWayCut, false},
	{"CutFromOneOther", TestCutFromOneOther, false},
	{"Standby", TestStandby, false},
}

// OutageRow is the outage of one scenario as its clients saw it, in seconds, and the medians of the parts of a take-over.
type OutageRow struct {
	Scenario string  `json:"scenario"`
	Wanted   int     `json:"runs_wanted"`
	Runs     int     `json:"runs"` // those that came to their end
	Direct   Spread  `json:"direct"`
	HAProxy  Spread  `json:"haproxy"`
	Phases   Phases  `json:"phases,omitempty"`
	Raw      *Report `json:"raw"`
}

// benchOutages plays the scenarios as they stand and reads their reports.
func benchOutages(t *testing.T, b *Bench) {
	wanted := regexp.MustCompile(*benchOptions.scenario)
	t.Setenv("PGQUORUM_REPORT", "1")
	t.Setenv("PGQUORUM_BUDGET", "0")
	for _, s := range outageScenarios {
		if !wanted.MatchString(s.name) {
			continue
		}
		runs := *benchOptions.runs
		if s.handover {
			runs *= 4
			if *benchOptions.handovers > 0 {
				runs = *benchOptions.handovers
			}
		}
		b.progress("outage: %s, %d runs", s.name, runs)
		must(t, forgetReports(t.Name()))
		t.Setenv("PGQUORUM_RUNS", strconv.Itoa(runs))
		t.Run(s.name, s.play)
		rows, err := readReports(t.Name())
		must(t, err)
		if len(rows) == 0 {
			rows = []OutageRow{{Scenario: s.name}} // no run came to its end
		}
		for _, row := range rows {
			row.Wanted = runs
			b.Outages = append(b.Outages, row)
			b.progress("outage: %s", row.line())
		}
		must(t, b.Save())
	}
}

// reportFiles are the reports of the scenarios below a test.
func reportFiles(test string) ([]string, error) {
	return filepath.Glob(filepath.Join(outDir, "report", fileName(test)+"_*.json"))
}

func forgetReports(test string) error {
	files, err := reportFiles(test)
	for _, file := range files {
		err = os.Remove(file)
	}
	return err
}

// readReports reads what the scenarios below a test have saved.
func readReports(test string) (rows []OutageRow, err error) {
	files, err := reportFiles(test)
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := &Report{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, err
		}
		row := OutageRow{
			Scenario: strings.ReplaceAll(strings.TrimPrefix(r.Scenario, test+"/"), "_", " "), Runs: len(r.Direct), Raw: r,
			Direct: spreadOf(r.Direct, r.Budgets.Direct.Seconds()), HAProxy: spreadOf(r.HAProxy, r.Budgets.HAProxy.Seconds()),
		}
		row.Phases = medianPhases(r.Phases)
		rows = append(rows, row)
	}
	return rows, nil
}

var phaseNames = []string{phaseNoticed, phaseReleased, phaseElected, phaseChosen, phasePromoted, phaseCommit, phaseHAProxy}

// medianPhases takes each part by itself: the medians need not add up to a median.
func medianPhases(all []Phases) Phases {
	if len(all) == 0 {
		return nil
	}
	medians := Phases{}
	for _, name := range phaseNames {
		var values []float64
		for _, p := range all {
			if v, known := p[name]; known {
				values = append(values, v)
			}
		}
		medians[name] = median(values)
	}
	return medians
}
