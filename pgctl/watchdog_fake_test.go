package pgctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// fakeDriver is the kernel's side of a watchdog, without a machine to reset: it keeps the state that watchdog_dev.c keeps, and
// writes down what happened beside the device, which is an ordinary file. The file's name says what kind of device it is:
// nowayout, a fixed timeout such as fixed60, or both, nowayout-fixed60. A write to it ends when nobody holds a lock on that
// file. dataDir is whose processes are counted when it is stopped.
type fakeDriver struct{ dataDir string }

func (fakeDriver) usable(path string) error {
	_, err := os.Stat(path)
	return err
}

func (d fakeDriver) open(path string) (watchdogFile, error) {
	if err := d.usable(path); err != nil {
		return nil, err
	}
	journal, err := os.OpenFile(path+".journal", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(journal.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // one process at a time, as the kernel
		return nil, fmt.Errorf("busy: %w", unix.EBUSY)
	}
	k := &fakeWatchdog{driver: d, path: path, kind: filepath.Base(path), journal: journal, seconds: 60, running: true}
	if _, err := fmt.Sscanf(strings.TrimPrefix(k.kind, "nowayout-"), "fixed%d", &k.seconds); err == nil {
		k.fixed = true
	}
	return k, k.note("open")
}

// fakeWatchdog is one opening of it.
type fakeWatchdog struct {
	driver  fakeDriver
	path    string
	kind    string
	journal *os.File
	seconds int32
	fixed   bool
	running bool // the countdown
	release bool // the last write was the magic one
}

func (k *fakeWatchdog) note(what string) error {
	_, err := fmt.Fprintf(k.journal, "%d %s\n", cluster.Boottime(), what)
	return err
}

func (k *fakeWatchdog) nowayout() bool { return strings.HasPrefix(k.kind, "nowayout") }

func (k *fakeWatchdog) Write(b []byte) (int, error) {
	k.release = strings.Contains(string(b), "V")
	what := "feed"
	if k.release {
		what = fmt.Sprintf("magic left=%d", k.left())
	}
	if err := k.note(what); err != nil {
		return 0, err
	}
	device, err := os.Open(k.path)
	if err != nil {
		return 0, err
	}
	defer device.Close()
	return len(b), unix.Flock(int(device.Fd()), unix.LOCK_SH)
}

// holdDriver makes every write to a device last until letGo is called.
func holdDriver(t testing.TB, path string) (letGo func()) {
	t.Helper()
	device, err := os.Open(path)
	if err == nil {
		err = unix.Flock(int(device.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	letGo = sync.OnceFunc(func() { _ = device.Close() }) // the lock goes with it
	t.Cleanup(letGo)
	return letGo
}

func (k *fakeWatchdog) Ioctl(request uint, value *int32) error {
	switch request {
	case unix.WDIOC_SETTIMEOUT:
		if k.fixed {
			return unix.EOPNOTSUPP
		}
		k.seconds = *value
		return k.note(fmt.Sprintf("timeout=%d", *value))
	case unix.WDIOC_GETTIMEOUT:
		*value = k.seconds
		return nil
	case unix.WDIOC_SETOPTIONS:
		if *value != unix.WDIOS_DISABLECARD {
			return unix.EINVAL
		}
		if k.nowayout() {
			return unix.EBUSY
		}
		k.running = false
		return k.note(fmt.Sprintf("stop left=%d", k.left()))
	}
	return unix.ENOTTY
}

func (k *fakeWatchdog) Close() error {
	what := "closed, at rest"
	if k.running && (!k.release || k.nowayout()) {
		what = "closed, and runs on"
	}
	if err := k.note(what); err != nil {
		return err
	}
	return k.journal.Close()
}

// left counts the living processes of PGDATA.
func (k *fakeWatchdog) left() int {
	s, err := newSweeper()
	if err != nil {
		return -1
	}
	defer s.close()
	dir, err := realPath(k.driver.dataDir)
	if err != nil {
		return -1
	}
	n, err := s.sweep(target{dataDir: dir}, 0)
	if err != nil {
		return -1
	}
	return n
}

// happened is one line of a fake's journal.
type happened struct {
	at   cluster.Instant
	what string
}

// journalOf reads what has happened to a fake so far, without the feedings; those apart.
func journalOf(t testing.TB, path string) (events []happened, fed []cluster.Instant) {
	t.Helper()
	text, err := os.ReadFile(path + ".journal")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var h happened
		number, what, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := fmt.Sscan(number, &h.at); !ok || err != nil {
			continue // being written
		}
		if h.what = what; what == "feed" {
			fed = append(fed, h.at)
		} else {
			events = append(events, h)
		}
	}
	return events, fed
}

func whats(events []happened) string {
	var all []string
	for _, e := range events {
		all = append(all, e.what)
	}
	return strings.Join(all, ", ")
}

// fakeDevice makes a device of this kind in a directory that Postgres's user may write to.
func fakeDevice(t testing.TB, kind string) string {
	t.Helper()
	path := filepath.Join(publicDir(t), kind)
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func requiredDog(path string) WatchdogSettings {
	return WatchdogSettings{Mode: cluster.WatchdogRequired, Device: path, Timeout: 5 * time.Second, Least: time.Second}
}
