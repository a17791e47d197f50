package main

import (
	"errors"
	"os/exec"
	"testing"
)

// Caught means that a check failed: not that the tests were killed, were none, or did not end.
func TestVerdict(t *testing.T) {
	exited := func(script string) error { return exec.Command("/bin/sh", "-c", script).Run() }
	failed, killed := exited("exit 2"), exited("kill -9 $$")
	for _, c := range []struct {
		name, out   string
		err         error
		hangs       bool
		verdict, by string
	}{
		{"all pass", "--- PASS: TestA (0.00s)\nPASS\n", nil, false, survived, ""},
		{"a check fails", "--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.01s)\nFAIL\n", failed, false, caught, "TestB"},
		{"a case fails", "--- FAIL: TestB (0.01s)\n    --- FAIL: TestB/a_case (0.00s)\nFAIL\n", failed, false, caught, "TestB/a_case"},
		{"a case fails, seen first", "    --- FAIL: TestB/a_case (0.00s)\n--- FAIL: TestB (0.01s)\nFAIL\n", failed, false, caught, "TestB/a_case"},
		{"a test panics", "--- FAIL: TestB (0.00s)\npanic: index out of range [recovered]\n", failed, false, caught, "TestB"},
		{"the program panics", "=== RUN   TestB\npanic: index out of range\n\ngoroutine 7\n", failed, false, caught, aPanic},
		{"the time is over", "=== RUN   TestB\npanic: test timed out after 3m0s\n", failed, false, endless, ""},
		{"the time is over, as declared", "=== RUN   TestB\npanic: test timed out after 3m0s\n", failed, true, caught, neverEnds},
		{"a schedule never ends", "=== RUN   TestB\npanic: TestSchedules/seed3 has not ended after 1h0m0s of its time:\n", failed, false, endless, ""},
		{"a check fails, then the time is over", "--- FAIL: TestB (0.00s)\npanic: test timed out after 3m0s\n", failed, false, caught, "TestB"},
		{"deadlock", "=== RUN   TestB\nfatal error: all goroutines are asleep - deadlock!\n", failed, false, endless, ""},
		{"memory is short", "=== RUN   TestB\nfatal error: runtime: out of memory\n", failed, false, "UNKNOWN", ""},
		{"killed", "=== RUN   TestB\n", killed, true, "UNKNOWN", ""},
		{"killed while it panics", "=== RUN   TestB\npanic: index out of range\n", killed, false, "UNKNOWN", ""},
		{"it cannot be run", "", errors.New("fork/exec: text file busy"), false, "UNKNOWN", ""},
		{"it says nothing of a test", "what it lacks: root\n", failed, false, "UNKNOWN", ""},
		{"no such test", "testing: warning: no tests to run\nPASS\n", nil, false, "UNKNOWN", ""},
	} {
		verdict, by := outcomeOf([]byte(c.out), c.err).verdict(c.hangs)
		if c.verdict == "UNKNOWN" && len(verdict) > len(c.verdict) {
			verdict = verdict[:len(c.verdict)]
		}
		if verdict != c.verdict || by != c.by {
			t.Errorf("%s: %s by %q, want %s by %q", c.name, verdict, by, c.verdict, c.by)
		}
	}
}

// The pattern of one case matches it alone.
func TestExactly(t *testing.T) {
	const want = `^TestC1Satisfied$/^\(a\)_k=0$`
	if got := exactly("TestC1Satisfied/(a)_k=0"); got != want {
		t.Errorf("have %s, want %s", got, want)
	}
}
