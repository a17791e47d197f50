package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// How long one mutant's tests, and one build, may take. Tests that hang on a mutant have caught it.
const (
	testTime  = 3 * time.Minute
	buildTime = 5 * time.Minute
)

// caught is the one good verdict.
const caught = "caught"

// scratch is a copy of the tree, as it stands in the working directory.
type scratch struct {
	dir   string
	flags []string          // of the test binaries, besides
	whole map[string]string // by package and tests: why they do not pass in the unbroken copy; empty: they do
}

// copyTree copies what git tracks, and what it would, to a directory of its own.
func copyTree(ctx context.Context) (*scratch, error) {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir, whole: map[string]string{}}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if err := s.copyFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // tracked, but deleted
			s.remove()
			return nil, err
		}
	}
	return s, nil
}

func (s *scratch) copyFile(name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	to := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

func (s *scratch) remove() {
	_ = os.RemoveAll(s.dir) // a temporary directory that stays does no harm
}

// try breaks the rule, runs its tests and mends it again. The verdict is caught, or what is wrong; by are the tests that
// caught it.
func (s *scratch) try(ctx context.Context, m mutant) (verdict, by string) {
	file := filepath.Join(s.dir, m.file)
	text, err := os.ReadFile(file)
	if err != nil {
		return "STALE: " + err.Error(), ""
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return fmt.Sprintf("STALE: %s holds the text %d times, want once", m.file, n), ""
	}
	if why := s.passes(ctx, m); why != "" {
		return "UNKNOWN: unbroken, " + why, ""
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return err.Error(), ""
	}
	defer func() {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			verdict = err.Error()
		}
	}()
	binary, why := s.build(ctx, m.pkg, "broken.test")
	if why != "" {
		return "STALE: it does not compile: " + why, ""
	}
	why, by = s.test(ctx, binary, m)
	if why == "" {
		return "SURVIVED", ""
	}
	return caught, by
}

// passes says why the tests do not pass in the unbroken copy: a failure on a mutant means something only if they do.
func (s *scratch) passes(ctx context.Context, m mutant) (why string) {
	key := m.pkg + " " + m.run
	why, known := s.whole[key]
	if known {
		return why
	}
	binary, why := s.build(ctx, m.pkg, "whole.test")
	if why == "" {
		why, _ = s.test(ctx, binary, m)
	}
	s.whole[key] = why
	return why
}

// build compiles a package's tests.
func (s *scratch) build(ctx context.Context, pkg, name string) (binary, why string) {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	binary = filepath.Join(s.dir, name)
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-tags", "integration", "-o", binary, pkg)
	cmd.Dir = s.dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Sprintf("build: %v: %s", err, lastLines(out))
	}
	return binary, ""
}

// test runs a mutant's tests and says why they do not pass, and which; empty: they do. Tests that do not exist do not pass.
func (s *scratch) test(ctx context.Context, binary string, m mutant) (why, by string) {
	ctx, cancel := context.WithTimeout(ctx, testTime+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run="+m.run, "-test.failfast", "-test.timeout="+testTime.String(), "-test.v", "-rapid.nofailfile")
	if !s.usesRapid(m.pkg) {
		cmd.Args = cmd.Args[:len(cmd.Args)-1]
	}
	cmd.Args = append(cmd.Args, s.flags...)
	cmd.Dir = filepath.Join(s.dir, m.pkg)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		by = failed(out)
		return fmt.Sprintf("the tests fail: %v: %s: %s", err, by, lastLines(out)), by
	case !bytes.Contains(out, []byte("--- PASS: ")):
		return "no test has this name", ""
	}
	return "", ""
}

var failedTest = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// failed names the test that failed, down to the first case, or what ended all of them.
func failed(out []byte) string {
	name := ""
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		if n := string(m[1]); name == "" || strings.HasPrefix(n, name+"/") {
			name = n
		}
	}
	switch {
	case name != "":
		return name
	case bytes.Contains(out, []byte("panic: test timed out")):
		return "a test that never ends"
	}
	return "a panic"
}

// usesRapid says whether the package's tests know rapid's flags.
func (s *scratch) usesRapid(pkg string) bool {
	tests, _ := filepath.Glob(filepath.Join(s.dir, pkg, "*_test.go")) // its only error is a bad pattern
	for _, name := range tests {
		if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(`"pgregory.net/rapid"`)) {
			return true
		}
	}
	return false
}

// lastLines is the end of an output, in one line.
func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}
