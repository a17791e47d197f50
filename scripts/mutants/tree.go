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
	"slices"
	"strings"
	"time"
)

// buildTime is how long one build may take.
const buildTime = 5 * time.Minute

// scratch is a copy of the tree, as it stands in the working directory.
type scratch struct {
	dir   string
	seeds int               // of the simulation, for each mutant; 0: their own tests are run
	whole map[string]string // by package, tests and seeds: why they do not pass in the unbroken copy; empty: they do
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
	binary, why := s.build(ctx, m.pkg, "broken.test")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err.Error(), ""
	}
	if why != "" {
		return "STALE: it does not compile: " + why, ""
	}
	verdict, by = s.test(ctx, binary, m).verdict(slices.Contains(hanging, m.name))
	if verdict == caught && by != neverEnds {
		if why := s.passesStill(ctx, m, by); why != "" {
			return "UNKNOWN: unbroken, after it, " + why, by
		}
	}
	return verdict, by
}

// passes says why the tests do not pass in the unbroken copy: a failure on a mutant means something only if they do.
func (s *scratch) passes(ctx context.Context, m mutant) (why string) {
	key := fmt.Sprintf("%s %s %d", m.pkg, m.run, s.seedsOf(m.name))
	why, known := s.whole[key]
	if !known {
		why = s.testWhole(ctx, m)
		s.whole[key] = why
	}
	return why
}

// passesStill says why the test that has failed on a mutant does not pass in the unbroken copy now: on a disk that has become
// full, or a machine that is too slow, it fails on anything.
func (s *scratch) passesStill(ctx context.Context, m mutant, test string) (why string) {
	if test != aPanic {
		m.run = exactly(test)
	}
	return s.testWhole(ctx, m)
}

func (s *scratch) testWhole(ctx context.Context, m mutant) (why string) {
	binary, why := s.build(ctx, m.pkg, "whole.test")
	if why != "" {
		return why
	}
	return s.test(ctx, binary, m).why
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
