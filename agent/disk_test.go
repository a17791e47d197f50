package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// fakeDisk is a node's disks: that of everything vital, and what else is added. Each probe is answered as it was told
// last; one that hangs does so until it is told otherwise.
type fakeDisk struct {
	mu     sync.Mutex
	places []DiskPlace
	err    error
	free   uint64
	hung   chan struct{}
	probes int
	others map[string]error // outcomes of the probes of further disks, by directory
}

const manyBytes = 1 << 40

func newFakeDisk() *fakeDisk {
	return &fakeDisk{free: manyBytes, others: map[string]error{},
		places: []DiskPlace{{Dir: "fake disk", Uses: []cluster.DiskUse{cluster.UseRaft, cluster.UseData, cluster.UseWAL}}}}
}

func (d *fakeDisk) Places() ([]DiskPlace, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.places), nil
}

func (d *fakeDisk) Probe(p DiskPlace) (uint64, error) {
	d.mu.Lock()
	if err, is := d.others[p.Dir]; is {
		defer d.mu.Unlock()
		return manyBytes, err
	}
	hung := d.hung
	d.probes++
	d.mu.Unlock()
	if hung != nil {
		<-hung
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, d.err
}

// add mounts one more disk.
func (d *fakeDisk) add(dir string, use cluster.DiskUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.places = append(d.places, DiskPlace{Dir: dir, Uses: []cluster.DiskUse{use}})
	d.others[dir] = nil
}

func (d *fakeDisk) answer(dir string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others[dir] = err
}

// leaves says how much is free from now on.
func (d *fakeDisk) leaves(bytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = bytes
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

// probeDeadline is the one that a file without a word about it has.
var probeDeadline = cluster.DefaultDiskLimits().Deadline

// probing runs a test with a watch on a fake disk, half a second after its first probe.
func probing(t *testing.T, test func(t *testing.T, d *fakeDisk, w *diskWatch, jump func(time.Duration))) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		begin := time.Now()
		d := newFakeDisk()
		w := newDiskWatch(d, cluster.DiskLimits{}, func() cluster.Instant {
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
	got := decide.DiskFault(w.statuses())
	if part == "" && got != "" || !strings.Contains(got, part) {
		t.Fatalf("verdict %q, want %q", got, part)
	}
}

// B2: a probe has 2 s from its own beginning, one is under way at a time, and one that ends late mends the verdict.
func TestB2ProbeDeadline(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		wantVerdict(t, w, "")
		release := d.hang()
		pass(500*time.Millisecond + probeDeadline - time.Millisecond) // it begins with the next second
		wantVerdict(t, w, "")
		pass(time.Millisecond)
		wantVerdict(t, w, "disk of raft, data, wal (fake disk): a write has not ended 2s after it began")
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

// wantAlarm holds the alarm of one disk against what it should be.
func wantAlarm(t *testing.T, w *diskWatch, dir string, want cluster.DiskAlarm) {
	t.Helper()
	for _, d := range w.statuses() {
		if d.Dir == dir {
			if d.Alarm != want || (want == cluster.DiskWell) != (d.Why == "") {
				t.Fatalf("%s: alarm %q because %q, want %q", dir, d.Alarm, d.Why, want)
			}
			return
		}
	}
	t.Fatalf("%s is not probed: %+v", dir, w.statuses())
}

// B2: errors count at once, but a lack of space at the second probe only.
func TestB2ProbeErrors(t *testing.T) {
	for _, c := range []struct {
		err   error
		after int // probes
		want  cluster.DiskAlarm
	}{{syscall.EIO, 1, cluster.DiskFailed}, {syscall.EROFS, 1, cluster.DiskReadOnly}, {syscall.ENOSPC, 2, cluster.DiskFull}, {syscall.EDQUOT, 2, cluster.DiskFull}} {
		t.Run(c.err.Error(), func(t *testing.T) {
			probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
				d.fails(fmt.Errorf("write probe: %w", c.err))
				for range c.after {
					wantAlarm(t, w, "fake disk", cluster.DiskWell)
					pass(time.Second)
				}
				wantAlarm(t, w, "fake disk", c.want)
				wantVerdict(t, w, map[bool]string{true: c.err.Error()}[c.want.Unwritable()])
				d.fails(nil)
				pass(time.Second)
				wantAlarm(t, w, "fake disk", cluster.DiskWell)
			})
		})
	}
}

// A disk that is full at every other probe is not full.
func TestB2ProbeFullForAMoment(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		for i := range 6 {
			d.fails([]error{syscall.ENOSPC, nil}[i%2])
			pass(time.Second)
			wantAlarm(t, w, "fake disk", cluster.DiskWell)
		}
	})
}

// B2: the thresholds, and that a disk which was short is so until half as much again is free.
func TestB2FreeSpace(t *testing.T) {
	const mib = 1 << 20
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		for i, c := range []struct {
			free uint64
			want cluster.DiskAlarm
		}{
			{1024 * mib, cluster.DiskWell}, {1024*mib - 1, cluster.DiskLow}, {64 * mib, cluster.DiskLow}, {64*mib - 1, cluster.DiskShort},
			{64 * mib, cluster.DiskShort}, {96*mib - 1, cluster.DiskShort}, {16 * mib, cluster.DiskShort}, {16*mib - 1, cluster.DiskFull},
			{16 * mib, cluster.DiskShort}, {0, cluster.DiskFull}, {96 * mib, cluster.DiskLow}, {64 * mib, cluster.DiskLow}, {2048 * mib, cluster.DiskWell},
		} {
			d.leaves(c.free)
			pass(2 * time.Second)
			if got := w.statuses()[0]; got.Alarm != c.want || got.Free != c.free {
				t.Errorf("step %d, %d bytes free: %q with %d, want %q", i, c.free, got.Alarm, got.Free, c.want)
			}
		}
	})
}

// B2: each use has its own minimum, and a minimum of 0 leaves only what a write is refused for.
func TestB2MinimumsByUse(t *testing.T) {
	t.Parallel()
	limits := cluster.DiskLimits{Every: time.Second, Deadline: time.Second, Warn: 100 << 20, MinRaft: 1 << 20, MinWAL: 50 << 20}
	w := newDiskWatch(newFakeDisk(), limits, nil)
	for _, c := range []struct {
		uses []cluster.DiskUse
		free uint64
		want cluster.DiskAlarm
	}{
		{[]cluster.DiskUse{cluster.UseRaft}, 1 << 20, cluster.DiskLow},
		{[]cluster.DiskUse{cluster.UseRaft}, 1<<20 - 1, cluster.DiskFull},
		{[]cluster.DiskUse{cluster.UseRaft, cluster.UseWAL}, 40 << 20, cluster.DiskShort},
		{[]cluster.DiskUse{cluster.UseData}, 0, cluster.DiskLow},
		{[]cluster.DiskUse{cluster.TablespaceUse("1")}, 100 << 20, cluster.DiskWell},
	} {
		p := w.newProbe(DiskPlace{Dir: "d", Uses: c.uses}, nil)
		if got, why := p.measure(probed{free: c.free}); got != c.want {
			t.Errorf("%v with %d bytes: %q (%s), want %q", c.uses, c.free, got, why, c.want)
		}
	}
}

// B2: a disk is probed apart from the others, comes and goes with its place, and a tablespace stops nobody from writing.
func TestB2EachDiskApart(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		d.add("/ts", cluster.TablespaceUse("16385"))
		d.add("/wal", cluster.UseWAL)
		release := d.hang()
		pass(5 * time.Second)
		wantAlarm(t, w, "fake disk", cluster.DiskHung)
		wantAlarm(t, w, "/ts", cluster.DiskWell)
		release()
		d.answer("/ts", syscall.EROFS)
		pass(2 * time.Second)
		wantAlarm(t, w, "/ts", cluster.DiskReadOnly)
		wantVerdict(t, w, "")
		d.answer("/wal", syscall.EIO)
		pass(2 * time.Second)
		wantVerdict(t, w, "disk of wal (/wal): input/output error")
		d.mu.Lock()
		d.places = d.places[:1]
		d.mu.Unlock()
		pass(2 * time.Second)
		if all := w.statuses(); len(all) != 1 || all[0].Dir != "fake disk" {
			t.Errorf("probed still: %+v", all)
		}
	})
}

// A directory that is not there says nothing of its disk.
func TestB2ProbeOfNoPlace(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		d.fails(ErrNoPlace)
		pass(5 * time.Second)
		wantAlarm(t, w, "fake disk", cluster.DiskWell)
		d.fails(syscall.EROFS)
		pass(2 * time.Second)
		d.fails(ErrNoPlace)
		pass(5 * time.Second)
		wantAlarm(t, w, "fake disk", cluster.DiskReadOnly)
	})
}

// A disk keeps its alarm when more comes to stand on it, such as the clone of a data directory.
func TestB2AlarmOutlivesANewUse(t *testing.T) {
	probing(t, func(t *testing.T, d *fakeDisk, w *diskWatch, _ func(time.Duration)) {
		release := d.hang()
		defer release()
		pass(5 * time.Second)
		d.mu.Lock()
		d.places[0].Uses = append(d.places[0].Uses, cluster.TablespaceUse("1"))
		d.mu.Unlock()
		for range 10 {
			pass(250 * time.Millisecond)
			wantAlarm(t, w, "fake disk", cluster.DiskHung)
		}
	})
}

// onDisk gives a node a fake disk, and runs the probe and what follows from it.
func (c *fakeCluster) onDisk(n *fakeNode) (*fakeDisk, <-chan error) {
	d := newFakeDisk()
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
		pass(500*time.Millisecond + probeDeadline - time.Millisecond)
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
		pass(mindEvery)
		if c.calls.count("n2 CloseTransport") != 1 || c.calls.count("n2 Fence") != 0 {
			t.Errorf("as leader: %q", c.calls.all("n2"))
		}
		if !pending(ended) {
			t.Error("the agent ends while it cannot write")
		}
	})
}

// diskEvents gives a node's events of its disks.
func (c *fakeCluster) diskEvents(id cluster.NodeID) (events []cluster.Event) {
	for _, cmd := range c.commands("add_event") {
		if e := cmd.(cluster.AddEvent).Event; e.Node == id && strings.HasPrefix(e.Type, "disk_") {
			events = append(events, e)
		}
	}
	return events
}

// Each alarm is an event once, told to the leader by whoever it is, also by a node that has closed its transport.
func TestB2AlarmsAreEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.holds()
		n2 := c.nodes["n2"]
		d, _ := c.onDisk(n2)
		d.leaves(50 << 20)
		pass(5 * time.Second)
		d.fails(syscall.ENOSPC)
		pass(5 * time.Second)
		d.fails(nil)
		d.leaves(manyBytes)
		pass(5 * time.Second)
		var got []string
		for _, e := range c.diskEvents("n2") {
			got = append(got, e.Type+" "+strings.SplitN(e.Detail, ":", 2)[0])
		}
		if want := []string{"disk_alarm short", "disk_alarm full", "disk_well no longer full"}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// An alarm that nobody can take yet waits, and is told once somebody can.
func TestB2AlarmWaitsForALeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.lead("")
		n2 := c.nodes["n2"]
		d, _ := c.onDisk(n2)
		d.leaves(50 << 20)
		pass(20 * time.Second)
		if n := len(c.diskEvents("n2")); n != 0 {
			t.Fatalf("%d events without a leader", n)
		}
		c.lead("n1")
		pass(5 * time.Second)
		if events := c.diskEvents("n2"); len(events) != 1 || events[0].Type != "disk_alarm" {
			t.Errorf("events %+v", events)
		}
	})
}

// B2: the count of stops on a disk without room, which the pauses between starts grow with, ends with the lack.
func TestB2FullStopsAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.nodes["n2"]
		d, _ := c.onDisk(n2)
		d.leaves(0)
		pass(3 * time.Second)
		for stops := range 4 {
			if got := n2.observe().FullStops; got != stops {
				t.Fatalf("%d stops counted, want %d", got, stops)
			}
			c.set("n2", func(p *cluster.PostgresStatus) { p.State = cluster.PostgresStopped })
			for range 3 {
				if got := n2.observe().FullStops; got != stops+1 {
					t.Fatalf("%d stops counted while it is down, want %d", got, stops+1)
				}
			}
			c.set("n2", func(p *cluster.PostgresStatus) { p.State = cluster.PostgresRunning })
			n2.observe()
		}
		d.leaves(manyBytes)
		pass(2 * time.Second)
		if o := n2.observe(); o.FullStops != 0 || !o.ShortSince.IsZero() {
			t.Errorf("with room: %d stops, short since %v", o.FullStops, o.ShortSince)
		}
	})
}
