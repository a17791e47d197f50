package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// A segment that several timelines have is one; history files and directories are none.
func TestSegmentsIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"000000010000000000000005", "000000020000000000000005", "000000020000000000000006", "00000002.history", "archive_status"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := segmentsIn(dir); got != 2 {
		t.Errorf("want segments 5 and 6, have %d", got)
	}
}

func TestMetricOf(t *testing.T) {
	t.Parallel()
	text := []byte("# HELP go_goroutines Number\ngo_goroutines 47\nraft_commit_index{name=\"n1\",scope=\"s\"} 1.2e+03\n")
	for name, want := range map[string]float64{"go_goroutines": 47, "raft_commit_index": 1200, "absent": 0} {
		if got := metricOf(text, name); got != want {
			t.Errorf("%s: want %g, have %g", name, want, got)
		}
	}
}
