package main

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// The same seed gives the same run, to the last byte of the agents' logs; another order gives another run.
func TestSameSeedSameRun(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			one, log := played(t, schedule{seed: seed})
			two, again := played(t, schedule{seed: seed})
			if one.words != two.words || log != again || one.sum != two.sum {
				t.Errorf("two runs of one seed differ:\n%s\n%s", one.words, two.words)
			}
			if !strings.Contains(one.words, "all faults are over") || !strings.Contains(log, "is promoted") && !strings.Contains(log, "msg=promoted") && !strings.Contains(log, "type=started") {
				t.Errorf("little was told:\n%s", one.words)
			}
		})
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

var _ = sha256.Size
