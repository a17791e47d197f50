// Command replay plays simulated schedules exactly: the same seed gives the same run, byte for byte, each time and on each
// machine (docs/adr/0027). It compiles the test of agent/sim, with the real agents and the real Raft in it, for
// WebAssembly, and runs it on a machine on which nothing is left to chance: one thread, a clock that moves when it is
// read, and random bytes that the seed draws.
//
//	go run ./agent/sim/replay [-seed 17] [-seeds 1] [-order 0] [-logs DIR] [-twice]
//
// One schedule is told in words; of several, those that fail. It may not import what it judges: what a schedule is, and
// whether it passes, agent/sim alone says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	var j job
	flag.Uint64Var(&j.first, "seed", 1, "the first schedule")
	flag.IntVar(&j.seeds, "seeds", 1, "how many schedules are played")
	flag.Uint64Var(&j.order, "order", 0, "another order of the goroutines, under the same faults")
	flag.StringVar(&j.logs, "logs", "", "a directory for the agents' logs; of several schedules, of those that fail")
	flag.BoolVar(&j.twice, "twice", false, "play each twice: a run that differs from the one before has failed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := j.play(ctx)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

// job is what is asked for.
type job struct {
	first uint64
	seeds int
	order uint64
	logs  string
	twice bool
}

// play plays all, as many at a time as there are processors, and tells of each as it ends.
func (j job) play(ctx context.Context) (failed int, err error) {
	e, err := newEngine(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	ended := make(chan run)
	playing, ctx := errgroup.WithContext(ctx)
	playing.SetLimit(runtime.GOMAXPROCS(0))
	outcome := make(chan error, 1)
	go func() {
		for i := range j.seeds {
			playing.Go(func() error {
				r, err := j.one(ctx, e, schedule{seed: j.first + uint64(i), order: j.order})
				if err == nil {
					ended <- r
				}
				return err
			})
		}
		outcome <- playing.Wait()
		close(ended)
	}()
	done := 0
	for r := range ended {
		done++
		if !r.passed {
			failed++
		}
		j.tell(r, done, failed)
	}
	if j.seeds > 1 {
		fmt.Printf("%d schedules, %d failed\n", done, failed)
	}
	return failed, <-outcome
}

// tell prints a run that is the only one or has failed, and how far the job is.
func (j job) tell(r run, done, failed int) {
	interesting := j.seeds == 1 || !r.passed
	if interesting {
		fmt.Print(r.words)
	}
	if interesting || done%100 == 0 {
		fmt.Printf("%s: %s in %v; %d of %d are played, %d failed\n", r.schedule, r.verdict(), r.took.Round(10*time.Millisecond), done, j.seeds, failed)
	}
}

// one plays a schedule, and again if it is to be compared.
func (j job) one(ctx context.Context, e *engine, s schedule) (run, error) {
	r, err := j.logged(ctx, e, s)
	if err != nil || !j.twice {
		return r, err
	}
	again, err := e.play(ctx, s, io.Discard)
	if again.sum != r.sum {
		r.passed = false
		r.words += fmt.Sprintf("the second run was another, sum %.8x:\n%s", again.sum, again.words)
	}
	return r, err
}

// logged keeps a run's log in a file; of a run that passed only if it is the only one.
func (j job) logged(ctx context.Context, e *engine, s schedule) (r run, err error) {
	if j.logs == "" {
		return e.play(ctx, s, io.Discard)
	}
	if err := os.MkdirAll(j.logs, 0o755); err != nil {
		return r, err
	}
	f, err := os.Create(filepath.Join(j.logs, s.String()+".log"))
	if err != nil {
		return r, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if r.passed && j.seeds > 1 {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	return e.play(ctx, s, f)
}
