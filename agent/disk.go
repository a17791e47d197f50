package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"pgquorum/cluster"
)

// The numbers of the disk's probe (B2, docs/protocol.md section 11).
const (
	ProbeEvery    = time.Second
	ProbeDeadline = 2 * time.Second

	// probeLate is how late the deadline may be looked at for it to count. A process that was stopped, or a machine that
	// slept, finds its probe overdue before the probe has had the chance to end: it gets its time anew.
	probeLate = 100 * time.Millisecond

	// fullProbes is how many probes in a row must find no space: what has filled a disk for a moment is often gone a
	// moment later.
	fullProbes = 2
)

// diskWatch probes the disk once a second, apart from everything else, and keeps the verdict. One probe is under way at a
// time: a write that hangs must not gather others behind it, each with a thread of its own.
type diskWatch struct {
	disk    Disk
	clock   cluster.Clock
	ended   chan error
	changed chan struct{} // the verdict did

	began cluster.Instant // of the probe under way; zero: none is. The run loop's own, as full is
	full  int             // probes in a row that found no space

	mu      sync.Mutex
	at      string // what the probe under way touches
	problem string
}

func newDiskWatch(d Disk, clock cluster.Clock) *diskWatch {
	return &diskWatch{disk: d, clock: clock, ended: make(chan error, 1), changed: make(chan struct{}, 1)}
}

// verdict says why the disk cannot be written; empty: it can.
func (w *diskWatch) verdict() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problem
}

// run probes until ctx ends. A probe that hangs then is left to itself.
func (w *diskWatch) run(ctx context.Context) {
	if w.disk == nil {
		return
	}
	tick := time.NewTicker(ProbeEvery)
	defer tick.Stop()
	deadline := time.NewTimer(ProbeDeadline)
	defer deadline.Stop()
	w.begin()
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-w.ended:
			deadline.Stop()
			w.judge(err)
		case <-deadline.C:
			if w.missed() {
				deadline.Reset(ProbeDeadline)
			}
		case <-tick.C:
			if w.began.IsZero() {
				w.begin()
				deadline.Reset(ProbeDeadline)
			}
		}
	}
}

func (w *diskWatch) begin() {
	w.began = w.clock()
	go func() { w.ended <- w.disk.Probe(w.touches) }()
}

func (w *diskWatch) touches(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = what
}

// judge takes the outcome of a probe. An error counts at once, but for a lack of space.
func (w *diskWatch) judge(err error) {
	w.began = 0
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	switch {
	case !full:
		w.full = 0
	case w.full+1 < fullProbes:
		w.full++
		return
	}
	if err != nil {
		w.say(err.Error())
		return
	}
	w.say("")
}

// missed judges a probe that has not ended by its deadline. It answers true when the probe gets its time anew.
func (w *diskWatch) missed() (again bool) {
	now := w.clock()
	if now.Sub(w.began) > ProbeDeadline+probeLate {
		w.began = now
		return true
	}
	w.mu.Lock()
	at := w.at
	w.mu.Unlock()
	w.say(fmt.Sprintf("%s: a write has not ended %v after it began", at, ProbeDeadline))
	return false
}

func (w *diskWatch) say(problem string) {
	w.mu.Lock()
	changed := w.problem != problem
	w.problem = problem
	w.mu.Unlock()
	if !changed {
		return
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
