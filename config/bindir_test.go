package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestNewestPackageFirst(t *testing.T) {
	t.Parallel()
	dirs := []string{"/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/15/bin", "/usr/pgsql-17/bin", "/usr/lib/postgresql/x/bin"}
	newestFirst(dirs)
	want := []string{"/usr/pgsql-17/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/x/bin"}
	if !reflect.DeepEqual(dirs, want) {
		t.Errorf("%v, want %v", dirs, want)
	}
	for _, pattern := range packagedBinDirs {
		if _, err := filepath.Match(pattern, ""); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// The search looks at PATH, which belongs to the whole process: no t.Parallel here.
func TestBinDirIsFound(t *testing.T) {
	real, links, half := binDir(t), t.TempDir(), binDir(t, "pg_rewind")
	if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(links, "postgres")); err != nil {
		t.Fatal(err)
	}
	pgConfig := filepath.Join(t.TempDir(), "pg_config")
	if err := os.WriteFile(pgConfig, []byte("#!/bin/sh\necho "+half+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := edit(t, healthy, "  bin_dir: BIN\n", "")
	t.Setenv("PATH", links)
	c, _, err := Load(write(t, text), nil)
	if err != nil || c.PostgreSQL.BinDir != real {
		t.Errorf("%v, want %s behind the link of PATH's postgres", err, real)
	}
	t.Setenv("PATH", filepath.Dir(pgConfig)+":"+links)
	c, _, err = Load(write(t, text), nil)
	if err != nil || c.PostgreSQL.BinDir != real {
		t.Errorf("%v, want %s, because what pg_config names lacks pg_rewind", err, real)
	}
}

func TestGivenBinDirLacksAProgram(t *testing.T) {
	t.Parallel()
	half := binDir(t, "pg_rewind", "pg_waldump")
	_, _, err := Load(write(t, strings.Replace(healthy, "BIN", half, 1)), nil)
	if err == nil || !strings.Contains(err.Error(), ":12:3: postgresql.bin_dir: "+half+" lacks pg_waldump, pg_rewind") {
		t.Errorf("error %v", err)
	}
}

func TestRewindProgramOnlyWithRewind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rewind  string
		refused bool
	}{{"true", true}, {"false", false}} {
		text := strings.Replace(healthy, "BIN\n", binDir(t, "pg_rewind")+"\n  use_pg_rewind: "+tt.rewind+"\n", 1)
		if _, _, err := Load(write(t, text), nil); (err != nil) != tt.refused {
			t.Errorf("use_pg_rewind %s without pg_rewind: error %v, want one: %v", tt.rewind, err, tt.refused)
		}
	}
}
