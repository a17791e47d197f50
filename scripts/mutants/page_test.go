package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is entered of one mutant replaces what was known of it, and of it alone.
func TestEnter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	for _, r := range []result{{Name: "a", Verdict: survived}, {Name: "b", Verdict: caught, By: "TestB"}, {Name: "a", Verdict: caught, By: "TestA"}} {
		if err := enter(file, 3, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter(file, 4, result{Name: "a"}); err == nil {
		t.Error("records of 3 and of 4 seeds mixed")
	}
	r, err := readRecord(file)
	if want := []result{{Name: "b", Verdict: caught, By: "TestB"}, {Name: "a", Verdict: caught, By: "TestA"}}; err != nil || r.Seeds != 3 || !slices.Equal(r.Results, want) {
		t.Errorf("have %+v, %v, want %+v", r, err, want)
	}
}

// What a record says of a mutant that is no more, or that the simulation has a model for, is not counted on the page.
func TestPageCountsWhatIsInTheList(t *testing.T) {
	dir := t.TempDir()
	tests, sim := filepath.Join(dir, "tests.json"), filepath.Join(dir, "sim.json")
	write := func(file string, r record) {
		if err := r.write(file); err != nil {
			t.Fatal(err)
		}
	}
	all := record{Results: []result{{Name: "one-that-is-no-more", Verdict: caught, By: "TestA"}}}
	for _, m := range mutants {
		all.Results = append(all.Results, result{Name: m.name, Verdict: caught, By: "TestA"})
	}
	write(tests, all)
	write(sim, record{Seeds: 20, Results: []result{
		{Name: "one-that-is-no-more", Verdict: caught, By: "TestSchedules/seed1"},
		{Name: "marks-have-no-reserve", Verdict: caught, By: "TestSchedules/seed1"},
		{Name: "no-wait", Verdict: caught, By: "TestSchedules/seed7"},
		{Name: "alive-until-E", Verdict: endless},
		{Name: "candidate-below-m", Verdict: survived, Seeds: 300},
		{Name: "lease-from-answer", Verdict: survived, Seeds: 20},
	}})
	var out strings.Builder
	if err := page(&out, []string{tests, sim}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("%d mutants were tried; in the last run of each, %[1]d were caught", len(mutants)),
		"found 1 of the 4 that were tried on it, within 20 schedules each",
		"| no-wait | `agent/decide/takeover.go` | `TestA` | seed 7 |",
		"| alive-until-E | `cluster/lease.go` | `TestA` | never ends |",
		"| candidate-below-m | `agent/decide/candidate.go` | `TestA` | not in 300 |",
		"| lease-from-answer | `raftfsm/lease_transport.go` | `TestA` | no |",
		"| marks-have-no-reserve | `pgctl/reserve.go` | `TestA` | not by models |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// The page in docs names every mutant that there is, no other, and says of each what catches it.
func TestPageNamesEveryMutant(t *testing.T) {
	data, err := os.ReadFile("../../docs/mutants.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for row := range strings.Lines(string(data)) {
		if cells := strings.Split(row, " | "); len(cells) == 5 && !strings.HasPrefix(row, "| rule") {
			have[cells[1]] = cells[3]
		}
	}
	for _, m := range mutants {
		if by, ok := have[m.name]; !ok || !strings.HasPrefix(by, "`") {
			t.Errorf("%s: the page says %q", m.name, by)
		}
		delete(have, m.name)
	}
	for name := range have {
		t.Errorf("%s is on the page, and no mutant", name)
	}
}
