package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mutant that does not compile, and a failure that is the machine's, are not caught. The machine's is a file that the
// mutant's test leaves, as a full disk would stay full.
func TestTry(t *testing.T) {
	t.Parallel()
	s := &scratch{dir: t.TempDir(), whole: map[string]string{}}
	for name, text := range map[string]string{
		"go.mod": "module small\n\ngo 1.24\n",
		"a.go":   "package small\n\nfunc sum(a, b int) int { return a + b }\n",
		"a_test.go": `package small

import (
	"os"
	"testing"
)

func TestSum(t *testing.T) {
	t.Run("of two", func(t *testing.T) {
		if sum(1, 2) != 3 {
			t.Error("no sum")
		}
	})
}

func TestZero(t *testing.T) { _ = sum(0, 0) }

func TestMachine(t *testing.T) {
	if sum(1, 2) != 3 {
		if err := os.WriteFile("full", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat("full"); err == nil {
		t.Error("no space left on device")
	}
}

func TestNever(t *testing.T) { t.Error("never") }
`,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, old, new, run, verdict, by string }{
		{"a check fails", "a + b", "a - b", "^TestSum$", caught, "TestSum/of_two"},
		{"no check fails", "a + b", "a - b", "^TestZero$", survived, ""},
		{"it does not compile", "a + b", "a + c", "^TestSum$", "STALE: it does not compile", ""},
		{"its text is gone", "a * b", "a - b", "^TestSum$", "STALE: a.go holds the text 0 times", ""},
		{"the test fails on anything", "a + b", "a - b", "^TestNever$", "UNKNOWN: unbroken, ", ""},
		{"there is no such test", "a + b", "a - b", "^TestNone$", "UNKNOWN: unbroken, no test has this name", ""},
		{"the machine fails", "a + b", "a - b", "^TestMachine$", "UNKNOWN: unbroken, after it, ", "TestMachine"},
	} {
		m := mutant{name: c.name, file: "a.go", old: c.old, new: c.new, pkg: ".", run: c.run}
		if verdict, by := s.try(t.Context(), m); !strings.HasPrefix(verdict, c.verdict) || by != c.by {
			t.Errorf("%s: %s by %q, want %s by %q", c.name, verdict, by, c.verdict, c.by)
		}
	}
}
