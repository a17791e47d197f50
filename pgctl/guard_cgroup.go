package pgctl

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup contains a Postgres in a cgroup v2 of its own, beneath the guard's: one write to cgroup.kill ends every
// process in it, whatever it forks meanwhile (U1, U3).
type cgroup struct {
	own   string   // where the guard was before
	guard string   // own/pgquorum-guard-<hash of the guard's directory>: the guard itself
	pg    string   // guard/pg: Postgres
	procs *os.File // pg, for CLONE_INTO_CGROUP
	kill  *os.File // pg/cgroup.kill, kept open so that killing opens nothing
}

const (
	containCgroup      = "cgroup"
	containDescendants = "descendants"
	cgroupFile         = "cgroup.json" // in the guard's directory: where EndAll finds the cgroup of a dead guard
)

// cgroupMark is the content of cgroupFile.
type cgroupMark struct {
	Postgres string `json:"postgres"` // cgroup.pg
}

// newCgroup moves this process into a cgroup of its own and makes Postgres's beneath it. An error means that the machine
// does not delegate cgroups to us; nothing is left behind then.
func newCgroup(dir string) (_ *cgroup, err error) {
	own, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	c := &cgroup{own: own, guard: filepath.Join(own, cgroupName(dir))}
	c.pg = filepath.Join(c.guard, "pg")
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	if err := mkdirIfAbsent(c.guard); err != nil {
		return nil, err
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := moveTo(c.guard); err != nil {
		return nil, err
	}
	if _, err := killCgroup(c.pg); err != nil { // a former guard's Postgres: this one has granted nothing yet
		return nil, err
	}
	return c, writeDurable(filepath.Join(dir, cgroupFile), cgroupMark{Postgres: c.pg})
}

// open makes and opens Postgres's cgroup.
func (c *cgroup) open() (err error) {
	if err := mkdirIfAbsent(c.pg); err != nil {
		return err
	}
	if c.procs, err = os.Open(c.pg); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if c.kill, err = os.OpenFile(filepath.Join(c.pg, "cgroup.kill"), os.O_WRONLY, 0); err != nil {
		return fmt.Errorf("cgroup: cgroup.kill (Linux 5.14): %w", err)
	}
	return nil
}

// renew gives an unused cgroup in place of c, which must be empty: whatever is forked into a cgroup that cgroup.kill was
// once written to is killed at once by some kernels (seen on 6.18).
func (c *cgroup) renew() (*cgroup, error) {
	if err := os.Remove(c.pg); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	fresh := &cgroup{own: c.own, guard: c.guard, pg: c.pg}
	if err := fresh.open(); err != nil {
		fresh.close()
		return nil, err
	}
	return fresh, nil
}

// killAll sends SIGKILL to all that is inside. The kernel marks them before the write returns.
func (c *cgroup) killAll() error {
	if _, err := c.kill.WriteAt([]byte("1"), 0); err != nil {
		return fmt.Errorf("cgroup %s: kill: %w", c.pg, err)
	}
	return nil
}

// close drops the descriptors, of which either may be missing.
func (c *cgroup) close() {
	for _, f := range []*os.File{c.procs, c.kill} {
		if f != nil {
			_ = f.Close() // nothing is buffered
		}
	}
}

// remove goes back to where the guard came from and removes the two directories, as far as that is possible: what
// remains is empty and is used again by the next guard.
func (c *cgroup) remove() {
	c.close()
	_ = moveTo(c.own)
	_ = os.Remove(c.pg)
	_ = os.Remove(c.guard)
}

func mkdirIfAbsent(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// moveTo moves this process into a cgroup.
func moveTo(cg string) error {
	if err := os.WriteFile(filepath.Join(cg, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("cgroup: move the guard: %w", err)
	}
	return nil
}

// cgroupName is the same for every guard of dir.
func cgroupName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "pgquorum-guard-" + hex.EncodeToString(sum[:6])
}

// leftCgroup gives the Postgres cgroup that a guard of dir recorded, "" if there is none any more.
func leftCgroup(dir string) (string, error) {
	var m cgroupMark
	if err := readJSON(filepath.Join(dir, cgroupFile), &m); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	if filepath.Base(m.Postgres) != "pg" || filepath.Base(filepath.Dir(m.Postgres)) != cgroupName(dir) {
		return "", fmt.Errorf("%s: %q is no cgroup of this guard", filepath.Join(dir, cgroupFile), m.Postgres)
	}
	if _, err := os.Stat(m.Postgres); err != nil {
		return "", nil // removed in good order, or before the machine last booted
	}
	return m.Postgres, nil
}

// killCgroup ends all that is inside cg, and says whether anything was.
func killCgroup(cg string) (populated bool, err error) {
	events, err := os.ReadFile(filepath.Join(cg, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cgroup: %w", err)
	}
	if !bytes.Contains(events, []byte("populated 1")) {
		return false, nil
	}
	if err := os.WriteFile(filepath.Join(cg, "cgroup.kill"), []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("cgroup: kill: %w", err)
	}
	return true, nil
}

// dropCgroup removes cg and its guard's, unless that guard still lives.
func dropCgroup(cg string) {
	procs, err := os.ReadFile(filepath.Join(filepath.Dir(cg), "cgroup.procs"))
	if err == nil && len(bytes.TrimSpace(procs)) == 0 {
		_ = os.Remove(cg) // an empty directory that stays does no harm
		_ = os.Remove(filepath.Dir(cg))
	}
}

// ownCgroup is the directory of this process's cgroup v2. Sources: cgroups(7), proc_pid_mountinfo(5).
func ownCgroup() (string, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	return findCgroup(string(self), string(mounts))
}

// findCgroup joins the v2 line of /proc/self/cgroup (0::/path) and the place where cgroup2 is mounted: /sys/fs/cgroup, or
// beside v1's controllers. The mount may show only a part of the tree (a container's): then the path loses that prefix.
func findCgroup(self, mountinfo string) (string, error) {
	path := ""
	for line := range strings.Lines(self) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return "", errors.New("cgroup: this process is in no cgroup v2")
	}
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		root, at := unescapeMount(fields[3]), unescapeMount(fields[4])
		rel, err := filepath.Rel(root, path)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return filepath.Join(at, rel), nil
		}
	}
	return "", fmt.Errorf("cgroup: no mount of cgroup2 shows %s", path)
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
