package sim

import (
	"time"

	"pgquorum/cluster"
)

// watchdog is the model of a host's watchdog device (docs/protocol.md section 11), for worlds with Options.Watchdog: it goes on
// while processes are frozen, and outlives the guard. Guarded by the host's mu.
type watchdog struct {
	open bool
	fed  cluster.Instant // last, by the host's clock
}

// restartTakes is how long a machine is away that its watchdog has reset.
const restartTakes = 2 * time.Second

// feedLocked starts the countdown anew. Called with h.mu.
func (h *Host) feedLocked(now cluster.Instant) {
	if h.watchdog.open {
		h.watchdog.fed = now
	}
}

// openWatchdogLocked is what the guard does before it makes a primary. Called with h.mu.
func (h *Host) openWatchdogLocked(now cluster.Instant) {
	if h.world.opt.Watchdog > 0 {
		h.watchdog = watchdog{open: true, fed: now}
	}
}

// unfedFor is how long something may stay frozen, of the time that is asked for: its watchdog is not fed meanwhile. Called
// with h.mu.
func (h *Host) unfedFor(grace, ttl time.Duration) time.Duration {
	if h.watchdog.open {
		return max(0, min(grace, h.world.opt.Watchdog-ttl-time.Second))
	}
	return grace
}

// watchWatchdog resets the host when the device was not fed in time, until the world ends.
func (h *Host) watchWatchdog() {
	for !h.world.ends() {
		h.mu.Lock()
		dog, changed := h.watchdog, h.changed
		h.mu.Unlock()
		wait := time.Hour
		if dog.open {
			wait = max(0, h.untilInstant(dog.fed.Add(h.world.opt.Watchdog)))
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
			h.resetIfDue()
		}
		timer.Stop()
	}
}

// resetIfDue is the reset: the power goes for a moment.
func (h *Host) resetIfDue() {
	now := h.now()
	h.mu.Lock()
	due := h.watchdog.open && !h.off && now.Sub(h.watchdog.fed) >= h.world.opt.Watchdog
	h.mu.Unlock()
	if !due || h.world.ends() {
		return
	}
	h.world.Did("%s: its watchdog resets it", h.Name)
	h.Crash()
	<-time.After(restartTakes)
	if h.world.ends() || !h.isOff() { // somebody else has switched it on
		return
	}
	if err := h.Boot(); err != nil {
		h.world.violated("%s: did not start after its watchdog had reset it: %v", h.Name, err)
	}
}

// ends says whether the world is being closed.
func (w *World) ends() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing
}

// lookForTwo checks P1 where every node's watchdog is required: there are never two that take writes, not even two of which one
// could not have its commits confirmed.
func (w *World) lookForTwo() {
	if w.opt.Watchdog == 0 {
		return
	}
	var primaries []cluster.NodeID
	for _, h := range w.Hosts {
		h.mu.Lock()
		if h.server != nil && h.server.lawfulLocked() && !h.halted { // a frozen one takes none, and only a guard goes on with it (U6)
			primaries = append(primaries, h.Name)
		}
		h.mu.Unlock()
	}
	before := w.two
	if w.two = len(primaries) > 1; w.two && !before {
		w.violated("section 11: %v take writes at once", primaries)
	}
}

// FreezeGuardOfPrimary stops agent and guard of the host that takes writes, until it is started anew, and names it.
func (w *World) FreezeGuardOfPrimary() string {
	h := w.primaryHost()
	if h == nil {
		return ""
	}
	h.Freeze(true, serviceAgent, serviceGuard)
	return string(h.Name)
}
