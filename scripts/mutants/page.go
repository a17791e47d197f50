package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// result is what came of one mutant.
type result struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	By      string `json:"by,omitempty"`
	Seeds   int    `json:"seeds,omitempty"` // of the simulation that were played; 0: as many as the record says
}

// record is what runs of many found.
type record struct {
	Seeds   int      `json:"seeds,omitempty"` // of the simulation, for most; 0: the tests themselves
	Results []result `json:"results"`
}

func (r record) write(file string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// enter puts what came of one mutant into a file, in the place of what it says of that one. An empty name: there is no file.
func enter(file string, seeds int, came result) error {
	if file == "" {
		return nil
	}
	r, err := readRecord(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case r.Seeds != seeds:
		return fmt.Errorf("%s is of %d seeds of the simulation, not of %d: write into another file", file, r.Seeds, seeds)
	}
	r.Seeds = seeds
	r.Results = append(slices.DeleteFunc(r.Results, func(old result) bool { return old.Name == came.Name }), came)
	return r.write(file)
}

func readRecord(file string) (r record, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// of gives what came of a mutant.
func (r record) of(name string) (result, bool) {
	i := slices.IndexFunc(r.Results, func(x result) bool { return x.Name == name })
	if i < 0 {
		return result{}, false
	}
	return r.Results[i], true
}

// page prints docs/mutants.md.
func page(w io.Writer, files []string) error {
	if len(files) != 2 {
		return errors.New("-doc wants two files: what -out wrote for the tests, and for the simulation (-sim)")
	}
	tests, err := readRecord(files[0])
	if err != nil {
		return err
	}
	sim, err := readRecord(files[1])
	if err != nil {
		return err
	}
	var rows []string
	seen, byTests, played := 0, 0, 0
	for _, m := range mutants { // what a record says of one that is no more counts nowhere
		t, ok := tests.of(m.name)
		if !ok {
			return fmt.Errorf("%s: %s does not say what came of it", m.name, files[0])
		}
		if t.Verdict == caught {
			byTests++
		}
		s, tried := sim.of(m.name)
		if tried && !m.modelled() {
			played++
			if s.Verdict == caught {
				seen++
			}
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | `%s` | %s | %s |", m.rule, m.name, m.file, orVerdict(t), inSchedules(m, s, sim.Seeds)))
	}
	_, err = fmt.Fprintf(w, head, len(rows), byTests, seen, played, sim.Seeds, strings.Join(rows, "\n"), stepsPage())
	return err
}

// inSchedules says what the simulation made of a mutant; most were played on usual schedules.
func inSchedules(m mutant, r result, usual int) string {
	switch {
	case m.modelled():
		return "not by models"
	case r.Name == "":
		return "not tried"
	case r.Verdict == caught:
		return strings.Replace(r.By, "TestSchedules/seed", "seed ", 1)
	case r.Verdict == endless:
		return "never ends"
	case r.Seeds > usual:
		return fmt.Sprintf("not in %d", r.Seeds)
	}
	return "no"
}

func orVerdict(r result) string {
	if r.Verdict == caught {
		return "`" + r.By + "`"
	}
	return "**" + r.Verdict + "**"
}

const head = `# Mutants: the rules, broken on purpose

Each row is one rule of [protocol.md](protocol.md), broken by a change of the source; the tests named must then fail. The changes themselves are in
scripts/mutants; "make mutants" tries them all, "go run ./scripts/mutants -only NAME" one. This page is printed by "go run ./scripts/mutants -doc".

%d mutants were tried; in the last run of each, %d were caught by tests, those of the guard by the real guard process with a real PostgreSQL. The simulation by itself, which has models in the place of
package pgctl, found %d of the %d that were tried on it, within %d schedules each, or as many as the seed says. What it does not find breaks a second line behind another rule, changes only how long something takes, or
needs what is not drawn; that is what the tests beside it are for.

| rule | mutant | broken in | caught by | seen by the simulation |
|---|---|---|---|---|
%s

## Which steps rest on which rule

A mutant breaks its rule, and with it the steps of the arguments for P1 and P2 (sections 14 and 15 of [protocol.md](protocol.md)) that rest on that rule: without it they do not follow. A step with parts stands for all of them.
A rule on which none rests is for something else, which is said.

| rule | steps of P1 | steps of P2 | how, or what for |
|---|---|---|---|
%s`
