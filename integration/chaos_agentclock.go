package integration

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A static binary preloads nothing, so that the agents and guards whose wall clock is to jump are built for it: with a package time
// whose Now adds the offset that stands in the host's file. The monotonic reading stays, as it does on a machine.

//go:embed testdata/wallclock.go.txt
var goWallClockSource string

// The line of time.Now that reads both clocks, and what stands in its place. Source: time/time.go, Go 1.26.
const (
	readsClocks = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	readsJumped = readsClocks + "\tsec, nsec = jumped(sec, nsec)\n"
)

// buildWithClock builds a pgquorum whose wall clock is the machine's with the offset in the file $CHAOS_CLOCK.
// The first build after a change of Go compiles all packages, for a minute or more.
func buildWithClock(ctx context.Context, in string) (bin string, err error) {
	dir := filepath.Join(in, "clock-build")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	if n := bytes.Count(source, []byte(readsClocks)); n != 1 {
		return "", fmt.Errorf("%s: the beginning of time.Now is there %d times as it is known, want once", std, n)
	}
	now, added, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "wallclock.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(std, "time.go"): now, filepath.Join(std, "wallclock.go"): added,
	}})
	err = errors.Join(err, os.WriteFile(now, bytes.Replace(source, []byte(readsClocks), []byte(readsJumped), 1), 0o644),
		os.WriteFile(added, []byte(goWallClockSource), 0o644), os.WriteFile(overlay, replace, 0o644))
	if err != nil {
		return "", err
	}
	bin = filepath.Join(in, "pgquorum-clock")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-trimpath", "-o", bin, "pgquorum/cmd/pgquorum")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of pgquorum with a clock that jumps: %w: %s", err, out)
	}
	return bin, nil
}
