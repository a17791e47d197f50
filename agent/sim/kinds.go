package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"pgquorum/cluster"
)

// fault is one kind: it begins, and ends after a while.
type fault struct {
	name   string
	weight int
	begin  func(w *World, h *Host) (end func() error)
}

// spend says whether a host may lose its data, its votes, or both, for ever. k = 1 bears no second loss, nor does the quorum
// of three, until the cluster is whole again. A loss of each kind counts as two, since the holder of the key that has lost its
// votes is not replaced before the key moves, and a standby without its data cannot confirm where it may move (L6, C1). So
// does a directory that is half-rewound: none is borne while the others could not settle the rules without this host. And
// none while commits are on the primary alone, as always in mode off: in all these cases the cluster rightly waits for a
// person (B5).
func (w *World) spend(h *Host) bool {
	others := slices.DeleteFunc(slices.Clone(w.Hosts), func(o *Host) bool { return o == h })
	if w.opt.Mode == cluster.SyncOff || w.alone() || missingTo(viewOf(w.Hosts), others, len(w.Hosts)) != "" {
		return false
	}
	w.mu.Lock()
	lost, away := w.lost, w.away
	w.mu.Unlock()
	if away || lost && w.Converged() != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = true
	return true
}

// alone says whether a rule that is recorded lets commits be on the primary alone.
func (w *World) alone() bool {
	newest := viewOf(w.Hosts)
	return newest == nil || slices.ContainsFunc(newest.Rules, func(r cluster.SyncRule) bool { return r.K == 0 })
}

// losing is a host that goes down and comes back without something.
func losing(lose func(*Host)) func(*World, *Host) func() error {
	return func(w *World, h *Host) func() error {
		if h.isOff() || !w.spend(h) {
			return nothing
		}
		h.Crash()
		h.change(func() { lose(h) })
		return h.Boot
	}
}

// unmounting is a host that comes back without the disk of its data, and later with it again. What it had meanwhile is under
// the mount then, and lost to the cluster like what is lost for ever; nothing else is lost until the disk is back.
func unmounting(w *World, h *Host) func() error {
	if h.isOff() || !w.spend(h) {
		return nothing
	}
	w.setAway(true)
	h.Crash()
	h.change(h.swapDisksLocked)
	began := h.Boot()
	return func() error {
		defer w.setAway(false)
		if began != nil || w.alone() { // with k = 0 commits may be under the mount alone: the disk stays away
			return errors.Join(began, h.Boot())
		}
		h.Crash()
		h.change(h.swapDisksLocked)
		w.Did("%s: its data disk is mounted again", h.Name)
		return h.Boot()
	}
}

// swapDisksLocked exchanges PGDATA for what stood under the mount point, or on the disk that was mounted there.
func (h *Host) swapDisksLocked() {
	had := h.disk
	h.disk = disk{wal: wal{forks: map[cluster.Timeline]cluster.Fork{}}}
	if h.beside != nil {
		h.disk = *h.beside
	}
	h.disk.promise, h.disk.noPrimary = had.promise, had.noPrimary
	h.beside = &had
}

func (w *World) setAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

// forgetLocked loses raft.data_dir/raft: the next start has a uid that nobody has heard of.
func (h *Host) forgetLocked() { h.uid, h.forgot = h.uid+"-anew", true }

// loseDataLocked loses PGDATA; raft.data_dir stands elsewhere.
func (h *Host) loseDataLocked() {
	h.disk = disk{promise: h.disk.promise, noPrimary: h.disk.noPrimary, wal: wal{forks: map[cluster.Timeline]cluster.Fork{}}}
}

// losePromisesLocked loses raft.data_dir/guard. Data without its promises is nobody's (V5).
func (h *Host) losePromisesLocked() {
	h.disk.promise, h.disk.noPrimary, h.disk.incarnation = 0, 0, ""
	h.world.unpromised(h.Name)
}

func nothing() error { return nil }

// unlessClocksAlone leaves a fault out where commits wait for no standby: there P1 rests on the guard's being scheduled
// (docs/protocol.md, section 2), and a guard that is not breaks it.
func unlessClocksAlone(begin func(*World, *Host) func() error) func(*World, *Host) func() error {
	return func(w *World, h *Host) func() error {
		if w.opt.Mode == cluster.SyncOff {
			return nothing
		}
		return begin(w, h)
	}
}

// part is a drawn minority with h in it.
func (w *World) part(h *Host) []*Host {
	part := []*Host{h}
	for _, o := range w.Hosts {
		if o != h && 2*(len(part)+1) < len(w.Hosts) && w.intN(2) == 0 {
			part = append(part, o)
		}
	}
	return part
}

// flap cuts a host off a few times, for about as long as a lease lasts.
func (w *World) flap(h *Host) {
	for range 2 + w.intN(4) {
		w.Isolate(h, true, true)
		<-time.After(w.opt.Heartbeat/4 + w.exp(w.opt.Heartbeat/2))
		w.Isolate(h, false, false)
		<-time.After(w.exp(w.opt.Heartbeat / 2))
	}
}

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
		{"its power goes, and its data directory is lost", 1, losing((*Host).loseDataLocked)},
		{"its power goes, and its data disk is not mounted", 1, unmounting},
		{"its power goes, and its Raft store is lost", 1, losing((*Host).forgetLocked)},
		{"its power goes, and its Raft store is lost with the guard's marks and promises", 1, losing(func(h *Host) {
			h.forgetLocked()
			h.losePromisesLocked()
		})},
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
		{"its guard is frozen", 2, unlessClocksAlone(freezing(serviceGuard))},
		{"its agent and guard are frozen", 3, unlessClocksAlone(freezing(serviceAgent, serviceGuard))},
		{"its postgres is frozen", 2, freezing(servicePostgres)},
		{"all of it is frozen", 3, unlessClocksAlone(freezing(serviceAgent, serviceGuard, servicePostgres))},
		{"its disk hangs", 2, freezing(serviceDisk)},
		{"its disk is full", 2, filling},
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
		{"one way of one of its links is cut", 2, func(w *World, h *Host) func() error {
			o := w.Hosts[w.intN(len(w.Hosts))]
			if o == h {
				return nothing
			}
			w.net.Set(h.Name, o.Name, true, usualDelay)
			return func() error { w.net.Set(h.Name, o.Name, false, usualDelay); return nil }
		}},
		{"the network falls into two parts, it with the smaller", 2, func(w *World, h *Host) func() error {
			w.Split(w.part(h))
			return func() error { w.Split(nil); return nil }
		}},
		{"it is cut off again and again", 3, func(w *World, h *Host) func() error {
			w.flaps.Add(1)
			w.live(func() {
				defer w.flaps.Done()
				w.flap(h)
			})
			return nothing
		}},
		{"its links lose packets", 3, func(w *World, h *Host) func() error {
			loss := 5 + w.intN(60)
			for _, o := range w.Hosts {
				w.net.Lose(h.Name, o.Name, loss)
				w.net.Lose(o.Name, h.Name, loss)
			}
			return func() error { w.Isolate(h, false, false); return nil }
		}},
		{"its raft leadership is given away", 4, func(w *World, h *Host) func() error {
			w.live(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if p := h.agentNow(); p.alive() {
					w.Did("%s: leadership given away: %v", h.Name, p.node.GiveLeadership(ctx))
				}
			})
			return nothing
		}},
		{"somebody promotes it by hand", 2, promotingByHand},
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
