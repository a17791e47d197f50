//go:build integration

package pgctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
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

// U4: a guard whose disk Postgres has filled fences durably when its lease ends, by itself and at the first try: its mark finds
// the room that was set aside, and is on disk when the fence is told.
func TestGuardOnAFullDiskSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	d := newCuttableDisk(t)
	d.giveTo(credential(t))
	b := emptyBox(t, makeTemplate(t))
	b.opt.Dir = filepath.Join(d.dir, "guard")
	b.launch()
	b.connect()
	b.must(KeepReserve(b.opt.Dir))
	b.startPrimary(3)
	d.fill()
	b.armShort(3)
	if e := b.event(EventFenced); e.Term != 3 || e.Detail != "" {
		t.Errorf("event %+v, want term 3 and no detail", e)
	}
	if got, err := readFenced(filepath.Join(d.cut(), "guard")); err != nil || got != 3 {
		t.Errorf("fenced up to 3, after a power cut %d, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(b.opt.Dir, reserveFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reserve: %v, want it given up: the disk was not full", err)
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

// giveTo lets a user write to it, and come there.
func (d *cuttableDisk) giveTo(c *syscall.Credential) {
	d.t.Helper()
	for dir := d.dir; dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
	if c == nil {
		return
	}
	if err := os.Chown(d.dir, int(c.Uid), int(c.Gid)); err != nil {
		d.t.Fatal(err)
	}
}

// fill takes all of it that Postgres's user gets, also what is given back when data are written out.
func (d *cuttableDisk) fill() {
	d.t.Helper()
	filler := filepath.Join(d.dir, "filler")
	asPostgres(d.t, "/bin/sh", "-c", fmt.Sprintf("! cat /dev/zero > %s; while sync %[1]s && head -c 1024 /dev/zero >> %[1]s; do :; done", filler))
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
