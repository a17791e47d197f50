package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// probeAll probes every place once.
func probeAll(t *testing.T, d diskAdapter) []agent.DiskPlace {
	t.Helper()
	places, err := d.Places()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		if free, err := d.Probe(p); err != nil || free == 0 {
			t.Errorf("%s: %d bytes free, %v", p.Dir, free, err)
		}
	}
	return places
}

// B2: a device is probed once, under the names of all that stands on it.
func TestB2PlacesOfOneDevice(t *testing.T) {
	t.Parallel()
	raft, data := t.TempDir(), t.TempDir()
	d := diskAdapter{raftDir: raft, dataDir: data}
	if got := probeAll(t, d); len(got) != 1 || !slices.Equal(got[0].Uses, []cluster.DiskUse{cluster.UseRaft, cluster.UseData}) {
		t.Errorf("without pg_wal: %+v", got)
	}
	if err := os.MkdirAll(filepath.Join(data, "pg_tblspc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(t.TempDir(), filepath.Join(data, "pg_wal")), os.Symlink(t.TempDir(), filepath.Join(data, "pg_tblspc", "16385"))); err != nil {
		t.Fatal(err)
	}
	want := []cluster.DiskUse{cluster.UseRaft, cluster.UseData, cluster.UseWAL, cluster.TablespaceUse("16385")}
	if got := probeAll(t, d); len(got) != 1 || got[0].Dir != raft || !slices.Equal(got[0].Uses, want) {
		t.Errorf("all on one device: %+v, want %v", got, want)
	}
}

// B2: what stands on another device is a place of its own. /dev/shm is one on every Linux that runs Postgres.
func TestB2PlacesOfOtherDevices(t *testing.T) {
	t.Parallel()
	const shm = "/dev/shm"
	raft, err := os.MkdirTemp("/var/tmp", "pgquorum-raft-")
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.MkdirTemp(shm, "pgquorum-wal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = os.RemoveAll(raft), os.RemoveAll(wal) })
	data := filepath.Join(raft, "data")
	if err := errors.Join(os.MkdirAll(filepath.Join(data, "pg_tblspc"), 0o700), os.Symlink(wal, filepath.Join(data, "pg_wal")), os.Symlink(wal, filepath.Join(data, "pg_tblspc", "9"))); err != nil {
		t.Fatal(err)
	}
	got := probeAll(t, diskAdapter{raftDir: raft, dataDir: data})
	if len(got) != 2 || !slices.Equal(got[1].Uses, []cluster.DiskUse{cluster.UseWAL, cluster.TablespaceUse("9")}) {
		t.Fatalf("places %+v", got)
	}
	if left, err := os.ReadDir(wal); err != nil || len(left) != 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}
	if len(probeAll(t, diskAdapter{raftDir: wal, dataDir: data})) != 2 {
		t.Error("PGDATA on a device of its own is no place of its own")
	}
}

// B2: a probe leaves one small file in raft.data_dir, of one length, and nothing in PGDATA; what it overwrites there stays
// what it was.
func TestB2ProbeOverwritesInPlace(t *testing.T) {
	t.Parallel()
	raft, data := t.TempDir(), t.TempDir()
	id := filepath.Join(data, idFile)
	if err := os.WriteFile(id, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(id)
	if err != nil {
		t.Fatal(err)
	}
	d := diskAdapter{raftDir: raft, dataDir: data}
	var first fs.FileInfo
	for range 3 {
		for _, p := range []agent.DiskPlace{{Dir: raft, Uses: []cluster.DiskUse{cluster.UseRaft}}, {Dir: data, Uses: []cluster.DiskUse{cluster.UseData}}} {
			if _, err := d.Probe(p); err != nil {
				t.Fatal(err)
			}
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
	for dir, want := range map[string]int{raft: 1, data: 1} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != want {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
	after, err := os.Stat(id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(id)
	if err != nil || string(text) != "{}\n" || !os.SameFile(before, after) || !after.ModTime().After(before.ModTime()) {
		t.Errorf("%s is %q, %v, written at %v; want it written over with itself", idFile, text, err, after.ModTime())
	}
}

// B2: what cannot be written is an error that names the file; a PGDATA that is not there, or not ours, is none.
func TestB2ProbeErrors(t *testing.T) {
	t.Parallel()
	gone := filepath.Join(t.TempDir(), "gone")
	d := diskAdapter{raftDir: gone, dataDir: t.TempDir()}
	var path *fs.PathError
	if _, err := d.Probe(agent.DiskPlace{Dir: gone, Uses: []cluster.DiskUse{cluster.UseRaft}}); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &path) || path.Path != filepath.Join(gone, probeFile) {
		t.Errorf("raft.data_dir that is gone: %v", err)
	}
	if places, err := d.Places(); err != nil || places[0].Dir != gone {
		t.Errorf("raft.data_dir that is gone is no place: %+v, %v", places, err)
	}
	if _, err := d.Probe(agent.DiskPlace{Dir: d.dataDir, Uses: []cluster.DiskUse{cluster.UseData}}); err != nil {
		t.Errorf("an empty data directory: %v", err)
	}
	if _, err := d.Probe(agent.DiskPlace{Dir: gone, Uses: []cluster.DiskUse{cluster.UseWAL}}); !errors.Is(err, agent.ErrNoPlace) {
		t.Errorf("a pg_wal that is gone: %v", err)
	}
	if entries, err := os.ReadDir(d.dataDir); err != nil || len(entries) != 0 {
		t.Errorf("the empty data directory has %v, %v", entries, err)
	}
}

// The free space is what an unprivileged user gets.
func TestB2FreeSpaceIsTheUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free, err := freeOn(dir)
	if most := st.Bfree * uint64(st.Frsize); err != nil || free == 0 || free > st.Blocks*uint64(st.Frsize) || free > most+most/2 {
		t.Errorf("%d bytes free of %d, %v", free, st.Blocks*uint64(st.Frsize), err)
	}
}
