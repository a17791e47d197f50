package pgctl

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Which of PostgreSQL's states are good order.
func TestClean(t *testing.T) {
	t.Parallel()
	tests := []struct {
		control ControlData
		want    bool
	}{
		{ControlData{State: "shut down"}, true},
		{ControlData{State: "shut down in recovery", MinRecovery: 0x5000028}, true},
		{ControlData{State: "shut down in recovery"}, false}, // a crash recovery that was stopped half way
		{ControlData{State: "in production"}, false},
		{ControlData{State: "in crash recovery"}, false},
		{ControlData{State: "in archive recovery", MinRecovery: 0x5000028}, false},
	}
	for _, tt := range tests {
		if got := tt.control.Clean(); got != tt.want {
			t.Errorf("%q, minimum recovery %v: clean %t, want %t", tt.control.State, tt.control.MinRecovery, got, tt.want)
		}
	}
}

// U3: a crash recovery that is stopped half way is gone through again, to the end; else pg_rewind would find nothing to
// rewind, and the directory had to be cloned.
func TestCrashRecoverStoppedHalfWay(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	fork := diverge(t, old, young)
	old.sql("CREATE TABLE more AS SELECT generate_series(1, 300000)") // so that the replay takes a while
	must(t, old.Stop(within(t), StopImmediate, time.Minute))

	started := make(chan error, 1)
	go func() { started <- old.Start(within(t), StartSpec{NoTCP: true}) }()
	var run postmaster
	var startup int
	eventually(t, 30*time.Second, "a startup process runs", func() (ok bool) {
		if run, ok = old.postmaster(); !ok {
			return false
		}
		_, pid, err := receivers(run)
		startup = pid
		return err == nil && startup != 0
	})
	must(t, unix.Kill(startup, unix.SIGSTOP))
	eventually(t, 30*time.Second, "the startup process stands still", func() bool { // a write to the disk ends first
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", startup))
		return err == nil && strings.Contains(string(status), "State:\tT")
	})
	must(t, unix.Kill(run.pid, unix.SIGINT)) // a fast stop
	eventually(t, 30*time.Second, "the startup process is told to stop", func() bool {
		pending, err := signalPending(startup, unix.SIGTERM)
		return err == nil && pending
	})
	must(t, unix.Kill(startup, unix.SIGCONT))
	if err := <-started; err == nil {
		t.Fatal("the start succeeded although it was stopped")
	}
	c, err := old.ControlData(within(t))
	must(t, err)
	if c.State == "shut down in recovery" && c.MinRecovery != 0 {
		t.Fatalf("the replay was over before it could be stopped: minimum recovery %v", c.MinRecovery)
	}
	m := old.me
	m.Incarnation = "new"
	if err := old.Rewind(within(t), *young.asSource(2), fork, m, nil); !errors.Is(err, ErrNotShutDown) {
		t.Errorf("rewind after half a recovery: want %v, have %v", ErrNotShutDown, err)
	}
	must(t, old.CrashRecover(within(t)))
	must(t, old.Rewind(within(t), *young.asSource(2), fork, m, nil))
	old.rejoined(young, m)
}
