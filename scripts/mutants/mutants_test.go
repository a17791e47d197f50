package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every mutant still fits the tree: its text stands in its file once, and all tests that its pattern names exist. Otherwise it
// would be found out only when somebody runs them all, or never.
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
		checkNames(t, m, declaredIn(t, filepath.Join(root, m.pkg)))
	}
	for name := range moreSeeds {
		if !names[name] {
			t.Errorf("%s needs more schedules, and is no mutant", name)
		}
	}
	for _, name := range hanging {
		if !names[name] {
			t.Errorf("%s hangs, and is no mutant", name)
		}
	}
}

// checkNames complains of each test that a mutant's pattern means and its package does not have: after a renaming one of two
// alternatives would be missed by nobody.
func checkNames(t *testing.T, m mutant, have declared) {
	t.Helper()
	top, cases, hasCases := strings.Cut(m.run, "$/")
	if hasCases {
		top += "$"
	}
	for _, name := range spelt(t, top) {
		if !slices.Contains(have.tests, name) {
			t.Errorf("%s: %s has no test %s", m.name, m.pkg, name)
		}
	}
	if re := regexp.MustCompile(cases); hasCases && !slices.ContainsFunc(have.texts, re.MatchString) {
		t.Errorf("%s: no test of %s has a case %s", m.name, m.pkg, cases)
	}
}

// spelt gives all that a pattern without repetitions matches.
func spelt(t *testing.T, pattern string) []string {
	t.Helper()
	if !strings.HasPrefix(pattern, "^") || !strings.HasSuffix(pattern, "$") {
		t.Errorf("%s: want whole names, ^...$", pattern)
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		t.Fatal(err)
	}
	all, err := spellings(re)
	if err != nil {
		t.Fatalf("%s: %v", pattern, err)
	}
	return all
}

func spellings(re *syntax.Regexp) (all []string, err error) {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, nil
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText:
		return []string{""}, nil
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				all = append(all, string(r))
			}
		}
		return all, nil
	case syntax.OpCapture:
		return spellings(re.Sub[0])
	case syntax.OpAlternate, syntax.OpConcat:
		if re.Op == syntax.OpConcat {
			all = []string{""}
		}
		for _, sub := range re.Sub {
			some, err := spellings(sub)
			if err != nil {
				return nil, err
			}
			if re.Op == syntax.OpAlternate {
				all = append(all, some...)
				continue
			}
			var longer []string
			for _, before := range all {
				for _, after := range some {
					longer = append(longer, before+after)
				}
			}
			all = longer
		}
		return all, nil
	}
	return nil, fmt.Errorf("want names and alternatives only, not %s", re)
}

var guardsCode = regexp.MustCompile(`^pgctl/(guard_|watchdog_|reserve)`)

// What is broken in the guard is caught by the real process of a guard with a real PostgreSQL, as the page says.
func TestGuardsMutantsMeetTheRealGuard(t *testing.T) {
	for _, m := range mutants {
		if guardsCode.MatchString(m.file) && !strings.HasPrefix(m.run, "^TestGuard") {
			t.Errorf("%s: %s runs no guard", m.name, m.run)
		}
	}
}

func TestSpelt(t *testing.T) {
	for pattern, want := range map[string]string{
		"^TestA$":                         "TestA",
		"^(TestA|TestB)$":                 "TestA TestB",
		"^TestS2(Un|FailedStep)Confirm$":  "TestS2UnConfirm TestS2FailedStepConfirm",
		"^Test(B2Full|B2FullDisk|Other)$": "TestB2Full TestB2FullDisk TestOther",
	} {
		if got := strings.Join(spelt(t, pattern), " "); got != want {
			t.Errorf("%s: have %s, want %s", pattern, got, want)
		}
	}
	if _, err := spellings(&syntax.Regexp{Op: syntax.OpStar}); err == nil {
		t.Error("a repetition has spellings")
	}
}

// declared is what a package has: names of tests, and texts, as the names of cases are made from them.
type declared struct{ tests, texts []string }

var parsed = map[string]declared{}

func declaredIn(t *testing.T, dir string) (d declared) {
	t.Helper()
	if d, known := parsed[dir]; known {
		return d
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && strings.HasPrefix(n.Name.Name, "Test") && strings.HasSuffix(name, "_test.go") {
					d.tests = append(d.tests, n.Name.Name)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil {
					d.texts = append(d.texts, strings.ReplaceAll(text, " ", "_"))
				}
			}
			return true
		})
	}
	parsed[dir] = d
	return d
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
