package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// How long one mutant's tests may take, and one schedule of the simulation more.
const (
	testTime     = 3 * time.Minute
	scheduleTime = 10 * time.Second
)

// What may have come of a mutant. caught is the one good verdict: a check failed. Tests that have not ended in their time are
// none, since a loaded machine does that too and nobody sees what was wrong; they count only for mutants that are declared.
const (
	caught   = "caught"
	survived = "SURVIVED"
	endless  = "NEVER ENDS"
)

// What catches a mutant, in the place of a test's name.
const (
	neverEnds = "a test that never ends"
	aPanic    = "a panic"
)

// outcome is how a run of tests ended.
type outcome struct {
	why     string // why they do not pass; empty: they do
	failed  string // the check that failed, down to the first case; empty: none did
	endless bool   // they had not ended in their time
}

// verdict says what the outcome means for a mutant. What is neither a failed check nor an endless test says nothing about it: the
// tests were killed, or could not be run.
func (o outcome) verdict(hangs bool) (verdict, by string) {
	switch {
	case o.why == "":
		return survived, ""
	case o.failed != "":
		return caught, o.failed
	case o.endless && hangs:
		return caught, neverEnds
	case o.endless:
		return endless, ""
	}
	return "UNKNOWN: " + o.why, ""
}

// test runs a mutant's tests.
func (s *scratch) test(ctx context.Context, binary string, m mutant) outcome {
	limit, args := testTime, []string{"-test.run=" + m.run, "-test.failfast", "-test.v"}
	if s.usesRapid(m.pkg) {
		args = append(args, "-rapid.nofailfile")
	}
	if seeds := s.seedsOf(m.name); seeds > 0 {
		args = append(args, fmt.Sprintf("-seeds=%d", seeds))
		limit += time.Duration(seeds) * scheduleTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append(args, "-test.timeout="+limit.String())...)
	cmd.Dir = filepath.Join(s.dir, m.pkg)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	o := outcomeOf(out, err)
	if err != nil && o.failed == "" && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		o.endless = true
	}
	return o
}

var (
	failedTest = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	panicked   = regexp.MustCompile(`(?m)^panic: `)
	tooLong    = regexp.MustCompile(`(?m)^panic: .*(test timed out after|has not ended after)|^fatal error: all goroutines are asleep`)
)

// outcomeOf reads what a test binary has printed. Tests that do not exist do not pass.
func outcomeOf(out []byte, err error) outcome {
	var exit *exec.ExitError
	switch failed := firstFailed(out); {
	case err == nil && bytes.Contains(out, []byte("--- PASS: ")):
		return outcome{}
	case err == nil:
		return outcome{why: "no test has this name"}
	case failed != "":
		return outcome{why: fmt.Sprintf("the tests fail: %v: %s: %s", err, failed, lastLines(out)), failed: failed}
	case tooLong.Match(out):
		return outcome{why: "the tests do not end: " + lastLines(out), endless: true}
	case errors.As(err, &exit) && exit.Exited() && panicked.Match(out):
		return outcome{why: "the tests panic: " + lastLines(out), failed: aPanic}
	}
	return outcome{why: fmt.Sprintf("the tests were not carried out: %v: %s", err, lastLines(out))}
}

// firstFailed names the test that failed, down to the first case; empty: none did.
func firstFailed(out []byte) string {
	name := ""
	for _, m := range failedTest.FindAllSubmatch(out, -1) {
		if n := string(m[1]); name == "" || strings.HasPrefix(n, name+"/") {
			name = n
		}
	}
	return name
}

// exactly is the pattern of one test, or of one case of it.
func exactly(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// lastLines is the end of an output, in one line.
func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}
