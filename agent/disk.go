package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"pgquorum/cluster"
)

// probeLate is how late the deadline may be looked at for it to count. A process that was stopped, or a machine that
// slept, finds its probe overdue before the probe has had the chance to end: it gets its time anew.
const probeLate = 100 * time.Millisecond

// diskWatch probes each of the node's disks, apart from one another and from everything else, and keeps what was found. On
// a disk one probe is under way at a time: a write that hangs must not gather others behind it, each with a thread of its
// own. So is the search for the disks, for directories that cannot even be looked at.
type diskWatch struct {
	disk    Disk
	limits  cluster.DiskLimits
	clock   cluster.Clock
	changed chan struct{} // an alarm did
	running sync.WaitGroup

	mu     sync.Mutex
	search *diskProbe
	found  []*diskProbe // in the order of Places
}

func newDiskWatch(d Disk, limits cluster.DiskLimits, clock cluster.Clock) *diskWatch {
	if limits.Every == 0 {
		limits = cluster.DefaultDiskLimits()
	}
	return &diskWatch{disk: d, limits: limits, clock: clock, changed: make(chan struct{}, 1)}
}

// run probes until ctx ends. A probe that hangs then is left to itself.
func (w *diskWatch) run(ctx context.Context) {
	if w.disk == nil {
		return
	}
	places := make(chan []DiskPlace, 1)
	search := w.newProbe(DiskPlace{Dir: "the data directories", Uses: []cluster.DiskUse{cluster.UseData}}, func() (uint64, error) {
		found, err := w.disk.Places()
		if err == nil {
			places <- found
		}
		return unlimited, err
	})
	w.mu.Lock()
	w.search = search
	w.mu.Unlock()
	w.running.Go(func() { search.run(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case found := <-places:
			w.take(ctx, found)
		}
	}
	w.running.Wait()
}

// unlimited is the free space of what has no space of its own.
const unlimited = ^uint64(0)

// take begins to probe places that are new, and ends the probes of those that are gone.
func (w *diskWatch) take(ctx context.Context, places []DiskPlace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.found
	w.found = make([]*diskProbe, 0, len(places))
	for _, p := range places {
		i := slices.IndexFunc(before, func(b *diskProbe) bool { return b.place.Dir == p.Dir && slices.Equal(b.place.Uses, p.Uses) })
		if i >= 0 {
			w.found = append(w.found, before[i])
			continue
		}
		probe := w.newProbe(p, func() (uint64, error) { return w.disk.Probe(p) })
		if i = slices.IndexFunc(before, func(b *diskProbe) bool { return b.place.Dir == p.Dir }); i >= 0 { // its alarm goes on
			probe.alarm, probe.why, probe.free = before[i].alarm, before[i].why, before[i].free
		}
		ctx, cancel := context.WithCancel(ctx)
		probe.end = cancel
		w.found = append(w.found, probe)
		w.running.Go(func() { probe.run(ctx) })
	}
	for _, b := range before {
		if !slices.Contains(w.found, b) {
			b.end()
		}
	}
	w.tell()
}

// statuses gives every disk that has been probed.
func (w *diskWatch) statuses() []cluster.DiskStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []cluster.DiskStatus
	if w.search != nil && w.search.alarm != cluster.DiskWell {
		all = append(all, w.search.status())
	}
	for _, p := range w.found {
		if p.probed || p.alarm != cluster.DiskWell {
			all = append(all, p.status())
		}
	}
	return all
}

func (w *diskWatch) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// diskProbe is the probe of one disk.
type diskProbe struct {
	watch *diskWatch
	place DiskPlace
	write func() (free uint64, err error)
	ended chan probed
	end   context.CancelFunc

	began cluster.Instant // of the probe under way; zero: none is. The run's own, as below is
	below cluster.DiskAlarm

	// Guarded by watch.mu.
	probed bool
	free   uint64
	alarm  cluster.DiskAlarm
	why    string
}

// probed is a probe's outcome.
type probed struct {
	free uint64
	err  error
}

func (w *diskWatch) newProbe(p DiskPlace, write func() (uint64, error)) *diskProbe {
	return &diskProbe{watch: w, place: p, write: write, ended: make(chan probed, 1), end: func() {}}
}

func (p *diskProbe) status() cluster.DiskStatus {
	return cluster.DiskStatus{Uses: p.place.Uses, Dir: p.place.Dir, Free: p.free, Alarm: p.alarm, Why: p.why}
}

func (p *diskProbe) run(ctx context.Context) {
	tick := time.NewTicker(p.watch.limits.Every)
	defer tick.Stop()
	deadline := time.NewTimer(p.watch.limits.Deadline)
	defer deadline.Stop()
	p.begin()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-p.ended:
			deadline.Stop()
			p.judge(r)
		case <-deadline.C:
			if p.missed() {
				deadline.Reset(p.watch.limits.Deadline)
			}
		case <-tick.C:
			if p.began.IsZero() {
				p.begin()
				deadline.Reset(p.watch.limits.Deadline)
			}
		}
	}
}

func (p *diskProbe) begin() {
	p.began = p.watch.clock()
	go func() {
		free, err := p.write()
		p.ended <- probed{free, err}
	}()
}

// judge takes the outcome of a probe. An error counts at once; a lack of space when the next probe finds it too: what has
// filled a disk for a moment is often gone a moment later.
func (p *diskProbe) judge(r probed) {
	p.began = 0
	if errors.Is(r.err, ErrNoPlace) {
		return
	}
	alarm, why := p.measure(r)
	lacks := alarm == cluster.DiskShort || alarm == cluster.DiskFull
	before := p.below
	p.below = cluster.DiskWell
	if lacks {
		p.below = alarm
		if before == cluster.DiskWell && !p.lacked() {
			return
		}
	}
	p.say(r, alarm, why)
}

// lacked says whether the disk was short of space already.
func (p *diskProbe) lacked() bool {
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	return p.alarm == cluster.DiskShort || p.alarm == cluster.DiskFull
}

// segment is a file of WAL, in bytes, as initdb makes it: what Postgres asks the disk for at once.
const segment = 16 << 20

// measure puts a number on an outcome. A disk that was short of space is so until half as much again as the minimum is
// free: a minimum that is crossed to and fro must not move the primary to and fro.
func (p *diskProbe) measure(r probed) (cluster.DiskAlarm, string) {
	limits := p.watch.limits
	var least uint64
	for _, u := range p.place.Uses {
		least = max(least, limits.Min(u))
	}
	want := least
	if p.lacked() {
		want += least / 2
	}
	free := fmt.Sprintf("%s: %d MB free", p.name(), r.free>>20)
	switch {
	case errors.Is(r.err, syscall.ENOSPC), errors.Is(r.err, syscall.EDQUOT):
		return cluster.DiskFull, fmt.Sprintf("%s: %v", p.name(), r.err)
	case errors.Is(r.err, syscall.EROFS):
		return cluster.DiskReadOnly, fmt.Sprintf("%s: %v", p.name(), r.err)
	case r.err != nil:
		return cluster.DiskFailed, fmt.Sprintf("%s: %v", p.name(), r.err)
	case r.free < min(least, segment):
		return cluster.DiskFull, fmt.Sprintf("%s, want %d MB at least", free, want>>20)
	case r.free < want:
		return cluster.DiskShort, fmt.Sprintf("%s, want %d MB at least", free, want>>20)
	case r.free < limits.Warn:
		return cluster.DiskLow, fmt.Sprintf("%s, the alarm is at %d MB", free, limits.Warn>>20)
	}
	return cluster.DiskWell, ""
}

// name says which disk it is, for people.
func (p *diskProbe) name() string {
	uses := make([]string, len(p.place.Uses))
	for i, u := range p.place.Uses {
		uses[i] = string(u)
	}
	return fmt.Sprintf("disk of %s (%s)", strings.Join(uses, ", "), p.place.Dir)
}

// missed judges a probe that has not ended by its deadline. It answers true when the probe gets its time anew.
func (p *diskProbe) missed() (again bool) {
	now := p.watch.clock()
	if now.Sub(p.began) > p.watch.limits.Deadline+probeLate {
		p.began = now
		return true
	}
	p.watch.mu.Lock()
	free := p.free
	p.watch.mu.Unlock()
	p.say(probed{free: free}, cluster.DiskHung, fmt.Sprintf("%s: a write has not ended %v after it began", p.name(), p.watch.limits.Deadline))
	return false
}

func (p *diskProbe) say(r probed, alarm cluster.DiskAlarm, why string) {
	p.watch.mu.Lock()
	changed := p.alarm != alarm
	p.probed, p.alarm, p.why = true, alarm, why
	if r.err == nil {
		p.free = r.free
	}
	p.watch.mu.Unlock()
	if changed {
		p.watch.tell()
	}
}
