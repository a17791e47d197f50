package sim_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	logs  = flag.String("logs", "", "a directory for the agents' logs of failed schedules")
)

// TestSchedules plays schedules of faults on whole clusters: no promise is broken, and each is whole again in the end.
func TestSchedules(t *testing.T) {
	for i := range *seeds {
		seed := *first + uint64(i)
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			playSeed(t, seed)
		})
	}
}

// playSeed is one schedule in a bubble of its own.
func playSeed(t *testing.T, seed uint64) {
	dirs := t.TempDir()
	opt := sim.Options{Seed: seed, Nodes: 3, Heartbeat: time.Second, Mode: cluster.SyncQuorum, OpenRaft: openRaft(dirs)}
	if seed%5 == 0 {
		opt.Nodes = 5
	}
	if seed%3 == 0 {
		opt.Heartbeat = 300 * time.Millisecond
	}
	if seed%7 == 0 {
		opt.Mode = cluster.SyncOn
	}
	var log bytes.Buffer
	if *logs != "" {
		opt.Log = &log
	}
	defer func() { keepLog(t, seed, &log) }()
	synctest.Test(t, func(t *testing.T) {
		w, err := sim.NewWorld(opt)
		if err != nil {
			t.Fatal(err)
		}
		play(t, w)
		if t.Failed() {
			t.Logf("what happened:\n%s", w.Trace())
		}
	})
}

func keepLog(t *testing.T, seed uint64, log *bytes.Buffer) {
	if t.Failed() && *logs != "" {
		if err := os.MkdirAll(*logs, 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(*logs, fmt.Sprintf("seed%d.log", seed)), log.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func play(t *testing.T, w *sim.World) {
	ctx, end := context.WithCancel(t.Context())
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
	if err := w.Play(sim.Schedule{Faults: 8, Pause: 4 * time.Second}); err != nil {
		t.Errorf("schedule: %v", err)
	}
	if err := w.AwaitConverged(settle); err != nil {
		t.Error(err)
	}
	w.CheckEnd()
	if tried, acked := w.Counts(); acked < tried/4 || acked == 0 {
		t.Errorf("of %d rows only %d were acknowledged: the schedule tested little", tried, acked)
	}
	for _, v := range w.Violations() {
		t.Error(v)
	}
}

// settle bounds how long a cluster without faults may take to be whole.
const settle = 60 * time.Second

// openRaft gives the real Raft, with its store in a directory for each node.
func openRaft(dirs string) func(sim.RaftOptions) (sim.Raft, error) {
	return func(o sim.RaftOptions) (sim.Raft, error) {
		return raftfsm.Open(context.Background(), raftfsm.Options{
			Self: o.Self, UID: cluster.UID(o.Self), Scope: "sim", Listener: o.Listener, Advertise: o.Members[o.Self],
			DataDir: filepath.Join(dirs, string(o.Self)), Members: o.Members, Heartbeat: o.Heartbeat, Clock: o.Clock, Log: o.Log,
			Wake: o.Wake, OnAnswer: o.OnAnswer, Dial: o.Dial,
		})
	}
}
