//go:build integration

package pgctl

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pgquorum/cluster"
)

// The marks and the promise are on disk when their calls return: not in the machine's memory, not under a name that a
// power cut takes back (V1, U4). The power cut is a copy of the disk, taken as it is then and mounted elsewhere.
func TestMarksSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	d, log := newCuttableDisk(t), slog.New(slog.DiscardHandler)
	p := &Postgres{opt: Options{GuardDir: d.dir, Log: log}}
	m := cluster.Member{Node: "n1", Incarnation: "life"}
	for term := cluster.Term(3); term < 6; term++ { // the first is a new file, the others replace one
		if err := p.Promise(t.Context(), term, m); err != nil {
			t.Fatal(err)
		}
		after := &Postgres{opt: Options{GuardDir: d.cut(), Log: log}}
		if got := after.Promised(); got != term {
			t.Errorf("promised %d, after a power cut %d", term, got)
		}
		if err := writeFenced(d.dir, term); err != nil {
			t.Fatal(err)
		}
		if got, err := readFenced(d.cut()); err != nil || got != term {
			t.Errorf("fenced up to %d, after a power cut %d, %v", term, got, err)
		}
	}
}

// cuttableDisk is a file system in a file.
type cuttableDisk struct {
	t          *testing.T
	image, dir string
}

// newCuttableDisk makes one that writes nothing by itself: neither its journal after some seconds, nor a file's data when
// it is renamed over another.
func newCuttableDisk(t *testing.T) *cuttableDisk {
	t.Helper()
	d := &cuttableDisk{t: t, image: filepath.Join(t.TempDir(), "disk.img")}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(16 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "mkfs.ext4", "-q", d.image)
	d.dir = mountImage(t, d.image, "loop,commit=300,noauto_da_alloc")
	return d
}

// cut gives the directory as a power cut at this moment leaves it.
func (d *cuttableDisk) cut() string {
	d.t.Helper()
	from, err := os.Open(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(d.t.TempDir(), "cut.img"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		d.t.Fatal(err)
	}
	return mountImage(d.t, to.Name(), "loop")
}

// mountImage mounts a file until the test ends.
func mountImage(t *testing.T, image, options string) string {
	t.Helper()
	dir := t.TempDir()
	mustRun(t, "mount", "-o", options, image, dir)
	t.Cleanup(func() { mustRun(t, "umount", dir) })
	return dir
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, bytes.TrimSpace(out))
	}
}
