package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Lab is what all clusters of one test process share: where they live, as whom they run, and the programs.
type Lab struct {
	Bin        string // the pgquorum binary, a copy that every user may execute; empty until Build
	PostgresIn string // the directory of initdb, postgres, ...
	UID, GID   uint32 // of the user postgres
	dir        string // base of all directories
	cgroups    string // where cgroup v2 is mounted
	seq        atomic.Int64
}

// postgresVar names a variable: the directory of the PostgreSQL under test, as scripts/pg.sh prints it; without it the
// machine's own.
const postgresVar = "PGQUORUM_PG"

// commandTimeout bounds every short helper program.
const commandTimeout = 20 * time.Second

// OpenLab looks at the machine and makes the base directory. The error names everything that is missing at once.
func OpenLab() (*Lab, error) {
	lab := &Lab{dir: filepath.Join(os.TempDir(), owned(os.Getpid(), "base"))}
	if missing := lab.look(); len(missing) > 0 {
		return nil, fmt.Errorf("integration tests need: %s", strings.Join(missing, "; "))
	}
	if err := SweepDead(); err != nil {
		return nil, fmt.Errorf("what an earlier run left: %w", err)
	}
	return lab, os.MkdirAll(lab.dir, 0o755)
}

// look fills in what the machine has and gives what it lacks.
func (l *Lab) look() (missing []string) {
	if os.Geteuid() != 0 {
		missing = append(missing, "root, for network namespaces and cgroups (sudo make test)")
	}
	for _, tool := range [][2]string{{"ip", "iproute2"}, {"nft", "nftables"}, {"haproxy", "haproxy"}, {"mkfs.ext4", "e2fsprogs"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s, see scripts/deps.sh)", tool[0], tool[1]))
		}
	}
	if dir := os.Getenv(postgresVar); dir != "" {
		l.PostgresIn = dir
	} else if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) > 0 {
		l.PostgresIn = filepath.Dir(found[len(found)-1])
	} else if initdb, err := exec.LookPath("postgres"); err == nil {
		l.PostgresIn = filepath.Dir(initdb)
	} else {
		missing = append(missing, "PostgreSQL (package postgresql, see scripts/deps.sh)")
	}
	if err := l.lookUser(); err != nil {
		missing = append(missing, "the user postgres: "+err.Error())
	}
	if err := l.lookCgroups(); err != nil {
		missing = append(missing, err.Error())
	} else if err := l.tryCgroup(); err != nil && os.Geteuid() == 0 {
		missing = append(missing, "a writable cgroup v2 with cgroup.kill (Linux 5.14): "+err.Error())
	}
	return missing
}

func (l *Lab) lookUser() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	l.UID, l.GID = uint32(uid), uint32(gid)
	return err
}

// lookCgroups finds the mount of cgroup v2: /sys/fs/cgroup on most systems, /sys/fs/cgroup/unified on hybrid ones.
func (l *Lab) lookCgroups() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			l.cgroups = f[1]
			return nil
		}
	}
	return errors.New("a mounted cgroup v2")
}

// tryCgroup makes a cgroup and removes it.
func (l *Lab) tryCgroup() error {
	dir := filepath.Join(l.cgroups, owned(os.Getpid(), "try"))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, "cgroup.kill"))
	return errors.Join(err, os.Remove(dir))
}

// Build puts a copy of the binary where every user may execute it: PGQUORUM_BIN, or one built now.
func (l *Lab) Build(ctx context.Context) error {
	bin := filepath.Join(l.dir, "pgquorum")
	from := os.Getenv("PGQUORUM_BIN")
	if from == "" {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "pgquorum/cmd/pgquorum")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build of pgquorum: %w: %s", err, out)
		}
	} else if err := copyFile(from, bin); err != nil {
		return fmt.Errorf("PGQUORUM_BIN: %w", err)
	}
	l.Bin = bin
	return os.Chmod(bin, 0o755)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

// owned is the name of something that a process made, so that it can be found again when that process is gone.
func owned(pid int, rest string) string { return fmt.Sprintf("pgq-%d-%s", pid, rest) }

// next gives a fresh name for a cluster.
func (l *Lab) next() string { return owned(os.Getpid(), strconv.FormatInt(l.seq.Add(1), 10)) }

// command runs a short helper program; the error carries its output.
func command(name string, args ...string) error {
	return commandInput("", name, args...)
}

// commandInput is command with a text on its standard input.
func commandInput(input, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
