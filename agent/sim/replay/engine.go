package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// engine has the test ready to be run many times. Its methods may be called from several goroutines: runs share nothing.
type engine struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	module  wazero.CompiledModule
}

// newEngine builds the test.
func newEngine(ctx context.Context) (*engine, error) {
	binary, err := buildTest(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := cacheOf(ctx, binary)
	if err != nil {
		return nil, err
	}
	e := &engine{}
	if e.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
		return nil, err
	}
	conf := wazero.NewRuntimeConfig().WithCompilationCache(e.cache).WithMemoryLimitPages(memoryPages)
	e.runtime = wazero.NewRuntimeWithConfig(ctx, conf)
	if _, err = wasi_snapshot_preview1.Instantiate(ctx, e.runtime); err == nil {
		e.module, err = e.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), binary)
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// memoryPages bounds a run at 1 GB, in pages of 64 kB. One needs about 100 MB.
const memoryPages = 1 << 14

func (e *engine) close() error {
	ctx := context.Background()
	return errors.Join(e.runtime.Close(ctx), e.cache.Close(ctx))
}

// schedule is what is played: the faults and draws of a seed, and one of the many orders in which goroutines may run.
type schedule struct{ seed, order uint64 }

// String names it, as a file too.
func (s schedule) String() string {
	if s.order == 0 {
		return fmt.Sprintf("seed%d", s.seed)
	}
	return fmt.Sprintf("seed%d-order%d", s.seed, s.order)
}

// command replays it.
func (s schedule) command() string {
	if s.order == 0 {
		return fmt.Sprintf("make replay SEED=%d", s.seed)
	}
	return fmt.Sprintf("make replay SEED=%d ARGS='-order %d'", s.seed, s.order)
}

// run is what came of a schedule.
type run struct {
	schedule
	passed bool
	words  string            // what the test said, its trace in it
	sum    [sha256.Size]byte // of all that came out, the agents' logs with it
	took   time.Duration     // on the clock of this machine
}

func (r run) verdict() string {
	if r.passed {
		return fmt.Sprintf("passed, sum %.8x,", r.sum)
	}
	return fmt.Sprintf("FAILED, sum %.8x, again with: %s,", r.sum, r.command())
}

// play runs one schedule. The agents' logs go to log as they come. The error says that it could not be run; that it
// failed the run says.
func (e *engine) play(ctx context.Context, s schedule, log io.Writer) (r run, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	files, err := os.MkdirTemp("", "replay")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(files)) }()
	began := time.Now()
	m := newMachine(s, began)
	sum, words, last := sha256.New(), &bytes.Buffer{}, &tail{}
	conf := m.configure(wazero.NewModuleConfig()).
		WithStdout(io.MultiWriter(sum, words)).
		WithStderr(io.MultiWriter(sum, last, log)).
		WithFSConfig(wazero.NewFSConfig().WithDirMount(files, "/tmp")). // Raft's snapshots
		WithEnv("GOTRACEBACK", "all").
		WithEnv("GOGC", "400"). // a run has little that lives long
		WithArgs("sim.test", "-test.run=^TestSchedules$", "-test.v", "-test.timeout=0", "-trace",
			"-seeds=1", "-seed="+strconv.FormatUint(s.seed, 10))
	instance, err := e.runtime.InstantiateModule(ctx, e.module, conf)
	if instance != nil {
		err = errors.Join(err, instance.Close(ctx))
	}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r = run{schedule: s, passed: err == nil, took: time.Since(began)}
	var exit *sys.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() == testsFailed:
	default: // a panic, a deadlock or a run without end
		fmt.Fprintf(words, "%v\nthe last lines of its log:\n%s\n", err, last)
	}
	copy(r.sum[:], sum.Sum(nil))
	r.words = words.String()
	return r, nil
}

// testsFailed is how a Go test binary exits when a test has failed.
const testsFailed = 1

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const tailSize = 16 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailSize; extra > tailSize {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(b), nil
}

// String gives the end.
func (t *tail) String() string { return string(t.kept[max(0, len(t.kept)-tailSize):]) }
