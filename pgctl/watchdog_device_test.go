package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// The calls that a driver sees, in order, and what it makes of the timeout.
func TestWatchdogDevice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind    string
		mode    cluster.WatchdogMode
		timeout time.Duration // that the device then has
		unfit   string        // why not; empty: it fits
		endless bool
		journal string
	}{
		{"plain", cluster.WatchdogRequired, 5 * time.Second, "", false, "open, timeout=5, stop left=0, magic left=0, closed, at rest"},
		{"fixed4", cluster.WatchdogRequired, 4 * time.Second, "", false, "open, stop left=0, magic left=0, closed, at rest"},
		{"fixed60", cluster.WatchdogRequired, time.Minute, "gives a timeout of 1m0s, and watchdog.timeout is 5s", false, "open, stop left=0, magic left=0, closed, at rest"},
		{"fixed60", cluster.WatchdogAutomatic, time.Minute, "", false, "open, stop left=0, magic left=0, closed, at rest"},
		{"fixed1", cluster.WatchdogAutomatic, time.Second, "gives a timeout of 1s, want 2s at least", false, "open, stop left=0, magic left=0, closed, at rest"},
		{"nowayout", cluster.WatchdogRequired, 5 * time.Second, "", true, "open, timeout=5"},
	} {
		t.Run(c.kind+" "+string(c.mode), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, c.kind)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			driver := fakeDriver{dataDir: dir}
			w, err := openWatchdog(driver, path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openWatchdog(driver, path); !errors.Is(err, unix.EBUSY) {
				t.Errorf("opened twice: %v, want EBUSY", err)
			}
			timeout, err := w.fit(WatchdogSettings{Mode: c.mode, Device: path, Timeout: 5 * time.Second, Least: 2 * time.Second})
			if (err == nil) != (c.unfit == "") || err != nil && !strings.Contains(err.Error(), c.unfit) || timeout != c.timeout {
				t.Errorf("fit: %v with a timeout of %v, want %q, %v", err, timeout, c.unfit, c.timeout)
			}
			if err := w.feed(); err != nil {
				t.Error(err)
			}
			if err := w.disarm(); errors.Is(err, errEndless) != c.endless || err != nil && !c.endless {
				t.Errorf("disarm: %v, endless %t", err, c.endless)
			}
			events, fed := journalOf(t, path)
			if got := whats(events); got != c.journal || len(fed) != 1 {
				t.Errorf("the driver saw %s and %d feedings, want %s and 1", got, len(fed), c.journal)
			}
		})
	}
}

// What is no watchdog of the kernel is never taken for one.
func TestKernelWatchdogRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		file: "no character device", fifo: "no character device", filepath.Join(dir, "nothing"): "no such file",
		os.DevNull: "no watchdog, or its timeout cannot be read",
	} {
		w, err := openWatchdog(kernelWatchdog{}, path)
		if err == nil {
			_, unfit := w.fit(requiredDog(path))
			err = errors.Join(unfit, w.file.Close())
		}
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, why)
		}
	}
}

// A guard of before the watchdog answers bad_request: then there is none, whatever its status leaves out.
func TestWatchdogOfAnOlderGuard(t *testing.T) {
	t.Parallel()
	old := answerError(opWatchdog, guardAnswer{Code: "bad_request", Error: `bad request: operation "watchdog"`})
	for _, c := range []struct {
		asked   askedWatchdog
		said    cluster.WatchdogStatus
		missing string
	}{
		{askedWatchdog{cluster.WatchdogRequired, old}, cluster.WatchdogStatus{}, `did not take its settings: guard watchdog: bad request: operation "watchdog"`},
		{askedWatchdog{cluster.WatchdogRequired, nil}, cluster.WatchdogStatus{}, "did not take its settings"},
		{askedWatchdog{cluster.WatchdogRequired, nil}, cluster.WatchdogStatus{Mode: cluster.WatchdogRequired}, ""},
		{askedWatchdog{cluster.WatchdogAutomatic, old}, cluster.WatchdogStatus{}, ""},
		{askedWatchdog{cluster.WatchdogOff, old}, cluster.WatchdogStatus{}, ""},
	} {
		g := &Guard{watchdog: c.asked}
		got := g.watchdogOf(c.said).Missing()
		if (got == "") != (c.missing == "") || !strings.Contains(got, c.missing) {
			t.Errorf("asked %+v, said %+v: missing %q, want %q", c.asked, c.said, got, c.missing)
		}
	}
}
