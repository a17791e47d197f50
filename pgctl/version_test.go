package pgctl

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		want  int // 0: an error
		minor int
	}{
		{"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15, 18},
		{"pg_waldump (PostgreSQL) 18.4\n", 18, 4},
		{"initdb (PostgreSQL) 19beta1\n", 19, 0},
		{"postgres (PostgreSQL) 9.6.24\n", 9, 6},
		{"postgres (PostgreSQL) 17.x\n", 0, 0},
		{"postgres 17.1\n", 0, 0},
		{"postgres (PostgreSQL) devel\n", 0, 0},
		{"postgres (PostgreSQL) \n", 0, 0},
		{"", 0, 0},
	} {
		if got, minor, err := parseVersion(c.text); got != c.want || minor != c.minor || (err != nil) != (c.want == 0) {
			t.Errorf("%q: %d.%d, %v, want %d.%d", c.text, got, minor, err, c.want, c.minor)
		}
	}
}

// programs makes a bin_dir whose programs only tell their version; "": there is none of that name.
func programs(t *testing.T, versions map[string]string) string {
	t.Helper()
	dir := tempDir(t) // the user postgres must reach it
	for name, version := range versions {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		writeProgram(t, filepath.Join(dir, name), script)
	}
	return dir
}

// writeProgram has a child write an executable file: a descriptor of this process, open for writing, would be inherited by
// whatever a parallel test forks just then, and until that has called exec the file is "busy".
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `cat >"$0" && chmod 755 "$0"`, path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", path, err, out)
	}
}

// A PostgreSQL outside the range, and data of another version, are refused; a program of another version is named.
func TestCheckVersion(t *testing.T) {
	t.Parallel()
	whole := func(v string) map[string]string {
		return map[string]string{"postgres": v, "pg_controldata": v, "pg_waldump": v, "pg_rewind": v}
	}
	other := whole("17.10")
	other["pg_waldump"] = "15.18"
	for _, c := range []struct {
		name     string
		versions map[string]string
		data     string // of PG_VERSION; "": no data
		want     int    // 0: refused
		warns    string
	}{
		{"oldest", whole("13.23"), "", 13, ""},
		{"newest, with data", whole("18.4"), "18\n", 18, ""},
		{"too old", whole("12.22"), "", 0, ""},
		{"far too old", whole("9.6.24"), "9.6\n", 0, ""},
		{"too new", whole("19beta1"), "", 0, ""},
		{"other data", whole("17.10"), "16\n", 0, ""},
		{"another's pg_waldump", other, "17\n", 17, "pg_waldump is of PostgreSQL 15, postgres of 17"},
		{"no pg_rewind", map[string]string{"postgres": "14.18", "pg_controldata": "14.18", "pg_waldump": "14.18"}, "", 14, ""},
		{"before the mend of the start", whole("15.12"), "", 15, "15.13 has the mend, update to it"},
		{"18 never lacked it", whole("18.0"), "", 18, ""},
	} {
		bin, data := programs(t, c.versions), t.TempDir()
		if c.data != "" {
			must(t, os.WriteFile(filepath.Join(data, pgVersionFile), []byte(c.data), 0o600))
		}
		got, warnings, err := CheckVersion(t.Context(), bin, data)
		switch {
		case got != c.want || errors.Is(err, ErrVersion) != (c.want == 0) || (err != nil) != (c.want == 0):
			t.Errorf("%s: %d, %v, want %d", c.name, got, err, c.want)
		case c.want == 0 && !strings.Contains(err.Error(), "want"):
			t.Errorf("%s: error %v, want what was wanted in it", c.name, err)
		case (c.warns == "") != (len(warnings) == 0) || !strings.Contains(strings.Join(warnings, "\n"), c.warns):
			t.Errorf("%s: warnings %q, want %q", c.name, warnings, c.warns)
		}
	}
	if _, _, err := CheckVersion(t.Context(), t.TempDir(), t.TempDir()); err == nil || errors.Is(err, ErrVersion) {
		t.Errorf("no programs: error %v, want another than ErrVersion", err)
	}
}

// Each parameter that pgquorum writes exists in the PostgreSQL under test: one that does not would keep it from starting.
func TestParametersExist(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(filepath.Join(testBinDir, "postgres"), "--describe-config").Output()
	must(t, err)
	known := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, "\t")
		known[name] = true
	}
	p := &Postgres{}
	written := slices.Concat(slices.Collect(maps.Keys(p.ours())), slices.Collect(maps.Keys(defaults)),
		slices.Collect(maps.Values(standbySettings)), []string{"primary_conninfo", "primary_slot_name", "restore_command", "wal_init_zero"})
	for _, name := range written {
		// hot_standby and the like are told; those of the command line's group "file locations" are not.
		if !known[name] && name != "hba_file" {
			t.Errorf("%s is no parameter of PostgreSQL %d", name, testMajor(t))
		}
	}
	if len(known) < 100 {
		t.Errorf("postgres described %d parameters, want all", len(known))
	}
}

// A control file that pg_controldata itself mistrusts is refused, wherever its version says so.
func TestControlFileMistrusted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script string }{
		{"to standard output, as in 15", "echo 'WARNING: Calculated CRC checksum does not match value stored in file.'; cat "},
		{"to standard error, as in 18", "echo 'pg_controldata: warning: calculated CRC checksum does not match value stored in control file' >&2; cat "},
		{"trusted", "cat "},
		{"mistrusted once", "test -e $0.again || echo 'WARNING: Calculated CRC checksum does not match'; touch $0.again; cat "},
	} {
		bin := t.TempDir()
		answer := filepath.Join(bin, "answer")
		must(t, os.WriteFile(answer, []byte(controlAnswer), 0o600))
		writeProgram(t, filepath.Join(bin, "pg_controldata"), "#!/bin/sh\n"+c.script+answer+"\n")
		p := &Postgres{opt: Options{BinDir: bin, DataDir: bin}}
		_, err := p.ControlData(t.Context())
		if refused := strings.HasPrefix(c.name, "to standard"); errors.Is(err, errControlChecksum) != refused || (err != nil) != refused {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

// A source of another major version is not copied: the copy could not start here.
func TestCloneOfAnotherVersion(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary := newPrimary(t, nil)
	bin := programs(t, map[string]string{"postgres": fmt.Sprint(testMajor(t)+1, ".0")})
	n := emptyNode(t, "n2", func(o *Options) { o.BinDir = bin })
	if err := n.BaseBackup(within(t), *primary.asSource(1), n.me, nil); !errors.Is(err, ErrVersion) || len(n.beside(cloneInfix+"*")) > 0 {
		t.Errorf("error %v, want ErrVersion before anything is copied", err)
	}
	if n.exists("") {
		t.Error("a data directory came to be")
	}
}

// controlAnswer is what pg_controldata says of a cluster, in the lines that are read.
const controlAnswer = `Database system identifier:           7710637706834426971
Database cluster state:               shut down
Latest checkpoint location:           0/17218A0
Latest checkpoint's REDO location:    0/17218A0
Latest checkpoint's TimeLineID:       1
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
pg_control version number:            1300
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
WAL block size:                       8192
Bytes per WAL segment:                16777216
Data page checksum version:           1
`
