package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// realBin holds the PostgreSQL that the stand-ins are held against.
const realBin = "/usr/lib/postgresql/15/bin"

// newCluster runs initdb, as the user postgres where root runs the tests.
func newCluster(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgqs")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	data := filepath.Join(dir, "data")
	cmd := exec.Command(realBin+"/initdb", "-D", data, "-A", "trust", "-N", "-k")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		must(t, err)
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		must(t, err1)
		must(t, err2)
		must(t, os.Chown(dir, uid, gid))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heads keeps of pg_waldump's lines what pgctl reads, with numbers in one writing.
func heads(t *testing.T, text string) (list []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var length, total, xid, hi, lo, prevHi, prevLo uint64
		if !strings.HasPrefix(line, "rmgr: ") {
			continue // such as where the first record begins
		}
		_, rest, ok := strings.Cut(line, "len (rec/tot):")
		if !ok {
			t.Fatalf("line %q", line)
		}
		if _, err := fmt.Sscanf(rest, "%d/%d, tx:%d, lsn: %X/%X, prev %X/%X, desc:", &length, &total, &xid, &hi, &lo, &prevHi, &prevLo); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		list = append(list, fmt.Sprint(total, xid, hi, lo, prevHi, prevLo))
	}
	return list
}

// The stand-in for pg_waldump finds the records that pg_waldump finds, and ends where it ends.
func TestWalDumpAgrees(t *testing.T) {
	t.Parallel()
	data := newCluster(t)
	wal := filepath.Join(data, "pg_wal")
	segments, err := filepath.Glob(filepath.Join(wal, "0000000100000000*"))
	must(t, err)
	var number uint64
	_, err = fmt.Sscanf(filepath.Base(segments[0]), "0000000100000000%X", &number)
	must(t, err)
	begin, end := number<<24, (number+uint64(len(segments)))<<24
	whole := agree(t, wal, begin, end)
	if len(whole) < 1000 {
		t.Fatalf("%d records, want those of an initdb", len(whole))
	}
	for _, cut := range []struct{ from, to uint64 }{
		{begin, begin + 8192}, {begin, begin + 8191}, {begin, begin + 100_001}, {begin + 8192, end}, {begin + 8000, end},
	} {
		agree(t, wal, cut.from, cut.to)
	}

	// A byte that fell over inside a record is the end of WAL to both.
	file := segments[len(segments)/2]
	content, err := os.ReadFile(file)
	must(t, err)
	content[300_007] ^= 0x10
	must(t, os.WriteFile(file, content, 0o600))
	if short := agree(t, wal, begin, end); len(short) == 0 || len(short) >= len(whole) {
		t.Errorf("%d records of %d after the damage, want some and fewer", len(short), len(whole))
	}
}

// agree runs both and gives the records.
func agree(t *testing.T, wal string, from, to uint64) []string {
	t.Helper()
	args := []string{"--path=" + wal, "--timeline=1", "--start=" + lsnText(from), "--end=" + lsnText(to)}
	var real, ours bytes.Buffer
	cmd := exec.Command(realBin+"/pg_waldump", args...)
	cmd.Stdout = &real
	realErr := cmd.Run()
	ourErr := walDump(args, &ours)
	want, have := heads(t, real.String()), heads(t, ours.String())
	if (realErr == nil) != (ourErr == nil) || strings.Join(want, "\n") != strings.Join(have, "\n") {
		t.Errorf("%s to %s: %d records, %v; pg_waldump has %d, %v", lsnText(from), lsnText(to), len(have), ourErr, len(want), realErr)
	}
	return have
}

// The stand-in for pg_controldata prints the lines that pg_controldata prints, and refuses a damaged file.
func TestControlDataAgrees(t *testing.T) {
	t.Parallel()
	data := newCluster(t)
	real, err := exec.Command(realBin+"/pg_controldata", "-D", data).Output()
	must(t, err)
	var ours bytes.Buffer
	must(t, controlData([]string{"-D", data}, &ours))
	lines := strings.Split(strings.TrimSpace(ours.String()), "\n")
	for _, line := range lines {
		if !strings.Contains(string(real), line+"\n") {
			t.Errorf("line %q, which pg_controldata does not have:\n%s", line, real)
		}
	}
	if len(lines) != 17 {
		t.Errorf("%d lines, want 17", len(lines))
	}
	path := filepath.Join(data, "global", "pg_control")
	content, err := os.ReadFile(path)
	must(t, err)
	content[atCheckpoint]++
	must(t, os.WriteFile(path, content, 0o600))
	if err := controlData([]string{"-D", data}, &ours); err == nil {
		t.Error("a damaged control file was read")
	}
}
