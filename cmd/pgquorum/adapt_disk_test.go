package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// B2: a probe leaves one small file in raft.data_dir, of one length, and nothing in PGDATA.
func TestB2ProbeOverwritesInPlace(t *testing.T) {
	raft, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "pgquorum.id"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := diskAdapter{raftDir: raft, dataDir: data}
	var first fs.FileInfo
	for range 3 {
		var touched []string
		if err := d.Probe(func(what string) { touched = append(touched, what) }); err != nil {
			t.Fatal(err)
		}
		if want := []string{"raft.data_dir " + raft, "postgresql.data_dir " + data, "postgresql.data_dir " + filepath.Join(data, "pg_wal")}; !slices.Equal(touched, want) {
			t.Errorf("touched %q, want %q", touched, want)
		}
		info, err := os.Stat(filepath.Join(raft, probeFile))
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && (info.Size() != first.Size() || !os.SameFile(info, first)) {
			t.Errorf("%d bytes, were %d; want the same file overwritten", info.Size(), first.Size())
		}
		first = info
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("the data directory has %v, %v", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(data, "pgquorum.id")); err != nil || string(text) != "{}" {
		t.Errorf("pgquorum.id is %q, %v", text, err)
	}
}

// B2: what cannot be written is an error that names the file; a PGDATA that is not there, or not ours, is none.
func TestB2ProbeErrors(t *testing.T) {
	d := diskAdapter{raftDir: filepath.Join(t.TempDir(), "gone"), dataDir: t.TempDir()}
	if err := d.Probe(func(string) {}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "raft.data_dir: open "+d.raftDir) {
		t.Errorf("raft.data_dir that is gone: %v", err)
	}
	d = diskAdapter{raftDir: t.TempDir(), dataDir: filepath.Join(t.TempDir(), "none")}
	if err := d.Probe(func(string) {}); err != nil {
		t.Errorf("no data directory: %v", err)
	}
}
