package pgctl

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// watchBox is a guard with a fake device.
func watchBox(t *testing.T, template, kind string) (b *box, device string) {
	t.Helper()
	b = newBox(t, template, "")
	device = fakeDevice(t, kind)
	b.must(b.g.SetWatchdog(ctxFor(t), requiredDog(device)))
	return b, device
}

// renew moves E often, as an agent does, and gives the last lease.
func (b *box) renew(t cluster.Term, rounds int) cluster.Lease {
	b.t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	var l cluster.Lease
	for range rounds {
		<-tick.C
		l = b.armShort(t)
	}
	return l
}

// renewFed renews a lease until its device has been fed for the newest: no feeding is on its way any more, which would be
// written when a guard that was stopped in the middle of it wakes.
func (b *box) renewFed(t cluster.Term, device string) (l cluster.Lease) {
	b.t.Helper()
	eventually(b.t, 20*time.Second, "fed for the newest lease", func() bool {
		before := cluster.Boottime()
		l = b.renew(t, 1)
		for cluster.Boottime() < l.End.Add(-2*testFence) {
			if _, fed := journalOf(b.t, device); len(fed) > 0 && fed[len(fed)-1] >= before {
				return true
			}
		}
		return false
	})
	return l
}

// awaitJournal waits until a device's journal is this, without the feedings.
func (b *box) awaitJournal(device, want string) []happened {
	b.t.Helper()
	var events []happened
	eventually(b.t, 20*time.Second, "watchdog: "+want, func() bool {
		events, _ = journalOf(b.t, device)
		return whats(events) == want
	})
	return events
}

const disarmed = "stop left=0, magic left=0, closed, at rest"

// The device is opened before the primary, fed at each renewal, never after E - F, and disarmed when no process is left.
func watchdogLife(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	if events, fed := journalOf(t, device); len(events)+len(fed) != 0 {
		t.Errorf("touched before there was a lease: %v, %v", events, fed)
	}
	b.startPrimary(3)
	if w := b.status().Watchdog; !w.Active || w.Timeout != 5*time.Second || w.Mode != cluster.WatchdogRequired || w.Problem != "" {
		t.Errorf("status %+v, want an open device of 5s", w)
	}
	_, before := journalOf(t, device)
	l := b.renew(3, 20)
	_, fed := journalOf(t, device)
	if n := len(fed) - len(before); n < 10 {
		t.Errorf("fed %d times in 20 renewals", n)
	}
	b.checkFenced(l, b.goneAt())
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
	_, fed = journalOf(t, device)
	if late := fed[len(fed)-1].Sub(l.End.Add(-testFence)); late > 0 {
		t.Errorf("fed %v after the fence point", late)
	}
	if w := b.status().Watchdog; w.Active || w.Problem != "" {
		t.Errorf("status %+v, want no open device and no problem", w)
	}
}

// A stop under a live lease leaves it open, since the lease may start the same primary again; the fence that follows disarms it.
func watchdogHandOver(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startPrimary(3)
	b.must(b.g.Stop(ctxFor(t), StopFast, 0))
	_, before := journalOf(t, device)
	b.must(second(b.lease(3, time.Hour, testFence)))
	eventually(t, 20*time.Second, "fed under the lease", func() bool { _, fed := journalOf(t, device); return len(fed) > len(before) })
	b.must(b.g.Start(ctxFor(t), b.startRequest(true, 3)))
	_ = b.connectPostgres().Close(ctxFor(t)) // it was only a question
	if events, _ := journalOf(t, device); !strings.HasPrefix(whats(events), "open, timeout=5") || strings.Contains(whats(events), "stop") {
		t.Errorf("journal %s, want it open all the time", whats(events))
	}
	b.must(b.g.Stop(ctxFor(t), StopFast, 0))
	b.must(b.g.Fence(ctxFor(t), 3))
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
	b.startPrimary(4)
	b.awaitJournal(device, "open, timeout=5, "+disarmed+", open, timeout=5")
	b.must(b.g.Stop(ctxFor(t), StopFast, 0))
	b.must(b.g.Quit(ctxFor(t))) // under a live lease, with nothing left
	b.awaitJournal(device, "open, timeout=5, "+disarmed+", open, timeout=5, "+disarmed)
}

// A standby needs none, also when a lease is armed; its promotion opens it.
func watchdogPromotion(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startStandby()
	b.must(second(b.lease(3, time.Hour, testFence)))
	if events, _ := journalOf(t, device); len(events) != 0 {
		t.Errorf("opened for a standby: %s", whats(events))
	}
	b.must(b.g.Promote(ctxFor(t), 3))
	b.awaitJournal(device, "open, timeout=5")
	b.must(b.g.Fence(ctxFor(t), 3))
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
}

// A guard that is killed disarms nothing: the machine will be reset.
func watchdogKilledGuard(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startPrimary(3)
	b.killGuard()
	b.goneAt()
	events, fed := journalOf(t, device)
	if got := whats(events); got != "open, timeout=5" {
		t.Errorf("journal %s, want no disarming", got)
	}
	b.endAll()
	if again, more := journalOf(t, device); len(again) != len(events) || len(more) != len(fed) {
		t.Errorf("touched after the guard's death: %s, %d feedings", whats(again), len(more)-len(fed))
	}
}

// A guard that stands still beyond E feeds nothing meanwhile, and nothing when it wakes: its first act is the fence.
func watchdogFrozenGuard(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startPrimary(3)
	l := b.renewFed(3, device)
	b.stopProcess(b.guardPID())
	eventually(t, 20*time.Second, "E", func() bool { return cluster.Boottime() > l.End })
	if events, _ := journalOf(t, device); whats(events) != "open, timeout=5" || b.processes() == 0 {
		t.Errorf("journal %s, %d processes of postgres, want an open device and a primary", whats(events), b.processes())
	}
	b.must(unix.Kill(b.guardPID(), unix.SIGCONT))
	b.goneAt()
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
	_, fed := journalOf(t, device)
	if late := fed[len(fed)-1].Sub(l.End.Add(-testFence)); late > 0 {
		t.Errorf("fed %v after the fence point", late)
	}
}

func watchdogRequired(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.must(os.Rename(device, device+"x"))
	b.must(b.g.SetWatchdog(ctxFor(t), requiredDog(device)))
	if why := b.status().Watchdog.Missing(); !strings.Contains(why, "no such file") {
		t.Errorf("missing %q, want the file", why)
	}
	b.must(second(b.lease(3, time.Hour, testFence)))
	b.want(b.g.Start(ctxFor(t), b.startRequest(true, 3)), ErrNoWatchdog)
	b.startStandby()
	b.want(b.g.Promote(ctxFor(t), 3), ErrNoWatchdog)
	if b.status().Postmaster == 0 || b.processes() == 0 {
		t.Error("the standby did not stay")
	}
	b.must(os.Rename(device+"x", device))
	b.must(b.g.Promote(ctxFor(t), 3))
	b.awaitJournal(device, "open, timeout=5")
	if why := b.status().Watchdog.Missing(); why != "" {
		t.Errorf("missing %q with an open device", why)
	}
}

// A device that cannot be stopped and whose timeout nobody would wait for is held and fed, and yet is none that lets a primary be
// made.
func watchdogUnfit(t *testing.T, template string) {
	b, device := watchBox(t, template, "nowayout-fixed60")
	b.must(second(b.lease(3, time.Hour, testFence)))
	for range 3 {
		b.want(b.g.Start(ctxFor(t), b.startRequest(true, 3)), ErrNoWatchdog)
		_, before := journalOf(t, device)
		b.must(second(b.lease(3, time.Hour, testFence)))
		eventually(t, 20*time.Second, "fed under the lease", func() bool { _, fed := journalOf(t, device); return len(fed) > len(before) })
		if w := b.status().Watchdog; !w.Active || !w.Endless || !strings.Contains(w.Missing(), "gives a timeout of 1m0s") {
			t.Errorf("status %+v, want an open device that does not fit", w)
		}
	}
}

// A device that is well, but slower than takers will wait for, is none: no primary is made, and it is let go.
func watchdogTooLong(t *testing.T, template string) {
	b, device := watchBox(t, template, "fixed60")
	b.must(second(b.lease(3, time.Hour, testFence)))
	b.want(b.g.Start(ctxFor(t), b.startRequest(true, 3)), ErrNoWatchdog)
	b.awaitJournal(device, "open, "+disarmed)
	b.startStandby()
	b.want(b.g.Promote(ctxFor(t), 3), ErrNoWatchdog)
	if events, _ := journalOf(t, device); strings.Count(whats(events), "open") != 2 || strings.Count(whats(events), "closed, at rest") != 2 {
		t.Errorf("journal %s, want it opened and let go twice", whats(events))
	}
	if w := b.status().Watchdog; w.Active || !strings.Contains(w.Missing(), "gives a timeout of 1m0s") {
		t.Errorf("status %+v, want no open device, and why", w)
	}
}

func watchdogAutomatic(t *testing.T, template string) {
	b := newBox(t, template, "")
	device := b.home + "/nothing"
	s := requiredDog(device)
	s.Mode = cluster.WatchdogAutomatic
	b.must(b.g.SetWatchdog(ctxFor(t), s))
	b.startPrimary(3)
	if w := b.status().Watchdog; w.Active || w.Mode != cluster.WatchdogAutomatic || !strings.Contains(w.Problem, "no such file") || w.Missing() != "" {
		t.Errorf("status %+v, want the problem, and nothing missing", w)
	}
}

// fenceFrozen lets the lease of a frozen postmaster end, which is killed half of F after the fence point: time for several looks
// at the watchdog, in which it must be neither fed nor disarmed.
func (b *box) fenceFrozen(term cluster.Term, device string) {
	b.t.Helper()
	const f = 5 * time.Second
	b.stopProcess(b.status().Postmaster)
	l, err := b.lease(term, f+time.Second, f)
	b.must(err)
	point := l.End.Add(-f)
	b.goneAt()
	events, fed := journalOf(b.t, device)
	for _, at := range fed {
		if at > point && at < point.Add(f/2) {
			b.t.Errorf("fed %v after the fence point, with a primary that is not reaped", at.Sub(point))
		}
	}
	for _, e := range events {
		if e.at > point && e.at < point.Add(f/2) {
			b.t.Errorf("%s %v after the fence point, with a primary that is not reaped", e.what, e.at.Sub(point))
		}
	}
	eventually(b.t, 20*time.Second, "fence finished", func() bool { s := b.status(); return s.Postmaster == 0 && s.NoPrimary == term })
}

// A Postgres that does not end keeps it open, and hungry, until it is reaped.
func watchdogFrozenPostmaster(t *testing.T, template string) {
	b, device := watchBox(t, template, "plain")
	b.startPrimary(3)
	b.fenceFrozen(3, device)
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
}

// A device that cannot be stopped is fed on when no primary can be here, and again only with the lease when one can.
func watchdogEndless(t *testing.T, template string) {
	b, device := watchBox(t, template, "nowayout")
	b.startPrimary(3)
	b.must(b.g.Fence(ctxFor(t), 3))
	eventually(t, 20*time.Second, "found endless", func() bool { return b.status().Watchdog.Endless })
	_, before := journalOf(t, device)
	eventually(t, 20*time.Second, "fed without a lease", func() bool { _, fed := journalOf(t, device); return len(fed) >= len(before)+2 })
	b.startPrimary(4)
	b.fenceFrozen(4, device)
	b.must(b.g.Quit(ctxFor(t)))
	b.awaitJournal(device, "open, timeout=5, timeout=5")
}

// Settings that come to a primary that runs already open the device for it.
func watchdogLater(t *testing.T, template string) {
	b := newBox(t, template, "")
	device := fakeDevice(t, "plain")
	b.startPrimary(3)
	b.must(b.g.SetWatchdog(ctxFor(t), requiredDog(device)))
	b.awaitJournal(device, "open, timeout=5")
	off := requiredDog(device)
	off.Mode = cluster.WatchdogOff
	b.must(b.g.SetWatchdog(ctxFor(t), off))
	l := b.renew(3, 5)
	b.goneAt()
	b.awaitJournal(device, "open, timeout=5, "+disarmed)
	if _, fed := journalOf(t, device); fed[len(fed)-1] > l.End.Add(-testFence) {
		t.Error("fed after the fence point")
	}
	b.want(b.g.SetWatchdog(ctxFor(t), WatchdogSettings{Mode: cluster.WatchdogRequired, Device: device, Timeout: 1500 * time.Millisecond}), errBadRequest)
}

// The rule itself, by its cases.
func TestWatchdogRule(t *testing.T) {
	t.Parallel()
	const now = cluster.Instant(time.Hour)
	lease := func(end time.Duration) func(*guardServer) {
		return func(g *guardServer) { g.lease, g.budget = cluster.Lease{Term: 3, End: now.Add(end)}, testFence }
	}
	endless := func(g *guardServer) { g.dog.endless = true }
	primary := func(g *guardServer) { g.pm, g.childless = &ward{pid: 1, primary: true}, false }
	standby := func(g *guardServer) { g.pm, g.childless = &ward{pid: 1}, false }
	fencing := func(g *guardServer) { g.fencing = &fencing{} }
	all := func(edits ...func(*guardServer)) []func(*guardServer) { return edits }
	for _, c := range []struct {
		name string
		is   []func(*guardServer)
		feed bool // may it be fed
		over bool // may it be disarmed
	}{
		{"a primary under a live lease", all(primary, lease(time.Second)), true, false},
		{"a moment before the fence point", all(primary, lease(testFence+1)), true, false},
		{"at the fence point", all(primary, lease(testFence)), false, false},
		{"after E, the fencing thread has not turned", all(primary, endless, lease(-time.Second)), false, false},
		{"being fenced", all(primary, endless, fencing), false, false},
		{"a standby under a lease that is fenced", all(standby, endless, fencing), false, false},
		{"a primary and no lease", all(primary, endless), false, false},
		{"nothing but a lease", all(lease(time.Second)), true, false},
		{"nothing at all", all(), false, true},
		{"nothing at all, endless", all(endless), true, true},
		{"all is reaped, the marks are being written", all(endless, fencing, func(g *guardServer) { g.childless = true }), true, true},
		{"a fork under way", all(endless, fencing, func(g *guardServer) { g.spawns = 1 }), false, false},
		{"a standby", all(standby), false, true},
	} {
		g := &guardServer{childless: true}
		for _, edit := range c.is {
			edit(g)
		}
		if feed, over := g.mayFeed(now), g.nothingToGuard(); feed != c.feed || over != c.over {
			t.Errorf("%s: feed %t, disarm %t, want %t, %t", c.name, feed, over, c.feed, c.over)
		}
	}
}
