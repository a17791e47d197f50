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
}

// record is what runs of many found.
type record struct {
	Seeds   int      `json:"seeds,omitempty"` // of the simulation; 0: the tests themselves
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
	seen, byTests := 0, 0
	for _, m := range mutants {
		t, ok := tests.of(m.name)
		if !ok {
			return fmt.Errorf("%s: %s does not say what came of it", m.name, files[0])
		}
		if t.Verdict == caught {
			byTests++
		}
		s, tried := sim.of(m.name)
		found := "not tried"
		switch {
		case strings.HasPrefix(m.file, "pgctl/"):
			found = "not by models"
		case tried && s.Verdict == caught:
			found = s.By
			seen++
		case tried:
			found = "no"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | `%s` | %s | %s |", m.rule, m.name, m.file, orVerdict(t), strings.TrimPrefix(found, "TestSchedules/")))
	}
	_, err = fmt.Fprintf(w, head, len(rows), byTests, seen, len(sim.Results), sim.Seeds, strings.Join(rows, "\n"))
	return err
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
package pgctl, found %d of the %d that were tried on it, within %d schedules each. What it does not find breaks a second line behind another rule, changes only how long something takes, or
needs what is not drawn; that is what the tests beside it are for.

| rule | mutant | broken in | caught by | seen by the simulation |
|---|---|---|---|---|
%s
`
