package pgctl

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"pgquorum/cluster"
)

// WatchdogSettings are what a node's file says of its watchdog.
type WatchdogSettings struct {
	Mode    cluster.WatchdogMode `json:"mode"`
	Device  string               `json:"device,omitempty"`
	Timeout time.Duration        `json:"timeout,omitempty"` // asked of the driver, whole seconds; in mode required it may give no more
	Least   time.Duration        `json:"least,omitempty"`   // a shorter one would fire between two renewals of a lease that is well
}

const (
	watchdogLook  = time.Second      // between two looks at a device that is not open, and two feedings of one without a lease
	watchdogRetry = 30 * time.Second // a device that could not be opened counts as unusable for so long
)

// guardDog is the guard's hold of its watchdog (docs/adr/0028-watchdog.md): the last resort for a guard that is not scheduled
// between E - F and E. The rule is one: it is fed only before the fence point of a live lease, or while nothing that could
// be a primary is here.
type guardDog struct {
	driver watchdogDriver
	turn   chan struct{} // of one: the fencing thread has turned under a live lease

	io sync.Mutex // held across the driver's calls; never asked for with guardServer.mu held, nor by the fencing thread

	// Under guardServer.mu.
	asked    WatchdogSettings
	held     *watchdog // open; nil: none is
	endless  bool      // held cannot be stopped any more
	problem  string    // why there is none, or why the one that is held does not fit
	unfed    string    // why the last feeding failed
	failedAt cluster.Instant
}

func newGuardDog(driver watchdogDriver) guardDog {
	if driver == nil {
		driver = kernelWatchdog{}
	}
	return guardDog{driver: driver, turn: make(chan struct{}, 1), asked: WatchdogSettings{Mode: cluster.WatchdogOff}}
}

// setWatchdog takes the settings over. A primary that runs already gets its watchdog at once; one that is held stays as it
// is until it is disarmed, whatever they say.
func (g *guardServer) setWatchdog(s *WatchdogSettings) error {
	switch {
	case s == nil || s.Mode == "":
		return fmt.Errorf("%w: watchdog without settings", errBadRequest)
	case s.Mode != cluster.WatchdogOff && (s.Device == "" || s.Timeout < time.Second || s.Timeout%time.Second != 0):
		return fmt.Errorf("%w: watchdog %q with a timeout of %v, want whole seconds", errBadRequest, s.Device, s.Timeout)
	}
	g.mu.Lock()
	if g.dog.asked != *s {
		g.dog.asked = *s
		if g.dog.held == nil {
			g.dog.problem, g.dog.failedAt = "", 0
		}
	}
	term, runs := g.lease.Term, g.pm != nil && (g.pm.primary || g.pm.promoted) && g.dog.held == nil
	g.mu.Unlock()
	g.lookAtWatchdog()
	if runs && term != 0 {
		g.armWatchdog(term)
	}
	return nil
}

// armWatchdog opens the watchdog for a primary of t; whether a primary may be made without, watched says afterwards. Opening
// feeds it, perhaps after a fence point that came meanwhile: no primary exists yet, and none is made after it.
func (g *guardServer) armWatchdog(t cluster.Term) {
	g.dog.io.Lock()
	defer g.dog.io.Unlock()
	g.mu.Lock()
	s, held, err := g.dog.asked, g.dog.held, g.holds(t)
	fits := held != nil && !g.dog.endless && g.dog.problem == ""
	g.mu.Unlock()
	switch {
	case err != nil || s.Mode == cluster.WatchdogOff:
		return // what is wrong with the lease, the checks that follow say (U2)
	case fits:
		return // takers rely on the timeout that it has; the settings' is for the next one
	}
	w := held
	if w == nil {
		w, err = openWatchdog(g.dog.driver, s.Device)
	}
	timeout := time.Duration(0)
	if err == nil {
		timeout, err = w.fit(s)
	}
	endless := false
	if err != nil && w != nil && held == nil {
		stopped := w.disarm()
		err, endless = errors.Join(err, stopped), errors.Is(stopped, errEndless)
	}
	g.mu.Lock()
	g.dog.problem, g.dog.failedAt = "", 0
	if err != nil {
		g.dog.problem, g.dog.failedAt = err.Error(), cluster.Boottime()
	}
	if held == nil && (err == nil || endless) {
		g.dog.held, g.dog.endless = w, endless
	}
	if timeout != 0 {
		w.timeout = timeout
	}
	g.notify() // the lease may have ended meanwhile: then it is disarmed again
	g.mu.Unlock()
	if err != nil {
		g.log.Warn("no watchdog", "mode", s.Mode, "error", err)
		return
	}
	g.log.Info("watchdog open", "device", s.Device, "timeout", timeout)
}

// fit asks the driver for the timeout that the settings want, and gives what it has, also when that does not do. In mode
// required takers rely on no longer one.
func (w *watchdog) fit(s WatchdogSettings) (time.Duration, error) {
	timeout, err := w.setTimeout(s.Timeout)
	switch {
	case err != nil:
		return 0, err
	case timeout < s.Least:
		err = fmt.Errorf("%s: its driver gives a timeout of %v, want %v at least", w.path, timeout, s.Least)
	case timeout > s.Timeout && s.Mode == cluster.WatchdogRequired:
		err = fmt.Errorf("%s: its driver gives a timeout of %v, and watchdog.timeout is %v: raise that, or choose another device", w.path, timeout, s.Timeout)
	}
	return timeout, err
}

// watched says whether a primary may be made as far as the watchdog goes. Called with mu held.
func (g *guardServer) watched() error {
	if g.dog.asked.Mode == cluster.WatchdogRequired && (g.dog.held == nil || g.dog.problem != "") {
		return fmt.Errorf("%w: %s", ErrNoWatchdog, cmp.Or(g.dog.problem, g.dog.asked.Device+" is not open"))
	}
	return nil
}

// ringAt is when the fencing thread should turn next, for a lease that was just taken with this fence point: at once if there
// is a watchdog, so that it is fed for the lease only when that thread is scheduled. Called with mu held.
func (g *guardServer) ringAt(fencePoint cluster.Instant) cluster.Instant {
	if g.dog.held != nil {
		return cluster.Boottime()
	}
	return fencePoint
}

// allowFeed is the fencing thread's word that it has turned under a live lease. It does not feed by itself: a driver may take
// seconds, and a fence must not wait for it. Called with mu held.
func (g *guardServer) allowFeed() {
	if err := g.timer.set(g.frozen.ringAt(g.lease.End.Add(-g.budget))); err != nil { // setLease may have rung for the feeding
		panic(err) // see beginFence
	}
	if g.dog.held == nil {
		return
	}
	select {
	case g.dog.turn <- struct{}{}:
	default:
	}
}

// unfedFor is how long something may stay frozen (U6), of the time that is asked for: what is frozen has no lease, so its
// watchdog is not fed, and it must be ended before the machine is reset. Called with mu held.
func (g *guardServer) unfedFor(grace time.Duration) time.Duration {
	if w := g.dog.held; w != nil {
		return max(0, min(grace, w.timeout-g.dog.asked.Least))
	}
	return grace
}

// mayFeed is the rule. Called with mu held.
func (g *guardServer) mayFeed(now cluster.Instant) bool {
	if g.lease.Term != 0 {
		return g.lease.Live(cluster.LeaseParams{Fence: g.budget}, now)
	}
	return g.dog.endless && g.nothingToGuard()
}

// nothingToGuard says whether nothing is, or could become, a primary here: all is reaped, or what runs is a standby that was
// never promoted, and no lease is held. The marks of a fence may still be on their way to a disk that hangs. Called with
// mu held.
func (g *guardServer) nothingToGuard() bool {
	return g.lease.Term == 0 && (g.nothingLeft() || g.fencing == nil && !g.mayBePrimary())
}

// keepWatchdog feeds the watchdog when the fencing thread has allowed it, and disarms it when there is nothing to guard any
// more. It never ends.
func (g *guardServer) keepWatchdog() {
	tick := time.NewTicker(watchdogLook)
	defer tick.Stop()
	for {
		g.mu.Lock()
		changed, due := g.changed, g.dog.held != nil && !g.dog.endless && g.nothingToGuard()
		g.mu.Unlock()
		if due {
			g.disarmWatchdog(g.nothingToGuard)
		}
		select {
		case <-g.dog.turn:
			g.feedWatchdog()
		case <-changed:
		case <-tick.C:
			g.lookAtWatchdog()
			g.mu.Lock()
			idle := g.dog.endless && g.lease.Term == 0
			g.mu.Unlock()
			if idle {
				g.feedWatchdog()
			}
		}
	}
}

// feedWatchdog asks the rule at the last moment. What happens between its answer and the driver is the driver's time and the
// scheduler's, for which takers wait watchdog.safety_margin.
func (g *guardServer) feedWatchdog() {
	g.dog.io.Lock()
	defer g.dog.io.Unlock()
	g.mu.Lock()
	w, may := g.dog.held, g.mayFeed(cluster.Boottime())
	g.mu.Unlock()
	if w == nil || !may {
		return
	}
	err := w.feed()
	g.mu.Lock()
	before := g.dog.unfed
	g.dog.unfed = ""
	if err != nil {
		g.dog.unfed = err.Error()
	}
	g.mu.Unlock()
	if err != nil && before == "" {
		g.log.Error("watchdog not fed", "error", err)
	}
}

// disarmWatchdog disarms it if done, called with mu held, still says that it may be.
func (g *guardServer) disarmWatchdog(done func() bool) {
	g.dog.io.Lock()
	defer g.dog.io.Unlock()
	g.mu.Lock()
	w := g.dog.held
	if w == nil || !done() {
		g.mu.Unlock()
		return
	}
	g.dog.held, g.dog.endless, g.dog.problem, g.dog.unfed = nil, false, "", "" // nothing takes a device that is being disarmed for a held one
	g.mu.Unlock()
	err := w.disarm()
	if errors.Is(err, errEndless) {
		g.mu.Lock()
		g.dog.held, g.dog.endless = w, true
		g.mu.Unlock()
		go g.log.Warn("watchdog cannot be disarmed; it is fed as long as no primary can be here", "error", err) // feeding does not wait for the log's disk
		return
	}
	g.log.Info("watchdog disarmed", "device", w.path, "error", err)
}

// leaveWatchdog is the guard's end: the watchdog is disarmed if nothing of Postgres is left, else the machine is reset.
func (g *guardServer) leaveWatchdog() {
	g.disarmWatchdog(g.nothingLeft)
	g.mu.Lock()
	path, within := "", time.Duration(0)
	if w := g.dog.held; w != nil {
		path, within = w.path, w.timeout
	}
	g.mu.Unlock()
	if path != "" {
		g.log.Error("guard ends under a running watchdog: it resets this machine", "device", path, "within", within)
	}
}

// lookAtWatchdog finds out whether a device that is not open could be opened. What its opening said lately counts for more.
func (g *guardServer) lookAtWatchdog() {
	g.mu.Lock()
	s, known := g.dog.asked, g.dog.held != nil || g.dog.failedAt != 0 && cluster.Boottime().Sub(g.dog.failedAt) < watchdogRetry
	g.mu.Unlock()
	if known || s.Mode == cluster.WatchdogOff {
		return
	}
	problem := ""
	if err := g.dog.driver.usable(s.Device); err != nil {
		problem = fmt.Sprintf("%s: %v", s.Device, err)
	}
	g.mu.Lock()
	mine := g.dog.held == nil && g.dog.asked == s
	news := mine && problem != "" && problem != g.dog.problem
	if mine {
		g.dog.problem, g.dog.failedAt = problem, 0
	}
	g.mu.Unlock()
	if news { // with nothing held: the log's disk may hang
		g.log.Warn("no watchdog", "mode", s.Mode, "reason", problem)
	}
}

// watchdogStatus is what status says. Called with mu held.
func (g *guardServer) watchdogStatus() cluster.WatchdogStatus {
	s := cluster.WatchdogStatus{Mode: g.dog.asked.Mode, Problem: cmp.Or(g.dog.problem, g.dog.unfed)}
	if w := g.dog.held; w != nil {
		s.Active, s.Timeout, s.Endless = true, w.timeout, g.dog.endless
	}
	return s
}
