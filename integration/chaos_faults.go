package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// begun is a fault that has begun.
type begun struct {
	hosts []*chaosHost // whom it met
	stale bool         // a guard is paused: reads of its Postgres rest on no promise until it has caught up (P1)
	end   func() error // may be nil
}

// errNotBegun is a fault that had nothing to meet: a process to kill that does not run, a disk that hangs already.
var errNotBegun = errors.New("not begun")

// inject begins a fault. Its error wraps errNotBegun where the fault had nothing to meet, else the harness is broken.
func (r *chaosRun) inject(ctx context.Context, f Fault) (begun, error) {
	hosts := r.byRole()
	h, peer := hosts[f.Target], hosts[f.Peer]
	b := begun{hosts: []*chaosHost{h}}
	var err error
	switch f.Kind {
	case faultKill:
		err = r.kill(&b, h, f)
	case faultPause:
		err = r.pause(&b, h, f)
	case faultCrash:
		err = r.crash(&b, h)
	case faultCrashAll:
		b.hosts = r.hosts
		err = r.crash(&b, r.hosts...)
	case faultPartition:
		err = r.partition(&b, hosts, f)
	case faultSlow:
		err = r.slow(&b, h, f)
	case faultLossy:
		var drops []Drop
		for _, port := range r.ports(h.Name) {
			drops = append(drops, ways(port, h.Name, f.What, f.Amount)...)
		}
		err = r.lay(&b, drops)
	case faultDiskHangs:
		err = r.hang(&b, h)
	case faultDiskFull:
		err = r.fill(&b, h)
	case faultReplay:
		err = r.pauseReplay(ctx, &b, h)
	case faultSwitchover:
		if f.Target == 0 {
			h = peer
		}
		b.hosts = []*chaosHost{hosts[0], h}
		r.switchover(ctx, &b, hosts[int(f.Pick*float64(len(hosts)))], hosts[0], h)
	case faultTerminate:
		err = r.terminate(ctx, &b, h)
	case faultLoseData:
		err = r.lose(&b, h, h.Data())
	case faultLoseRaft:
		err = r.lose(&b, h, h.Raft())
	case faultReplaced:
		err = r.lose(&b, h, h.Data(), h.Raft())
	case faultClockJumped:
		err = r.jump(&b, h, f)
	default:
		err = fmt.Errorf("%s: no such fault", f.Kind)
	}
	return b, err
}

// byRole gives the hosts in the order in which faults name them: the primary, then the others by name.
func (r *chaosRun) byRole() []*chaosHost {
	hosts, primary := slices.Clone(r.hosts), r.sampler.Primary()
	slices.SortStableFunc(hosts, func(a, b *chaosHost) int {
		switch primary {
		case a.Name:
			return -1
		case b.Name:
			return 1
		}
		return 0
	})
	return hosts
}

func notBegun(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errNotBegun, err)
}

func (r *chaosRun) kill(b *begun, h *chaosHost, f Fault) error {
	fds, err := h.handles(f.What, f.Pick)
	if err != nil {
		return notBegun(err)
	}
	if f.What != partAgent {
		return errors.Join(signalAll(fds, syscall.SIGKILL), closeAll(fds))
	}
	release, err := h.hold(func() error { return signalAll(fds, syscall.SIGKILL) })
	b.end = func() error { release(); return nil }
	return errors.Join(err, closeAll(fds))
}

func (r *chaosRun) pause(b *begun, h *chaosHost, f Fault) (err error) {
	b.stale = f.What == partGuard || f.What == partAgentAndGuard || f.What == partHost
	if f.What == partHost {
		b.end, err = h.freeze()
		return err
	}
	fds, err := h.handles(f.What, f.Pick)
	if err != nil {
		return notBegun(err)
	}
	b.end = func() error { return errors.Join(signalAll(fds, syscall.SIGCONT), closeAll(fds)) }
	return signalAll(fds, syscall.SIGSTOP)
}

// crash is the power cord of some hosts at once: the network first, so that no peer sees a connection close.
func (r *chaosRun) crash(b *begun, hosts ...*chaosHost) error {
	layer := r.layer()
	var drops []Drop
	for _, h := range hosts {
		for _, port := range r.ports(h.Name) {
			drops = append(drops, ways(port, h.Name, "both", 100)...)
		}
	}
	if err := r.cluster.Net.Lay(layer, drops...); err != nil {
		return err
	}
	var releases []func()
	b.end = func() error {
		err := r.cluster.Net.Lift(layer)
		for _, release := range releases {
			release()
		}
		return err
	}
	for _, h := range hosts {
		release, err := h.hold(h.powerOff)
		if err != nil {
			return errors.Join(err, b.end())
		}
		releases = append(releases, release)
	}
	return nil
}

// lose is a crash from which directories do not come back.
func (r *chaosRun) lose(b *begun, h *chaosHost, dirs ...string) error {
	if err := r.crash(b, h); err != nil {
		return err
	}
	if slices.Contains(dirs, h.Raft()) {
		if err := h.compaction.another(h.Log()); err != nil {
			return errors.Join(err, b.end())
		}
	}
	if slices.Contains(dirs, h.Data()) {
		h.freeSharedMemory() // nothing else knows of it then
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return errors.Join(err, b.end())
		}
	}
	return nil
}

// stopTime is what docs/operating.md says that an agent may take to stop: for the others 10 s, for Postgres
// primary_stop_timeout, for Raft and the guard 15 s.
const stopTime = 55 * time.Second

// terminate stops an agent in good order, and starts it again when it has ended and the fault is over.
func (r *chaosRun) terminate(ctx context.Context, b *begun, h *chaosHost) error {
	var agent *Process
	release, err := h.hold(func() error {
		agent = h.agent
		return notBegun(h.Signal(syscall.SIGTERM, h.Agent))
	})
	if err != nil {
		return err
	}
	began := r.now()
	b.end = func() error {
		defer release()
		ctx, cancel := context.WithTimeout(ctx, max(stopTime-(r.now()-began), time.Second))
		defer cancel()
		_ = agent.Wait(ctx) // how it ends is looked at below
		if !agent.Running() {
			return nil
		}
		r.event("%s: its agent has not stopped after %s, as a service manager would see it: SIGKILL", h.Name, stopTime)
		err := syscall.Kill(agent.PID, syscall.SIGKILL)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	return nil
}

// switchover asks for one beside the fault's length; the answer is noted, whatever it is.
func (r *chaosRun) switchover(ctx context.Context, b *begun, asked, leader, candidate *chaosHost) {
	answered := make(chan string, 1)
	go func() {
		code, text, err := r.cluster.Post(ctx, asked.Host, "/switchover", map[string]string{"leader": leader.Name, "candidate": candidate.Name})
		if err != nil {
			text = err.Error()
		}
		answered <- fmt.Sprintf("asked of %s: %d %s", asked.Name, code, text)
	}()
	b.end = func() error {
		r.event("switchover from %s to %s, %s", leader.Name, candidate.Name, <-answered)
		return nil
	}
}

func (r *chaosRun) pauseReplay(ctx context.Context, b *begun, h *chaosHost) error {
	if err := r.cluster.Exec(ctx, h.Host, "SELECT pg_wal_replay_pause()"); err != nil {
		return notBegun(err)
	}
	b.end = func() error {
		// It may have been promoted or stopped since: then nothing is paused any more.
		if err := r.cluster.Exec(ctx, h.Host, "SELECT pg_wal_replay_resume()"); err != nil {
			r.event("%s: replay goes on by itself: %v", h.Name, err)
		}
		return nil
	}
	return nil
}

func (r *chaosRun) hang(b *begun, h *chaosHost) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frozen > 0 || h.down > 0 {
		return fmt.Errorf("%w: %s is down, or its disk hangs", errNotBegun, h.Name)
	}
	if err := h.FreezeDisk(); err != nil {
		return err
	}
	h.frozen = 1
	b.end = func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.frozen == 0 {
			return nil // the host lost its power meanwhile
		}
		h.frozen = 0
		return h.ThawDisk()
	}
	return nil
}

// fill takes all the room on the host's disk.
func (r *chaosRun) fill(b *begun, h *chaosHost) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frozen > 0 {
		return fmt.Errorf("%w: the disk of %s hangs", errNotBegun, h.Name)
	}
	path := filepath.Join(h.home(), "filled-"+r.layer())
	f, err := os.Create(path)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: the disk of %s is full", errNotBegun, h.Name)
	}
	if err != nil {
		return err
	}
	b.end = func() error { return os.Remove(path) } // if the disk hangs by now, when it no longer does
	var size int64
	for part := int64(diskSize); part >= 4096; { // each part that does not fit any more is halved
		if err := unix.Fallocate(int(f.Fd()), 0, size, part); errors.Is(err, unix.ENOSPC) {
			part /= 2
			continue
		} else if err != nil {
			return errors.Join(err, f.Close(), b.end())
		}
		size += part
	}
	return f.Close()
}

// lay puts drops in force until the fault ends.
func (r *chaosRun) lay(b *begun, drops []Drop) error {
	layer := r.layer()
	b.end = func() error { return r.cluster.Net.Lift(layer) }
	return r.cluster.Net.Lay(layer, drops...)
}

func (r *chaosRun) slow(b *begun, h *chaosHost, f Fault) (err error) {
	r.mu.Lock()
	busy := r.slowed[h.Name]
	r.slowed[h.Name] = true
	r.mu.Unlock()
	if busy {
		return fmt.Errorf("%w: the wire of %s is slow", errNotBegun, h.Name)
	}
	delay := time.Duration(f.Amount) * time.Millisecond
	by := Slowness{Jitter: delay / 2}
	if f.What != "out" {
		by.In = delay
	}
	if f.What != "in" {
		by.Out = delay
	}
	stop, err := r.cluster.Net.Slow(h.Name, by)
	if err != nil {
		return err
	}
	b.end = func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.slowed[h.Name] = false
		return stop()
	}
	return nil
}
