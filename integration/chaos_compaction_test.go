package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	logWritten   = `time=2026-11-22T05:00:31.000Z level=DEBUG msg="raft says" name=n1 raft="snapshot complete up to" index=70` + "\n"
	logCompacts  = `time=2026-11-22T05:00:31.000Z level=DEBUG msg="raft says" name=n1 raft="compacting logs" from=1 to=38` + "\n"
	logInstalled = `time=2026-11-22T05:00:31.000Z level=DEBUG msg="raft says" name=n1 raft="Installed remote snapshot"` + "\n"
	logOther     = `time=2026-11-22T05:00:31.000Z level=INFO msg="no logs to truncate" name=n1` + "\n"
)

// A node has compacted its log only if its present store shows it.
func TestCompaction(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		old  string // the log of a store that is lost; empty: none is
		log  string
		kept int
		want string // what is missing; empty: nothing
	}{
		{"compacted", "", logOther + logCompacts + logWritten, 1, ""},
		{"nothing", "", logOther, 0, "no snapshot of raft is kept"},
		{"a snapshot, and the whole log", "", logWritten, 1, "begins with entry 1"},
		{"one installed over the whole log", "", logInstalled, 1, "begins with entry 1"},
		{"snapshots that are gone", "", logCompacts + logWritten, 0, "no snapshot of raft is kept"},
		{"a snapshot that nobody wrote", "", logCompacts, 1, "neither written nor got"},
		{"a line that is not whole", "", logWritten + strings.TrimSpace(logCompacts), 1, "begins with entry 1"},
		{"the lost store was compacted", logCompacts + logWritten, logOther, 1, "neither written nor got"},
		{"the new one too", logCompacts + logWritten, logCompacts + logWritten, 1, ""},
		{"the new one was installed", logWritten, logInstalled, 1, ""},
	}
	for _, tt := range tests {
		log := filepath.Join(t.TempDir(), "agent.log")
		var c compaction
		write := func(text string) {
			f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString(text); err != nil {
				t.Fatal(err)
			}
		}
		if tt.old != "" {
			write(tt.old)
			if err := c.another(log); err != nil {
				t.Fatal(err)
			}
		}
		write(tt.log)
		for range 2 { // what was read once is not read again
			if err := c.follow(log); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		if err := c.missing(tt.kept); err != nil {
			got = err.Error()
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || c.snapshots > 1 {
			t.Errorf("%s: want %q, have %q, %s", tt.name, tt.want, got, &c)
		}
	}
}

// The file of a node has the threshold only where one is wanted.
func TestNodeFileSnapshots(t *testing.T) {
	t.Parallel()
	const line = "\n  snapshot_threshold: 32\nrestapi:"
	if text := (NodeFile{Snapshots: 32}).Text(); !strings.Contains(text, line) {
		t.Errorf("want %q in %s", line, text)
	}
	if text := (NodeFile{}).Text(); strings.Contains(text, "snapshot_threshold") {
		t.Errorf("want no threshold in %s", text)
	}
}
