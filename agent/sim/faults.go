package sim

import (
	"context"
	"slices"
	"time"

	"pgquorum/cluster"
)

func (h *Host) guardNow() *guard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guard
}

func (h *Host) agentNow() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agent
}

// KillAgent is SIGKILL to the agent. It returns when its Raft store is free.
func (h *Host) KillAgent() {
	p := h.agentNow()
	p.once.Do(func() { close(p.dead) })
	h.change(func() {}) // whoever waits for a thaw sees that it is dead
	h.world.net.Kill(h.Name, serviceAgent, h.isOff())
	p.stop()
	<-p.done
}

// StopAgent is SIGTERM: it hands over, stops PostgreSQL and ends.
func (h *Host) StopAgent(ctx context.Context) {
	p := h.agentNow()
	h.change(func() { h.told = true })
	p.stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		h.KillAgent()
	}
	h.world.net.Kill(h.Name, serviceAgent, h.isOff())
}

// KillPostgres is SIGKILL to the postmaster.
func (h *Host) KillPostgres() {
	s := h.running()
	if s == nil {
		return
	}
	s.kill()
	h.guardNow().died()
}

// Crash takes the power away: nothing runs, and nobody is told.
func (h *Host) Crash() {
	var g *guard
	h.change(func() { // somebody may boot it before all is ended: that guard is another
		h.off, h.watchdog, g = true, watchdog{}, h.guard
	})
	for _, s := range []service{serviceAgent, servicePostgres} {
		h.world.net.Freeze(h.Name, s, true)
	}
	h.KillAgent()
	g.kill()
	h.endOrphans()
}

// Boot starts a crashed host: the clock begins anew, processes too. One that is on already stays as it is.
func (h *Host) Boot() error {
	if !h.isOff() {
		return nil
	}
	h.change(func() {
		h.off, h.booted, h.frozen, h.busy, h.halted = false, time.Now(), map[service]bool{}, false, false
		h.guard = newGuard(h)
	})
	for _, s := range []service{serviceAgent, servicePostgres} {
		h.world.net.Freeze(h.Name, s, false)
	}
	return h.StartAgent()
}

// Freeze stops some of the host's processes, as SIGSTOP does, or lets them go on.
func (h *Host) Freeze(frozen bool, services ...service) {
	h.change(func() {
		for _, s := range services {
			h.frozen[s] = frozen
			h.world.net.Freeze(h.Name, s, h.stillLocked(s))
		}
	})
}

func (h *Host) thaw() {
	h.Freeze(false, serviceAgent, servicePostgres, serviceGuard, serviceDisk)
}

// Isolate cuts a host off from the others, in either direction or both, or heals it.
func (w *World) Isolate(h *Host, in, out bool) {
	for _, o := range w.Hosts {
		if o != h {
			w.net.Set(o.Name, h.Name, in, usualDelay)
			w.net.Set(h.Name, o.Name, out, usualDelay)
		}
	}
}

// Split cuts a part off from everybody else; nil: all are joined.
func (w *World) Split(part []*Host) {
	for _, a := range w.Hosts {
		for _, b := range w.Hosts {
			w.net.Set(a.Name, b.Name, slices.Contains(part, a) != slices.Contains(part, b), usualDelay)
		}
	}
}

// Link changes one link, both ways.
func (w *World) Link(a, b *Host, cut bool, delay time.Duration) {
	w.net.Set(a.Name, b.Name, cut, delay)
	w.net.Set(b.Name, a.Name, cut, delay)
}

// Switchover asks a node for one, as an operator does.
func (h *Host) Switchover(ctx context.Context, to cluster.NodeID) cluster.ActionResult {
	p := h.agentNow()
	if !p.alive() {
		return cluster.ActionResult{Code: cluster.ActionUnavailable, Text: "no agent"}
	}
	leader := p.node.Snapshot().View.Key.Holder
	return p.node.Switchover(ctx, cluster.SwitchoverRequest{Leader: leader, Candidate: to})
}

// Heal ends every fault: all links whole, all processes running.
func (w *World) Heal() error {
	for _, a := range w.Hosts {
		for _, b := range w.Hosts {
			w.net.Set(a.Name, b.Name, false, usualDelay)
		}
	}
	for _, h := range w.Hosts {
		if h.isOff() {
			if err := h.Boot(); err != nil {
				return err
			}
			continue
		}
		h.thaw()
		if p := h.agentNow(); !p.alive() {
			if err := h.StartAgent(); err != nil {
				return err
			}
		}
	}
	return nil
}
