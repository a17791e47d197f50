package sim_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/sim"
	"pgquorum/cluster"
	"pgquorum/raftfsm"
)

var (
	seeds = flag.Int("seeds", 40, "how many schedules are played")
	first = flag.Uint64("seed", 1, "the first schedule")
	trace = flag.Bool("trace", false, "print what happened also in a schedule that passes")
	logs  = flag.String("logs", "", "a directory for the agents' logs of failed schedules")

	stuckAfter = flag.Duration("stuck", 10*time.Minute, "after how long, in real time, a schedule counts as one that never ends: its stacks are printed, before it fills the memory")
)

// TestSchedules plays schedules of faults on whole clusters: no promise is broken, and each is whole again in the end.
func TestSchedules(t *testing.T) {
	var all outcomes
	t.Cleanup(func() { all.judge(t) }) // when they have ended
	for i := range *seeds {
		seed := *first + uint64(i)
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			playIn(t, seed, &all, func(w *sim.World) error {
				return w.Play(sim.Schedule{Faults: 8, Pause: 4 * time.Second, Settle: settle})
			})
		})
	}
}

// outcomes are what came of all schedules.
type outcomes struct {
	schedules               atomic.Int64
	person                  atomic.Int64 // of those, how many ended with a cluster that rightly waits for a person
	whole, waited, unjudged atomic.Int64 // the times with a minority away
}

func (o *outcomes) add(whole, waited, unjudged int) {
	o.schedules.Add(1)
	o.whole.Add(int64(whole))
	o.waited.Add(int64(waited))
	o.unjudged.Add(int64(unjudged))
}

// judge fails when too few majorities were whole by themselves for the check to be worth its name, or too many clusters wait for
// a person.
func (o *outcomes) judge(t *testing.T) {
	whole, waited, unjudged := o.whole.Load(), o.waited.Load(), o.unjudged.Load()
	t.Logf("without a minority %d were whole, %d waited for it and said so, %d had no quorum of votes", whole, waited, unjudged)
	if n, all := o.person.Load(), o.schedules.Load(); n > 0 {
		t.Logf("%d of %d ended with a cluster that waits for a person, since what was promoted by hand was followed", n, all)
		if n > 1+all/100 {
			t.Errorf("%d of %d wait for a person: want hardly any", n, all)
		}
	}
	if all := whole + waited + unjudged; all >= 20 && whole < all/2 {
		t.Errorf("without a minority %d of %d were whole: the schedules tested little", whole, all)
	}
}

// playIn plays a schedule in the world of a seed, in a bubble of its own.
func playIn(t *testing.T, seed uint64, all *outcomes, schedule func(*sim.World) error) {
	dirs := t.TempDir()
	opt := sim.Options{Seed: seed, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum, SoftFence: seed%4 != 0, OpenRaft: openRaft(dirs)}
	if seed%5 == 0 {
		opt.Nodes = 5
	}
	if seed%3 == 0 {
		opt.Heartbeat = 300 * time.Millisecond
	}
	switch {
	case seed%7 == 0:
		opt.Mode = cluster.SyncOn
	case seed%4 == 2:
		opt.Mode = cluster.SyncOff
	}
	opt.Strict = seed%11 == 0
	if seed%4 == 1 {
		opt.Watchdog = 2 * time.Second
	}
	log := tail{whole: *logs != ""}
	opt.Log = logOf(&log)
	defer func() { keepLog(t, seed, &log) }()
	stuck := time.AfterFunc(*stuckAfter, func() { // outside of the bubble: real time
		panic(fmt.Sprintf("%s has not ended after %v; the end of its log:\n%s\n%s", t.Name(), *stuckAfter, log.end(), stacks(true)))
	})
	defer stuck.Stop()
	var bubble string
	defer func() {
		if r := recover(); r != nil && !raftLeft(bubble) {
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		bubble = bubbleOf(stacks(false))
		w, err := sim.NewWorld(opt)
		if err != nil {
			t.Fatal(err)
		}
		play(t, w, all, schedule)
		if t.Failed() || *trace {
			t.Logf("what happened:\n%s", w.Trace())
		}
	})
}

// tail is a log of which only the end is wanted, or all.
type tail struct {
	text  []byte
	whole bool
}

// tailSize is how many bytes of a log are printed.
const tailSize = 16_000

// Write implements io.Writer.
func (l *tail) Write(p []byte) (int, error) {
	if l.text = append(l.text, p...); !l.whole && len(l.text) > 100*tailSize {
		l.text = slices.Clone(l.end())
	}
	return len(p), nil
}

func (l *tail) end() []byte { return l.text[max(0, len(l.text)-tailSize):] }

// keepLog prints the end of a failed schedule's log, and keeps all of it where that is asked for: a schedule on the real Raft
// may not fail again.
func keepLog(t *testing.T, seed uint64, log *tail) {
	if !t.Failed() {
		return
	}
	t.Logf("the end of its log:\n%s", log.end())
	if *logs != "" {
		if err := os.MkdirAll(*logs, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(*logs, fmt.Sprintf("seed%d.log", seed)), log.text, 0o644); err != nil {
			t.Error(err)
		}
	}
}

func play(t *testing.T, w *sim.World, all *outcomes, schedule func(*sim.World) error) {
	ctx, end := context.WithCancel(t.Context())
	endless := time.AfterFunc(longest, func() {
		panic(fmt.Sprintf("%s has not ended after %v of its time:\n%s\n%s", t.Name(), longest, w.Trace(), stacks(true)))
	})
	defer endless.Stop()
	defer w.Close()
	defer end()
	go w.Watch(ctx)
	if err := w.AwaitConverged(settle); err != nil {
		t.Errorf("at first: %v", err)
		return
	}
	w.Did("the cluster is whole")
	for _, h := range w.Hosts {
		go w.Write(ctx, h)
	}
	err := schedule(w)
	all.add(w.Minority())
	if err == nil {
		err = w.AwaitConverged(settle)
	}
	waits := err != nil && w.WaitsForAPerson()
	switch {
	case waits:
		w.Did("what was promoted by hand was followed: the cluster waits for a person, and says so")
		all.person.Add(1)
	case err != nil:
		t.Error(err)
	}
	w.CheckEnd()
	if tried, acked := w.Counts(); !waits && (acked < tried/4 || acked == 0) {
		t.Errorf("of %d rows only %d were acknowledged: the schedule tested little", tried, acked)
	}
	for _, v := range w.Violations() {
		t.Error(v)
	}
}

// settle bounds how long a cluster without faults may take to be whole. The longest is that of a node which must be taken out of
// the rules and copied because its source has removed the WAL that it needs, and then of another that lost its Raft store and
// needs the same: the two go one after the other, and each waits until a refusal has stood for a while.
const settle = 90 * time.Second

// longest is a schedule's time after which something waits for ever: the rest of the world would go on, and fill the memory.
const longest = time.Hour

// openRaft gives the real Raft, with its store in a directory for each node.
func openRaft(dirs string) func(sim.RaftOptions) (sim.Raft, error) {
	var disks disks
	return func(o sim.RaftOptions) (sim.Raft, error) {
		dir := filepath.Join(dirs, string(o.Self))
		if o.Forgot {
			if err := disks.forget(o.Self, dir, o.UID); err != nil {
				return nil, err
			}
		}
		return raftfsm.Open(context.Background(), raftfsm.Options{
			Self: o.Self, UID: o.UID, Scope: "sim", Listener: o.Listener, Advertise: o.Members[o.Self],
			DataDir: dir, Members: o.Members, Heartbeat: o.Heartbeat, Clock: o.Clock, Log: o.Log,
			Wake: o.Wake, OnAnswer: o.OnAnswer, Dial: o.Dial, OpenStore: disks.store(o.Self, o.Disk),
		})
	}
}

// raftLeft says whether nothing but a transfer of leadership is left of a bubble. raft v1.8.0 leaves the two goroutines of
// one behind for ever when the leader's loop ends while it asks a follower's replication that has ended already (raft.go,
// leadershipTransfer); in a bubble that is a deadlock.
func raftLeft(bubble string) bool {
	left := 0
	for block := range strings.SplitSeq(stacks(true), "\n\n") {
		if bubbleOf(block) != bubble {
			continue
		}
		if left++; !strings.Contains(block, "raft.(*Raft).leadershipTransfer(") && !strings.Contains(block, "raft.(*Raft).leaderLoop.func") {
			return false
		}
	}
	return left > 0
}

var bubbleName = regexp.MustCompile(`synctest bubble \d+`)

// bubbleOf is the bubble that the first line of a goroutine's stack names.
func bubbleOf(stack string) string {
	head, _, _ := strings.Cut(stack, "\n")
	return bubbleName.FindString(head)
}

// stacks gives the stack of this goroutine, or of all.
func stacks(all bool) string {
	size := 64 << 10
	if all {
		size = 4 << 20
	}
	buf := make([]byte, size)
	return string(buf[:runtime.Stack(buf, all)])
}
