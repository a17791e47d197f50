package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// run runs a program of BinDir to its end and gives what it wrote to standard output, also when it ended with an
// error. The error is a *ProgramError with the last lines of standard error. ctx bounds it: at its end the whole
// process group gets SIGKILL. A password never goes into args, where every user of the machine can read it.
func (p *Postgres) run(ctx context.Context, program string, args ...string) (stdout string, err error) {
	var out bytes.Buffer
	err = p.runCommand(ctx, command{program: program, args: args, stdout: &out})
	return out.String(), err
}

// ProgramError is a PostgreSQL program that did not end well.
type ProgramError struct {
	Program string
	Stderr  string // its last lines, joined by "; "
	Err     error  // an *exec.ExitError, the context's error, or why it could not be started
}

// Error gives the program's name, how it ended and its last words, in one line.
func (e *ProgramError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Program, e.Err, e.Stderr)
}

// Unwrap gives the cause.
func (e *ProgramError) Unwrap() error { return e.Err }

// command is one run of a program of BinDir.
type command struct {
	program string
	args    []string
	env     []string          // beside the cleaned environment
	stdin   io.Reader         // nil: empty
	stdout  io.Writer         // nil: thrown away
	line    func(line string) // each line of standard error as it comes; may be nil
}

// lastLines is how many lines of standard error an error carries.
const lastLines = 4

// runCommand runs c to its end. The program dies with this process too (parent-death signal), so that an agent that
// was killed leaves no pg_basebackup or pg_rewind writing behind the back of its successor.
func (p *Postgres) runCommand(ctx context.Context, c command) error {
	// The parent-death signal comes when the thread ends that started the program, not the process: keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	tail := &tailWriter{line: c.line}
	cmd := exec.CommandContext(ctx, filepath.Join(p.opt.BinDir, c.program), c.args...)
	cmd.Env = append(cleanEnv(os.Environ()), c.env...)
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, tail
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return endGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second

	err := cmd.Run()
	tail.flush()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("ended because %w", context.Cause(ctx))
	}
	return &ProgramError{Program: c.program, Stderr: tail.String(), Err: err}
}

// endGroup kills every process of the group that pid leads; os.ErrProcessDone when there is none.
func endGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// cleanEnv drops what would change the programs' behaviour or language: libpq's PG* variables (PGHOST, PGPASSWORD,
// PGOPTIONS...) and the locale. Messages come in English and sorted by bytes, so that they can be read.
func cleanEnv(env []string) []string {
	out := make([]string, 0, len(env)+1)
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE" {
			continue
		}
		out = append(out, e)
	}
	return append(out, "LC_ALL=C")
}

// tailWriter keeps the last lines written to it and hands each on as it is complete. Progress reports end their lines
// with a carriage return; that counts as an end too. exec calls it from one goroutine.
type tailWriter struct {
	line func(string)
	part []byte
	last []string
}

// maxLine bounds one line of standard error.
const maxLine = 8 << 10

// Write splits b into lines.
func (t *tailWriter) Write(b []byte) (int, error) {
	for _, c := range b {
		if c == '\n' || c == '\r' {
			t.flush()
		} else if len(t.part) < maxLine {
			t.part = append(t.part, c)
		}
	}
	return len(b), nil
}

// flush ends the present line.
func (t *tailWriter) flush() {
	s := strings.TrimSpace(string(t.part))
	t.part = t.part[:0]
	if s == "" {
		return
	}
	if t.line != nil {
		t.line(s)
	}
	t.last = append(t.last, s)
	if len(t.last) > lastLines {
		t.last = t.last[1:]
	}
}

// String joins the last lines.
func (t *tailWriter) String() string { return strings.Join(t.last, "; ") }
