package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// testdata is where the kept schedules are listed.
const testdata = "../testdata/seeds"

// shared is one engine for all tests of this package.
var shared = sync.OnceValues(func() (*engine, error) { return newEngine(context.Background()) })

func engineFor(t *testing.T) *engine {
	t.Helper()
	e, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// played is a run and its log.
func played(t *testing.T, s schedule) (run, string) {
	t.Helper()
	var log bytes.Buffer
	r, err := engineFor(t).play(t.Context(), s, &log)
	if err != nil {
		t.Fatal(err)
	}
	return r, log.String()
}

// The same seed gives the same run, to the last byte of the agents' logs. Another order of the goroutines is another run.
func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	one, log := played(t, schedule{seed: 2})
	two, again := played(t, schedule{seed: 2})
	if one.words != two.words || log != again || one.sum != two.sum {
		t.Errorf("two runs of one seed differ:\n%s\n%s", one.words, two.words)
	}
	if !strings.Contains(one.words, "all faults are over") || !strings.Contains(log, "type=started") {
		t.Errorf("a whole schedule was wanted, and its agents' logs:\n%s", one.words)
	}
	other, _ := played(t, schedule{seed: 2, order: 1})
	if one.sum == other.sum {
		t.Error("another order of the goroutines gave the same run")
	}
}

// What has failed says how to play it again, and why it ended when no test says so.
func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		run  run
		want string
	}{
		{run{schedule: schedule{seed: 17}, passed: true}, "passed"},
		{run{schedule: schedule{seed: 17}}, "again with: make replay SEED=17,"},
		{run{schedule: schedule{seed: 17, order: 3}}, "again with: make replay SEED=17 ARGS='-order 3',"},
	} {
		if got := tt.run.verdict(); !strings.Contains(got, tt.want) {
			t.Errorf("verdict %q, want %q in it", got, tt.want)
		}
	}
	var end tail
	for range 3 * tailSize {
		if _, err := end.Write([]byte("ab")); err != nil {
			t.Fatal(err)
		}
	}
	if got := end.String(); len(got) != tailSize || !strings.HasSuffix(got, "abab") {
		t.Errorf("%d bytes kept", len(got))
	}
}

// Each schedule that once found something, or shows what others do not, passes.
func TestKeptSchedules(t *testing.T) {
	text, err := os.ReadFile(testdata)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := parseKept(string(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Parallel()
	for _, k := range kept {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, err := engineFor(t).play(t.Context(), k.schedule, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if !r.passed {
				t.Errorf("kept for: %s\n%s\nagain with: %s", k.why, r.words, k.command())
			}
		})
	}
}

// kept is a line of the list.
type kept struct {
	schedule
	why string
}

func parseKept(text string) (all []kept, err error) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var k kept
		if _, err := fmt.Sscan(line, &k.seed, &k.order); err != nil {
			return nil, fmt.Errorf("%s: want seed, order and why, have %q: %w", testdata, line, err)
		}
		fields := strings.SplitN(line, " ", 3)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s: %q does not say what it is kept for", testdata, line)
		}
		k.why = fields[2]
		all = append(all, k)
	}
	return all, nil
}
