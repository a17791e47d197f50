package sim

import (
	"context"
	"time"

	"pgquorum/cluster"
)

// Schedule is what a seed draws: faults one after another, some inside the one before.
type Schedule struct {
	Faults int           // how many
	Pause  time.Duration // between their beginnings, on average
}

// fault is one kind: it begins, and ends after a while.
type fault struct {
	name   string
	weight int
	begin  func(w *World, h *Host) (end func() error)
}

func (w *World) pick() *Host {
	if h := w.primaryHost(); h != nil && w.intN(2) == 0 {
		return h
	}
	return w.Hosts[w.intN(len(w.Hosts))]
}

func (w *World) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

// exp is a time with this mean.
func (w *World) exp(mean time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rand.ExpFloat64() * float64(mean))
}

// primaryHost is whose PostgreSQL takes writes; nil: nobody's.
func (w *World) primaryHost() *Host {
	for _, h := range w.Hosts {
		h.mu.Lock()
		primary := h.server != nil && h.server.primaryLocked()
		h.mu.Unlock()
		if primary {
			return h
		}
	}
	return nil
}

// spend gives the world's one loss for ever: k = 1 bears no second one.
func (w *World) spend() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	spent := w.lost
	w.lost = true
	return !spent
}

func nothing() error { return nil }

// freezing stops processes.
func freezing(services ...service) func(*World, *Host) func() error {
	return func(_ *World, h *Host) func() error {
		h.Freeze(true, services...)
		return func() error { h.Freeze(false, services...); return nil }
	}
}

// cutting isolates a host.
func cutting(in, out bool) func(*World, *Host) func() error {
	return func(w *World, h *Host) func() error {
		w.Isolate(h, in, out)
		return func() error { w.Isolate(h, false, false); return nil }
	}
}

// faults are all kinds that are drawn.
func faults() []fault {
	return []fault{
		{"its power goes", 4, func(_ *World, h *Host) func() error {
			if h.isOff() {
				return nothing
			}
			h.Crash()
			return h.Boot
		}},
		{"its power goes, and its data directory is lost", 1, func(w *World, h *Host) func() error {
			if h.isOff() || !w.spend() {
				return nothing
			}
			h.Crash()
			h.change(func() {
				h.disk = disk{promise: h.disk.promise, noPrimary: h.disk.noPrimary, wal: wal{forks: map[cluster.Timeline]cluster.Fork{}}}
			})
			return h.Boot
		}},
		{"its postmaster is killed", 4, func(_ *World, h *Host) func() error { h.KillPostgres(); return nothing }},
		{"its agent is killed", 3, func(_ *World, h *Host) func() error {
			if h.isOff() || !h.agentNow().alive() {
				return nothing
			}
			h.KillAgent()
			return h.startUnlessOff
		}},
		{"its agent is told to stop", 3, func(_ *World, h *Host) func() error {
			if h.isOff() || !h.agentNow().alive() {
				return nothing
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			h.StopAgent(ctx)
			return h.startUnlessOff
		}},
		{"its guard is killed", 2, func(_ *World, h *Host) func() error { h.guardNow().kill(); return nothing }},
		{"its agent is frozen", 3, freezing(serviceAgent)},
		{"its guard is frozen", 2, freezing(serviceGuard)},
		{"its agent and guard are frozen", 3, freezing(serviceAgent, serviceGuard)},
		{"its postgres is frozen", 2, freezing(servicePostgres)},
		{"all of it is frozen", 3, freezing(serviceAgent, serviceGuard, servicePostgres)},
		{"its disk hangs", 2, freezing(serviceDisk)},
		{"it is cut off", 4, cutting(true, true)},
		{"it hears nothing", 2, cutting(true, false)},
		{"nobody hears it", 2, cutting(false, true)},
		{"it is cut off from one other", 3, func(w *World, h *Host) func() error {
			o := w.Hosts[w.intN(len(w.Hosts))]
			if o == h {
				return nothing
			}
			w.Link(h, o, true, usualDelay)
			return func() error { w.Link(h, o, false, usualDelay); return nil }
		}},
		{"its old WAL is removed", 3, func(_ *World, h *Host) func() error {
			h.change(func() { h.disk.removed = h.disk.wal.end().LSN })
			return nothing
		}},
		{"its links are slow", 3, func(w *World, h *Host) func() error {
			delay := time.Millisecond + w.exp(30*time.Millisecond)
			for _, o := range w.Hosts {
				if o != h {
					w.Link(h, o, false, delay)
				}
			}
			return func() error { w.Isolate(h, false, false); return nil }
		}},
		{"a switchover is asked of it", 5, func(w *World, h *Host) func() error {
			to := w.Hosts[w.intN(len(w.Hosts))].Name
			w.live(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				got := h.Switchover(ctx, to)
				w.Did("asked of %s, switchover to %s: %d %s", h.Name, to, got.Code, got.Text)
			})
			return nothing
		}},
	}
}

// startUnlessOff starts an agent where none runs and one can.
func (h *Host) startUnlessOff() error {
	h.world.mu.Lock()
	closing := h.world.closing
	h.world.mu.Unlock()
	if closing || h.isOff() || h.agentNow().alive() {
		return nil
	}
	return h.StartAgent()
}

// drawFault picks a kind by weight.
func (w *World) drawFault() fault {
	all, sum := faults(), 0
	for _, f := range all {
		sum += f.weight
	}
	at := w.intN(sum)
	for _, f := range all {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("unreachable: at is below the sum of all weights")
}

// Play carries a schedule out, each fault with an end of its own, and heals what is left.
func (w *World) Play(s Schedule) error {
	type ending struct {
		at   time.Duration
		what string
		end  func() error
	}
	var open []ending
	finish := func(until time.Duration) error {
		for i := 0; i < len(open); {
			e := open[i]
			if e.at > until {
				i++
				continue
			}
			open = append(open[:i], open[i+1:]...)
			w.Did("%s: over", e.what)
			if err := e.end(); err != nil {
				return err
			}
		}
		return nil
	}
	for range s.Faults {
		<-time.After(w.exp(s.Pause))
		if err := finish(w.Time()); err != nil {
			return err
		}
		h, f := w.pick(), w.drawFault()
		w.Did("%s: %s", h.Name, f.name)
		end := f.begin(w, h)
		open = append(open, ending{w.Time() + w.exp(4*time.Second), string(h.Name) + ": " + f.name, end})
	}
	<-time.After(w.exp(s.Pause))
	if err := finish(time.Duration(1 << 62)); err != nil {
		return err
	}
	w.Did("all faults are over")
	return w.Heal()
}
