package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tested is the package whose test plays the schedules.
const tested = "pgquorum/agent/sim"

// buildTest compiles the test for WebAssembly. No path of this machine is in the result.
func buildTest(ctx context.Context) (binary []byte, err error) {
	dir, err := os.MkdirTemp("", "replay")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "sim.wasm")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-o", file, tested)
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s for wasip1: %w\n%s", tested, err, out)
	}
	return os.ReadFile(file)
}

// keptBuilds is how many builds' machine code is kept: of about 75 MB and ten seconds of a processor each.
const keptBuilds = 3

// cacheOf gives the directory for the machine code of a binary, bin/replay/SUM in the repository, and removes the oldest.
func cacheOf(ctx context.Context, binary []byte) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	all := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "bin", "replay")
	dir := filepath.Join(all, fmt.Sprintf("%x", sha256.Sum256(binary))[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.Chtimes(dir, time.Time{}, time.Now()); err != nil {
		return "", err
	}
	return dir, prune(all)
}

// prune removes all but the newest builds. Whoever still reads one has its files open.
func prune(all string) error {
	entries, err := os.ReadDir(all)
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, d := range entries {
		if info, err := d.Info(); err == nil { // another run may have removed it
			used[d.Name()] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return used[b.Name()].Compare(used[a.Name()]) })
	for _, old := range entries[min(keptBuilds, len(entries)):] {
		if err := os.RemoveAll(filepath.Join(all, old.Name())); err != nil {
			return err
		}
	}
	return nil
}
