package pgctl

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testBinDir holds the PostgreSQL under test: what scripts/pg.sh printed for another version, else the machine's own.
var testBinDir = cmp.Or(os.Getenv("PGQUORUM_PG"), "/usr/lib/postgresql/15/bin")

// needing are the tests that need a program which scripts/pg.sh cannot get for every version.
var needing = map[string][]string{
	"pg_rewind": {"TestCrashRecoverStoppedHalfWay", "TestRewindAfterCrash", "TestRewindBreaksOff", "TestRewindMarkLeft", "TestRewindSeesNothing"},
}

// TestMain leaves out, by a list that is made before and printed, the tests whose program is not there.
func TestMain(m *testing.M) {
	flag.Parse()
	var out []string
	for program, tests := range needing {
		if _, err := os.Stat(filepath.Join(testBinDir, program)); err == nil {
			continue
		}
		out = append(out, tests...)
		if os.Getenv(testRoleEnv) == "" {
			fmt.Printf("LEFT OUT, since %s has no %s: %s\n", testBinDir, program, strings.Join(tests, ", "))
		}
	}
	if len(out) > 0 {
		slices.Sort(out)
		skip := "^(" + strings.Join(out, "|") + ")$"
		if asked := flag.Lookup("test.skip").Value.String(); asked != "" {
			skip = asked + "|" + skip
		}
		if err := flag.Set("test.skip", skip); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// testMajor is its major version.
func testMajor(t *testing.T) int {
	t.Helper()
	major, err := programMajor(t.Context(), filepath.Join(testBinDir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return major
}
