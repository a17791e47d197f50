// Command mutants breaks the safety rules one at a time and runs the tests that guard them: each must fail. A mutant that
// survives shows a rule that no test would miss. Nothing in the tree is changed: the broken file is laid over it for the
// time of one `go test` (-overlay).
//
//	go run ./scripts/mutants [RULE...]    all, or those of some rules, such as: L1 C1
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// mutant is one broken rule: the text old stands in the file exactly once and becomes new; the tests of pkg whose names
// match run (empty: all) must then fail.
type mutant struct {
	rule, what string
	file       string
	old, new   string
	pkg, run   string
}

// testTime bounds one mutant's tests: one that hangs is caught as well.
const testTime = 5 * time.Minute

func main() {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	survivors := 0
	for _, m := range mutants {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.rule) {
			continue
		}
		verdict := "caught"
		if err := try(dir, m); err != nil {
			verdict = err.Error()
			survivors++
		}
		fmt.Printf("%-3s %s: %s\n", m.rule, m.what, verdict)
	}
	_ = os.RemoveAll(dir) // a temporary directory that stays does no harm
	if survivors > 0 {
		fmt.Printf("%d not caught\n", survivors)
		os.Exit(1)
	}
}

// try gives nil when the tests fail on the mutant, as they must.
func try(dir string, m mutant) error {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return fmt.Errorf("STALE: %s holds %q %d times, want once", m.file, m.old, n)
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return err
	}
	overlay, err := writeOverlay(dir, m.file, broken)
	if err != nil {
		return err
	}
	if !passes(m) {
		return fmt.Errorf("UNKNOWN: the tests of %s fail without it, too", m.pkg)
	}
	if out, err := goCommand("build", "-overlay", overlay, m.pkg); err != nil {
		return fmt.Errorf("STALE: it does not compile: %s", bytes.TrimSpace(out))
	}
	if _, err := goCommand("test", "-overlay", overlay, "-count=1", "-failfast", "-run", m.run, m.pkg); err == nil {
		return fmt.Errorf("SURVIVED the tests of %s", m.pkg)
	}
	return nil
}

// whole remembers which tests pass on the tree as it is: a failure on a mutant means something only then.
var whole = map[[2]string]bool{}

func passes(m mutant) bool {
	key := [2]string{m.pkg, m.run}
	if _, known := whole[key]; !known {
		_, err := goCommand("test", "-count=1", "-run", m.run, m.pkg)
		whole[key] = err == nil
	}
	return whole[key]
}

// writeOverlay writes the file that -overlay reads. Source: go help build.
func writeOverlay(dir, file, broken string) (string, error) {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{absolute: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

func goCommand(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GOFLAGS=") })
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
