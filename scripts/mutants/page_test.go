package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is entered of one mutant replaces what was known of it, and of it alone.
func TestEnter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	for _, r := range []result{{"a", "SURVIVED", ""}, {"b", caught, "TestB"}, {"a", caught, "TestA"}} {
		if err := enter(file, 3, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter(file, 4, result{Name: "a"}); err == nil {
		t.Error("records of 3 and of 4 seeds mixed")
	}
	r, err := readRecord(file)
	if want := []result{{"b", caught, "TestB"}, {"a", caught, "TestA"}}; err != nil || r.Seeds != 3 || !slices.Equal(r.Results, want) {
		t.Errorf("have %+v, %v, want %+v", r, err, want)
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
