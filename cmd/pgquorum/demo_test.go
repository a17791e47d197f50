package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// demoLimit bounds one run of the demo, on a machine that has much else to do.
const demoLimit = 4 * time.Minute

// TestDemo runs the demo as a person would, and holds it to what it says and to what it promises to leave: nothing.
func TestDemo(t *testing.T) {
	r := startDemoRun(t)
	if err := r.wait(); err != nil {
		t.Errorf("demo: %v", err)
	}
	text := r.out.String()
	for _, want := range []string{
		`n\d is the primary, on timeline 1 `,
		`Whole: 3 of 3 nodes, each commit waits for 1 of 2 standbys`,
		`answered after \d+ ms: Success`,
		`kill -9 \d+, the postmaster of n\d`,
		`\| primary +\| +n\d -> n\d \| +n\d -> n\d \|`,
		`\| write outage, direct +\| +\d+ ms \| +\d+ ms \|`,
		`\| lost rows +\| +0 \| +0 \|`,
		`In all: [1-9]\d* rows acknowledged, 0 lost\.`,
		`All stopped\.`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("want a line that matches %s", want)
		}
	}
	if _, err := exec.LookPath("/usr/sbin/haproxy"); err == nil && !regexp.MustCompile(`\| write outage, by HAProxy +\| +\d+ ms \| +\d+ ms \|`).MatchString(text) {
		t.Error("want the outages by HAProxy, which is installed")
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("a line of the table is wider than 80 columns: %s", line)
		}
	}
	r.wantNothingLeft()
}

// TestDemoInterrupted ends the demo by Ctrl-C at two moments: while the cluster forms, and while clients write and the
// primary moves.
func TestDemoInterrupted(t *testing.T) {
	for _, at := range []string{"is the primary, on timeline 1", "A switchover"} {
		t.Run(at, func(t *testing.T) {
			r := startDemoRun(t)
			r.waitFor(at)
			r.collect()
			if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := r.wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
				t.Errorf("interrupted demo: want exit code %d, got %v", exitFailed, err)
			}
			if text := r.out.String(); !strings.Contains(text, "Interrupted.") {
				t.Error("want it to say that it was interrupted")
			}
			r.wantNothingLeft()
		})
	}
}

// TestDemoFolder: what --dir refuses, before anything is started.
func TestDemoFolder(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct{ name, dir, want string }{
		{"not empty", full, "want a new or empty folder, it holds letter"},
		{"too long for sockets", "/tmp/" + strings.Repeat("a", 80), "at most 65 characters"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := openDemoFolder(demoOptions{dir: tt.dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
}

// TestOutage: the longest silence of one way that touches the time asked for.
func TestOutage(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	r := newRecord([]string{direct})
	for i, ms := range []int{0, 500, 510, 520, 700, 710, 1500} {
		r.acks[direct] = append(r.acks[direct], ack{at: at(ms), id: int64(i), port: 1})
	}
	cases := []struct {
		name           string
		from, to, want int
	}{
		{"inside", 515, 705, 180},
		{"began before", 600, 705, 180},
		{"goes on after", 515, 720, 790},
		{"none", 506, 509, 10},
	}
	for _, tt := range cases {
		if got := r.outage(direct, at(tt.from), at(tt.to)); got != time.Duration(tt.want)*time.Millisecond {
			t.Errorf("%s: want %d ms, got %v", tt.name, tt.want, got)
		}
	}
	if n := r.lost(map[int64]bool{0: true, 1: true, 2: true, 4: true, 5: true, 6: true}, at(0), at(2000)); n != 1 {
		t.Errorf("lost rows: want 1 of 7, got %d", n)
	}
}

// demoRun is the demo in a process of its own, and the processes of it that were seen.
type demoRun struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *buffer
	done chan struct{}
	err  error
	pids map[int]string // with the moment of their start, so that a number that comes again is not taken for them
}

// startDemoRun builds the program once and starts the demo.
func startDemoRun(t *testing.T) *demoRun {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 {
		if _, err := exec.LookPath("postgres"); err != nil {
			t.Fatal("PostgreSQL is needed: scripts/deps.sh, or apt-get install postgresql")
		}
	}
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	r := &demoRun{t: t, out: &buffer{}, done: make(chan struct{}), pids: map[int]string{}}
	r.cmd = exec.Command(binary, "demo")
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-r.done
		if t.Failed() {
			t.Log(r.out.String())
		}
	})
	return r
}

var builtBinary string // removed by TestMain

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pgquorum-demo-test-")
	if err != nil {
		return "", err
	}
	builtBinary = filepath.Join(dir, "pgquorum")
	cmd := exec.Command("go", "build", "-trimpath", "-o", builtBinary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return builtBinary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if builtBinary != "" {
		if err := os.RemoveAll(filepath.Dir(builtBinary)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// wait waits for the end, and notes meanwhile which processes there are.
func (r *demoRun) wait() error {
	r.t.Helper()
	r.until("the demo ended", func() bool {
		r.collect()
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	})
	return r.err
}

// waitFor waits until the demo has said text.
func (r *demoRun) waitFor(text string) {
	r.t.Helper()
	r.until(fmt.Sprintf("it says %q", text), func() bool {
		select {
		case <-r.done:
			r.t.Fatalf("the demo ended before it said %q: %v", text, r.err)
		default:
		}
		return strings.Contains(r.out.String(), text)
	})
}

func (r *demoRun) until(what string, done func() bool) {
	r.t.Helper()
	limit, tick := time.After(demoLimit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-limit:
			r.t.Fatalf("waited %v until %s", demoLimit, what)
		case <-tick.C:
		}
	}
}

var (
	folderLine = regexp.MustCompile(`Folder (\S+)\.\n`)
	pidWords   = regexp.MustCompile(`pid (\d+)`)
)

func (r *demoRun) folder() string {
	if m := folderLine.FindStringSubmatch(r.out.String()); m != nil {
		return m[1]
	}
	return ""
}

// collect notes every process that has to do with the demo's folder, and those that the demo named.
func (r *demoRun) collect() {
	for _, m := range pidWords.FindAllStringSubmatch(r.out.String(), -1) {
		if pid, err := strconv.Atoi(m[1]); err == nil && r.pids[pid] == "" {
			r.pids[pid] = bornAt(pid)
		}
	}
	if dir := r.folder(); dir != "" {
		for _, pid := range processesOf(r.t, dir) {
			r.pids[pid] = bornAt(pid)
		}
	}
}

// wantNothingLeft holds the demo to its promise, by the processes seen and by those that there are.
func (r *demoRun) wantNothingLeft() {
	r.t.Helper()
	dir := r.folder()
	if dir == "" {
		r.t.Fatal("the demo did not name its folder")
	}
	if len(r.pids) < 4 {
		r.t.Errorf("want the processes of agents and HAProxy among those seen, have %v", r.pids)
	}
	for pid, born := range r.pids {
		if born != "" && bornAt(pid) == born {
			r.t.Errorf("process %d is left: %s", pid, bytes.ReplaceAll(commandLineOf(pid), []byte{0}, []byte{' '}))
		}
	}
	if left := processesOf(r.t, dir); len(left) > 0 {
		r.t.Errorf("processes %v have to do with %s", left, dir)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		r.t.Errorf("folder %s: want it gone, got %v", dir, err)
	}
}

// processesOf gives every process, whatever it is, whose arguments or working directory name dir.
func processesOf(t *testing.T, dir string) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || bornAt(pid) == "" {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if bytes.Contains(commandLineOf(pid), []byte(dir)) || err == nil && strings.HasPrefix(cwd, dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func commandLineOf(pid int) []byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return text
}

// bornAt gives the moment of a process's start in clock ticks; empty for one that has ended, also while nobody has
// reaped it. Source: proc(5), /proc/pid/stat, fields 3 and 22.
func bornAt(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, found := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// buffer is what the demo wrote so far.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
