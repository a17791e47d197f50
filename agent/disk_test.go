package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// CloseTransport implements Consensus.
func (f *fakeConsensus) CloseTransport() error {
	return f.c.calls.call(context.Background(), f.self, "CloseTransport")
}

// fakeDisk answers each probe as it was told last; one that hangs does so until it is told otherwise.
type fakeDisk struct {
	mu     sync.Mutex
	err    error
	hung   chan struct{}
	probes int
}

func (d *fakeDisk) Probe(at func(string)) error {
	at("fake disk")
	d.mu.Lock()
	hung := d.hung
	d.probes++
	d.mu.Unlock()
	if hung != nil {
		<-hung
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *fakeDisk) fails(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// hang makes the probes from now on wait.
func (d *fakeDisk) hang() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hung := make(chan struct{})
	d.hung = hung
	return func() {
		d.mu.Lock()
		d.hung = nil
		d.mu.Unlock()
		close(hung)
		synctest.Wait()
	}
}

func (d *fakeDisk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.probes
}

// probing runs a test with a watch on a fake disk, half a second after its first probe.
func probing(t *testing.T, test func(t *testing.T, d *fakeDisk, w *diskWatch, jump func(time.Duration))) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		begin := time.Now()
		d := &fakeDisk{}
		w := newDiskWatch(d, func() cluster.Instant {
			return cluster.Instant(time.Hour) + cluster.Instant(time.Since(begin)) + cluster.Instant(ahead.Load())
		})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx) }()
		pass(500 * time.Millisecond)
		test(t, d, w, func(by time.Duration) { ahead.Store(int64(by)) })
		end()
		<-done
	})
}

func wantVerdict(t *testing.T, w *diskWatch, part string) {
	t.Helper()
	got := w.verdict()
	if part == "" && got != "" || !strings.Contains(got, part) {
		t.Fatalf("verdict %q, want %q", got, part)
	}
}

// B2: a probe has 2 s from its own beginning, one is under way at a time, and one that ends late mends the verdict.
func TestB2ProbeDeadline(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		wantVerdict(t, w, "")
		release := d.hang()
		pass(500*time.Millisecond + ProbeDeadline - time.Millisecond) // it begins with the next second
		wantVerdict(t, w, "")
		pass(time.Millisecond)
		wantVerdict(t, w, "fake disk: a write has not ended 2s after it began")
		pass(time.Minute)
		if n := d.count(); n != 2 {
			t.Errorf("%d probes, want the first and the one that hangs", n)
		}
		release()
		wantVerdict(t, w, "")
		pass(time.Second)
		if n := d.count(); n != 3 {
			t.Errorf("%d probes, want them to go on", n)
		}
	})
}

// B2: a process that was stopped finds its probe overdue; that says nothing of the disk.
func TestB2ProbeOfAStoppedProcess(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, jump func(time.Duration)) {
		release := d.hang()
		pass(time.Second)
		jump(time.Hour)
		pass(2 * time.Second)
		wantVerdict(t, w, "")
		pass(2 * time.Second)
		wantVerdict(t, w, "has not ended")
		release()
	})
}

// B2: errors count at once, but a full disk at the second probe only.
func TestB2ProbeErrors(t *testing.T) {
	for _, c := range []struct {
		err   error
		after int // probes
	}{{syscall.EIO, 1}, {syscall.EROFS, 1}, {syscall.ENOSPC, 2}, {syscall.EDQUOT, 2}} {
		t.Run(c.err.Error(), func(t *testing.T) {
			probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
				d.fails(fmt.Errorf("write probe: %w", c.err))
				for range c.after {
					wantVerdict(t, w, "")
					pass(time.Second)
				}
				wantVerdict(t, w, c.err.Error())
				d.fails(nil)
				pass(time.Second)
				wantVerdict(t, w, "")
			})
		})
	}
}

// A disk that is full at every other probe is not one that cannot be written.
func TestB2ProbeFullForAMoment(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		for i := range 6 {
			d.fails([]error{syscall.ENOSPC, nil}[i%2])
			pass(time.Second)
			wantVerdict(t, w, "")
		}
	})
}

// onDisk gives a node a fake disk, and runs the probe and what follows from it.
func (c *fakeCluster) onDisk(n *fakeNode) (*fakeDisk, <-chan error) {
	d := &fakeDisk{}
	n.disk.disk = d // its run, which alone looks at it, begins now
	c.start(func() { n.disk.run(c.life) })
	ended := make(chan error, 1)
	c.start(func() { ended <- n.minding(c.life) })
	pass(500 * time.Millisecond)
	return d, ended
}

// B2: the lease first, then the guard, whose word is not waited for long, then the transport, once; and when the disk
// works again the agent ends.
func TestB2HolderFencesThenClosesTransport(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.holds()
		d, ended := c.onDisk(n1)
		c.calls.hook("n1 Fence", func(ctx context.Context) error {
			if _, state := n1.keeper.current(); state != decide.LeaseNone {
				t.Errorf("the guard is asked while the lease is in state %d", state)
			}
			<-ctx.Done() // a mark that cannot be written
			return ctx.Err()
		})
		release := d.hang()
		pass(500*time.Millisecond + ProbeDeadline - time.Millisecond)
		if c.calls.count("n1 Fence") != 0 {
			t.Fatal("fenced before the deadline")
		}
		pass(time.Millisecond)
		if c.calls.count("n1 Fence 3") != 1 || c.calls.count("n1 CloseTransport") != 0 {
			t.Fatalf("at the deadline: %q", c.calls.all("n1"))
		}
		if s := n1.Snapshot(); !strings.Contains(s.Phase, "has not ended") || s.Local.DiskFault == "" {
			t.Errorf("shown: phase %q, disk fault %q", s.Phase, s.Local.DiskFault)
		}
		pass(fenceWait)
		if c.calls.count("n1 CloseTransport") != 1 {
			t.Errorf("%v after the deadline the transport is open", fenceWait)
		}
		pass(time.Minute)
		if !c.calls.ordered("n1 Fence 3", "n1 CloseTransport") || c.calls.count("n1 CloseTransport") != 1 || c.calls.count("n1 Fence") != 1 {
			t.Errorf("after the deadline: %q", c.calls.all("n1"))
		}
		if !pending(ended) {
			t.Fatal("the agent ends while it cannot write")
		}
		release()
		pass(time.Millisecond)
		if err := <-ended; !errors.Is(err, ErrRestart) || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("Run ends with %v", err)
		}
	})
}

// B2: a follower keeps its place; once it leads Raft it closes the transport, without a fence.
func TestB2FollowerClosesOnlyAsLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		d, ended := c.onDisk(n2)
		d.fails(syscall.EROFS)
		pass(5 * time.Second)
		if c.calls.count("n2 CloseTransport")+c.calls.count("n2 Fence") != 0 || n2.localStatus(n2.watch.latest()).CanPromote == "" {
			t.Fatalf("a follower that cannot write: %q", c.calls.all("n2"))
		}
		c.lead("n2")
		pass(ProbeEvery)
		if c.calls.count("n2 CloseTransport") != 1 || c.calls.count("n2 Fence") != 0 {
			t.Errorf("as leader: %q", c.calls.all("n2"))
		}
		if !pending(ended) {
			t.Error("the agent ends while it cannot write")
		}
	})
}
