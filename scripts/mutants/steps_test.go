package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each rule that a mutant breaks is said to support steps that docs/protocol.md has, or none and what it is for instead; each
// step rests on some rule, and on those at least that its own text names.
func TestSupports(t *testing.T) {
	steps := stepsOf(t)
	named, rules := map[string]bool{}, map[string][]string{}
	for _, s := range supports {
		if named[s.rule] {
			t.Errorf("%s: twice", s.rule)
		}
		named[s.rule] = true
		for argument, list := range map[string]string{"P1": s.p1, "P2": s.p2} {
			for _, step := range strings.Fields(list) {
				step = argument + " " + step
				if _, ok := steps[step]; !ok {
					t.Errorf("%s: docs/protocol.md has no step %s", s.rule, step)
				}
				rules[step] = append(rules[step], s.rule)
			}
		}
		if s.p1+s.p2+s.why == "" {
			t.Errorf("%s supports no step, and is for nothing", s.rule)
		}
	}
	for step, text := range steps {
		whole := step[:len("P1 3")]
		rest := slices.Concat(rules[whole], rules[step])
		if len(rest) == 0 {
			t.Errorf("step %s rests on no rule", step)
		}
		for _, rule := range ruleInText.FindAllString(text, -1) {
			if !slices.Contains(rest, rule) {
				t.Errorf("step %s names %s, and is not said to rest on it", step, rule)
			}
		}
	}
	for _, m := range mutants {
		if !named[m.rule] {
			t.Errorf("%s: nothing is said of the steps that rest on %s", m.name, m.rule)
		}
	}
	for _, s := range supports {
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.rule == s.rule }) {
			t.Errorf("%s: no mutant breaks it", s.rule)
		}
	}
}

var (
	ruleInText = regexp.MustCompile(`\b[BCFGKLSUV]\d\b`)
	stepLine   = regexp.MustCompile(`^(\d)\. `)
	partLine   = regexp.MustCompile(`^   ([a-z])\. `)
)

// stepsOf gives the text of each step of the two arguments, by names such as "P1 3" and "P1 3a"; a part's text is no other's.
func stepsOf(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]string{}
	argument, step, part := "", "", ""
	for line := range strings.Lines(string(data)) {
		switch {
		case strings.HasPrefix(line, "## "):
			argument, step, part = "", "", ""
			if _, of, ok := strings.Cut(line, "Why P"); ok {
				argument = "P" + of[:1] + " "
			}
		case argument == "":
			continue
		case stepLine.MatchString(line):
			step, part = line[:1], ""
		case partLine.MatchString(line):
			part = strings.TrimSpace(line)[:1]
		case strings.HasPrefix(line, "   ") && !strings.HasPrefix(line, "    "):
			part = "" // of the step as a whole again
		case !strings.HasPrefix(line, " "):
			step = ""
		}
		if argument != "" && step != "" {
			steps[argument+step+part] += line
		}
	}
	if len(steps) != 7+3+7+3 {
		t.Fatalf("found %d steps in docs/protocol.md, want those of P1 (7, and three parts) and of P2 (7, and three parts)", len(steps))
	}
	return steps
}
