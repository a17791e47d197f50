package pgctl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgquorum/cluster"
)

// scripts makes a BinDir with shell scripts.
func scripts(t *testing.T, programs map[string]string) *Postgres {
	t.Helper()
	dir := t.TempDir()
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{BinDir: dir}, nil)
}

func TestRun(t *testing.T) {
	p := scripts(t, map[string]string{
		"language": "env",
		"fails":    "echo out; for i in 1 2 3 4 5 6; do echo line $i >&2; done; exit 3",
	})
	t.Setenv("PGPASSWORD", "secret")
	t.Setenv("LC_MESSAGES", "de_DE.UTF-8")
	t.Setenv("LANGUAGE", "de")
	out, err := p.run(t.Context(), "language")
	must(t, err)
	lines := strings.Split(out, "\n")
	if !slices.Contains(lines, "LC_ALL=C") || strings.Contains(out, "secret") || strings.Contains(out, "de") && strings.Contains(out, "LANGUAGE=") {
		t.Errorf("environment of programs: %s", out)
	}
	out, err = p.run(t.Context(), "fails")
	var failed *ProgramError
	if out != "out\n" || !errors.As(err, &failed) || failed.Stderr != "line 3; line 4; line 5; line 6" {
		t.Errorf("run: %q, %v", out, err)
	}
	if _, err = p.run(t.Context(), "absent"); !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "\n") {
		t.Errorf("missing program: %v", err)
	}
}

// The whole process group ends with the context, not only the program: pg_basebackup and initdb have children.
func TestRunEndsGroup(t *testing.T) {
	p := scripts(t, map[string]string{"waits": "sleep 60 & echo $! >&2; wait"})
	ctx, cancel := context.WithCancelCause(t.Context())
	var child int
	why := errors.New("enough")
	err := p.runCommand(ctx, command{program: "waits", line: func(line string) {
		child, _ = strconv.Atoi(line)
		cancel(why)
	}})
	if !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
	if child == 0 {
		t.Fatal("no child seen")
	}
	eventually(t, 10*time.Second, "the child has ended", func() bool {
		_, alive := processBirth(child)
		return !alive || errors.Is(syscall.Kill(child, 0), syscall.ESRCH)
	})
}

func TestSlotName(t *testing.T) {
	for _, c := range []struct{ node, want string }{
		{"n1", "n1"},
		{"Node-1.example.com", "node_1_example_com"},
		{"a b", "au0032b"},
		{"nö", "nu0246"},
		{"x_y", "x_y"},
		{strings.Repeat("a", 70), strings.Repeat("a", 63)},
	} {
		if got := SlotName(cluster.NodeID(c.node)); got != c.want {
			t.Errorf("SlotName(%q) = %q, want %q", c.node, got, c.want)
		}
	}
}

func TestInitDBArgs(t *testing.T) {
	base := []string{"--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8"}
	for _, c := range []struct {
		name    string
		options []string
		want    []string // nil: refused
	}{
		{"defaults", nil, base},
		{"dashes or not", []string{"--data-checksums", "wal-segsize=64"}, append([]string{"--data-checksums", "--wal-segsize=64"}, base[1:]...)},
		{"as in patroni.yml", []string{"encoding: LATIN1", "no-locale"}, []string{"--encoding=LATIN1", "--no-locale", "--data-checksums"}},
		{"single letters", []string{"-k", "-E UTF8", "--locale=de_DE.UTF-8"}, []string{"-k", "-EUTF8", "--locale=de_DE.UTF-8"}},
		{"no checksums", []string{"no-data-checksums"}, base[1:]},
		{"ours", []string{"pgdata=/tmp"}, nil},
		{"ours", []string{"-W"}, nil},
		{"nothing", []string{"--"}, nil},
	} {
		got, err := initdbArgs(c.options, false)
		if (err != nil) != (c.want == nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v: %q, %v, want %q", c.name, c.options, got, err, c.want)
		}
	}
	want := append([]string{"--no-data-checksums"}, base[1:]...)
	if got, err := initdbArgs([]string{"no-data-checksums"}, true); err != nil || !slices.Equal(got, want) {
		t.Errorf("no checksums where they are the default: %q, %v, want %q", got, err, want)
	}
}

func TestFormatSyncNames(t *testing.T) {
	ms := []cluster.Member{{Node: "n-1", Incarnation: "ab"}, {Node: `n"2`, Incarnation: "cd"}}
	for _, c := range []struct {
		mode cluster.SyncMode
		k    int
		want string
	}{
		{cluster.SyncQuorum, 1, `ANY 1 ("n-1_ab_7", "n""2_cd_7")`},
		{cluster.SyncOn, 2, `FIRST 2 ("n-1_ab_7", "n""2_cd_7")`},
		{cluster.SyncQuorum, 0, ""},
		{cluster.SyncOff, 1, ""},
	} {
		if got := FormatSyncNames(c.mode, c.k, ms, 7); got != c.want {
			t.Errorf("%s %d: %s, want %s", c.mode, c.k, got, c.want)
		}
	}
}

func TestParseProgress(t *testing.T) {
	done, total, ok := parseProgress("  512/23456 kB (2%), 0/1 tablespace (...main.clone-1/data/base/1/2619)")
	if done != 512<<10 || total != 23456<<10 || !ok {
		t.Error(done, total, ok)
	}
	if _, _, ok := parseProgress("waiting for checkpoint"); ok {
		t.Error("read a number where none is")
	}
}

// S8: the standby's clock says nothing; only a change of its word does.
func TestReplyAges(t *testing.T) {
	var r replyAges
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(now time.Duration, reply time.Duration, seemed time.Duration) time.Duration {
		at := base.Add(reply)
		s := []sender{{pid: 7, started: base, reply: &at, seemed: seemed}}
		r.fill(s, cluster.Instant(1e12).Add(now))
		return s[0].age
	}
	for _, c := range []struct {
		name               string
		now, reply, seemed time.Duration
		want               time.Duration
	}{
		{"first look, clock an hour ahead", 0, time.Hour, -time.Hour, -1},
		{"the same word", time.Second, time.Hour, -time.Hour, -1},
		{"a new word", 2 * time.Second, time.Hour + 1, -time.Hour, 0},
		{"the same word 3 s later", 5 * time.Second, time.Hour + 1, -time.Hour, 3 * time.Second},
	} {
		if got := look(c.now, c.reply, c.seemed); got != c.want {
			t.Errorf("%s: age %v, want %v", c.name, got, c.want)
		}
	}
	r = replyAges{}
	if got := look(0, 0, time.Second); got != time.Second {
		t.Errorf("first look, clocks agree: %v", got)
	}
}
