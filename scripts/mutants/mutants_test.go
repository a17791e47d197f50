package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every mutant still fits the tree: its text stands in its file once, and its tests have names that exist. Otherwise it
// would be found out only when somebody runs them all.
func TestMutantsFitTheTree(t *testing.T) {
	root := filepath.Join("..", "..")
	names := map[string]bool{}
	for _, m := range mutants {
		text, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: %s holds its text %d times, want once", m.name, m.file, n)
		}
		if m.old == m.new || names[m.name] || m.rule == "" {
			t.Errorf("%s: want a name of its own, a rule and a change", m.name)
		}
		names[m.name] = true
		top, _, _ := strings.Cut(m.run, "$/")
		run := regexp.MustCompile(strings.TrimSuffix(top, "$") + "$")
		if !has(t, filepath.Join(root, m.pkg), run) {
			t.Errorf("%s: %s has no test %s", m.name, m.pkg, m.run)
		}
	}
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// has says whether a package has a test of that name.
func has(t *testing.T, dir string, name *regexp.Regexp) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testFunc.FindAllStringSubmatch(string(text), -1) {
			if name.MatchString(found[1]) {
				return true
			}
		}
	}
	return false
}

// A mutant asked for by its name, or by its rule.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		only  string
		rules []string
		want  int
	}{
		{"", nil, len(mutants)},
		{"no-wait", nil, 1},
		{"no-wait", []string{"K5"}, 1},
		{"no-wait", []string{"C1"}, 0},
		{"", []string{"G2"}, 1},
		{"no such one", nil, 0},
	} {
		if got := choose(c.only, c.rules); len(got) != c.want {
			t.Errorf("choose(%q, %q) gives %d, want %d", c.only, c.rules, len(got), c.want)
		}
	}
}

var ruleName = regexp.MustCompile(`(?m)^(?:- |\d\. \()([A-Z]\d)\b`)

// Every rule of the protocol is broken by one mutant at least; P1 to P3 are what the rules are for.
func TestEveryRuleHasAMutant(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]bool{"P1": true, "P2": true, "P3": true}
	for _, m := range mutants {
		broken[m.rule] = true
	}
	rules := ruleName.FindAllStringSubmatch(string(text), -1)
	if len(rules) < 50 {
		t.Fatalf("found only %d rules in docs/protocol.md", len(rules))
	}
	for _, r := range rules {
		if !broken[r[1]] {
			t.Errorf("%s: no mutant breaks it", r[1])
		}
	}
}
