//go:build !integration

package integration

import (
	"os/exec"
	"strings"
	"testing"
)

// The pgquorum whose clock jumps can be built with this Go. It is among the tests without clusters, so that what it compiles, for
// a minute or more with a new Go, is there when TestChaos needs it.
func TestBuildWithClock(t *testing.T) {
	t.Parallel()
	bin, err := buildWithClock(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "pgquorum") {
		t.Errorf("version: %v: %q", err, out)
	}
}
