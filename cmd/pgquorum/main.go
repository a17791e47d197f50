// Command pgquorum keeps a PostgreSQL cluster available: one binary on every node, with Raft inside.
//
// main holds the commands, one file each, and is the only place that knows all packages. Exit codes are stable:
// 0 done, 1 refused or failed, 2 usage, 3 no node answers, 4 outcome unknown.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(Run(ctx, environment{
		Args: os.Args[1:], Env: os.Environ(),
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal: isTerminal(os.Stdin), OutTerminal: isTerminal(os.Stdout),
	}))
}

// environment is all that a command takes from the process around it, so that tests can run one.
type environment struct {
	Args, Env               []string
	In                      io.Reader
	Out, Err                io.Writer
	InTerminal, OutTerminal bool // whether a person reads and writes there
}

// The exit codes.
const (
	exitDone    = 0
	exitFailed  = 1 // refused or failed: nothing was done, or what was done is said
	exitUsage   = 2
	exitNobody  = 3 // no node answers
	exitUnknown = 4 // it was sent, and no answer came: it may have been done
)

// Run executes one command line and gives the exit code. When ctx ends, the command stops.
func Run(ctx context.Context, env environment) int {
	root, started := newRootCommand(env)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	code := exitFailed
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case !started():
		code = exitUsage // cobra's own: an unknown command or flag, too many arguments
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(env.Err, "pgquorum:", text)
	}
	if code == exitUsage {
		fmt.Fprintln(env.Err, "pgquorum --help and pgquorum COMMAND --help show the commands, their flags and examples")
	}
	return code
}

// exitError is an error with an exit code other than 1.
type exitError struct {
	code int
	err  error
}

// Error gives the cause's text.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
