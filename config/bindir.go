package config

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// programs are what the agent calls; a bin_dir holds all of them.
var programs = []string{"initdb", "postgres", "pg_ctl", "pg_basebackup", "pg_controldata", "pg_waldump"}

// rewindProgram is one more, with use_pg_rewind.
const rewindProgram = "pg_rewind"

// packagedBinDirs are where Debian's and the PGDG's RPM packages put PostgreSQL's programs.
var packagedBinDirs = []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"}

// binDirTimeout bounds the call of pg_config.
const binDirTimeout = 5 * time.Second

// findBinDir checks the bin_dir that was given, or looks for one.
func (c *Config) findBinDir(found *findings) {
	const key = "postgresql.bin_dir"
	at := c.places.of(key)
	if dir := c.PostgreSQL.BinDir; dir != "" {
		if missing := c.missingPrograms(dir); len(missing) > 0 {
			found.refuse(at, key, "%s lacks %s", dir, strings.Join(missing, ", "))
		}
		return
	}
	candidates := candidateBinDirs()
	for _, dir := range candidates {
		if len(c.missingPrograms(dir)) == 0 {
			c.PostgreSQL.BinDir = dir
			return
		}
	}
	if len(candidates) == 0 {
		found.refuse(at, key, "PostgreSQL's programs were not found in PATH, %s; install them or name their directory", strings.Join(packagedBinDirs, " or "))
		return
	}
	seen := make([]string, 0, len(candidates))
	for _, dir := range candidates {
		seen = append(seen, fmt.Sprintf("%s lacks %s", dir, strings.Join(c.missingPrograms(dir), ", ")))
	}
	found.refuse(at, key, "no directory holds all of PostgreSQL's programs: %s", strings.Join(seen, "; "))
}

// candidateBinDirs gives the directories to look in, best first: what pg_config in PATH says, where postgres in PATH
// really lies, then the packages' directories, newest version first.
func candidateBinDirs() []string {
	var dirs []string
	add := func(dir string) {
		if dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	add(pgConfigBinDir())
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(real))
		}
	}
	var packaged []string
	for _, pattern := range packagedBinDirs {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // a malformed pattern: they are constants, and tested
		}
		packaged = append(packaged, matches...)
	}
	newestFirst(packaged)
	for _, dir := range packaged {
		add(dir)
	}
	return dirs
}

// pgConfigBinDir asks pg_config; empty when there is none or it does not answer. Programs need not be there: a
// development package alone brings pg_config.
func pgConfigBinDir() string {
	ctx, cancel := context.WithTimeout(context.Background(), binDirTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// newestFirst sorts packaged directories by the major version in their path.
func newestFirst(dirs []string) {
	version := func(dir string) float64 {
		name := filepath.Base(filepath.Dir(dir))
		v, err := strconv.ParseFloat(strings.TrimPrefix(name, "pgsql-"), 64)
		if err != nil {
			return 0
		}
		return v
	}
	slices.SortStableFunc(dirs, func(a, b string) int {
		switch va, vb := version(a), version(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return 0
	})
}

// missingPrograms gives those that dir lacks.
func (c *Config) missingPrograms(dir string) []string {
	want := programs
	if c.PostgreSQL.UsePgRewind {
		want = append(slices.Clone(programs), rewindProgram)
	}
	var missing []string
	for _, p := range want {
		info, err := os.Stat(filepath.Join(dir, p))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			missing = append(missing, p)
		}
	}
	return missing
}
