package pgctl

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// A fencing thread that is not scheduled fences nobody: then the watchdog has to bark, so nothing else of the guard may feed it.
// Here that thread stands still, and its last word that the watchdog may be fed waits for a slow driver until the lease is over.
func watchdogUnscheduled(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startPrimary(3)
	letDrive := holdDriver(t, device)
	_, before := journalOf(t, device)
	b.turn(3)
	eventually(t, 20*time.Second, "the driver is at work", func() bool { _, fed := journalOf(t, device); return len(fed) > len(before) })
	b.turn(3) // this one waits
	letTurn := b.stopThread(b.fencingThread())
	l := b.armShort(3)
	passed(t, l.End)
	if b.processes() == 0 {
		t.Fatal("postgres has ended, with nobody there to fence it")
	}
	letDrive()
	passed(t, cluster.Boottime().Add(testFence)) // what is wrong is fed at once
	letTurn()
	b.goneAt()
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
	_, fed := journalOf(t, device)
	if late := fed[len(fed)-1].Sub(l.End.Add(-testFence)); late > 0 {
		t.Errorf("fed %v after the fence point", late)
	}
}

// turn renews the lease for an hour and waits until the fencing thread has turned for it.
func (b *box) turn(term cluster.Term) {
	b.t.Helper()
	b.must(second(b.lease(term, time.Hour, testFence)))
	info := fmt.Sprintf("/proc/%d/fdinfo/%d", b.guardPID(), b.timerFile())
	eventually(b.t, 20*time.Second, "the fencing thread has set its timer", func() bool {
		text, err := os.ReadFile(info)
		return err == nil && !strings.Contains(string(text), "it_value: (0, 0)")
	})
	b.status() // it has let go of the state by now
}

// timerFile is the descriptor of the guard's timer.
func (b *box) timerFile() int {
	b.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.guardPID()))
	b.must(err)
	for _, name := range files {
		if to, err := os.Readlink(name); err == nil && to == "anon_inode:[timerfd]" {
			fd, err := strconv.Atoi(filepath.Base(name))
			b.must(err)
			return fd
		}
	}
	b.t.Fatal("the guard has no timer")
	return 0
}

// fencingThread is the one that reads the timer.
func (b *box) fencingThread() (tid int) {
	b.t.Helper()
	reads := fmt.Sprintf("%d 0x%x ", unix.SYS_READ, b.timerFile())
	eventually(b.t, 20*time.Second, "a thread waits for the timer", func() bool {
		calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", b.guardPID()))
		b.must(err)
		for _, name := range calls {
			if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), reads) {
				tid, err = strconv.Atoi(filepath.Base(filepath.Dir(name)))
				b.must(err)
			}
		}
		return tid != 0
	})
	return tid
}

// stopThread makes one thread stand still, as a debugger does, until letGo is called.
func (b *box) stopThread(tid int) (letGo func()) {
	b.t.Helper()
	held, over := make(chan error, 1), make(chan struct{})
	var tracer sync.WaitGroup
	tracer.Go(func() {
		runtime.LockOSThread() // ptrace(2) belongs to a thread
		defer runtime.UnlockOSThread()
		err := unix.PtraceAttach(tid)
		if err == nil {
			_, err = unix.Wait4(tid, nil, unix.WALL, nil)
		}
		held <- err
		if err != nil {
			return
		}
		<-over
		_ = unix.PtraceDetach(tid) // it may have been killed
	})
	letGo = sync.OnceFunc(func() {
		close(over)
		tracer.Wait()
	})
	b.t.Cleanup(letGo)
	b.must(<-held)
	return letGo
}
