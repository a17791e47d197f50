package sim

import (
	"time"

	"pgquorum/cluster"
)

// Schedule is what a seed draws: faults one after another, some inside the one before.
type Schedule struct {
	Faults int           // how many
	Pause  time.Duration // between their beginnings, on average
	Settle time.Duration // in one of three, a majority has this long to be whole by itself when all is over; 0: in none
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
		primary := h.server != nil && h.server.lawfulLocked()
		h.mu.Unlock()
		if primary {
			return h
		}
	}
	return nil
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
	var open []ending
	for range s.Faults {
		w.untilNext(s.Pause)
		var err error
		if open, err = w.finish(open, w.Time()); err != nil {
			return err
		}
		h, f := w.pick(), w.drawFault()
		w.Did("%s: %s", h.Name, f.name)
		end := f.begin(w, h)
		open = append(open, ending{w.Time() + w.exp(w.lengthMean()), string(h.Name) + ": " + f.name, end})
	}
	<-time.After(w.exp(s.Pause))
	if _, err := w.finish(open, time.Duration(1<<62)); err != nil {
		return err
	}
	w.Did("all faults are over")
	if s.Settle > 0 && w.intN(3) == 0 {
		return w.WithoutSome(s.Settle)
	}
	return w.Heal()
}

// ending is when and how a fault ends.
type ending struct {
	at   time.Duration
	what string
	end  func() error
}

// finish ends the faults whose time has come, and gives those that go on.
func (w *World) finish(open []ending, until time.Duration) (left []ending, err error) {
	for _, e := range open {
		if e.at > until {
			left = append(left, e)
			continue
		}
		w.Did("%s: over", e.what)
		if err := e.end(); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// untilNext waits for the next fault: for a while, for hardly any time, or until the key or its lease moves, so that many a
// fault comes in the middle of what the one before has set off.
func (w *World) untilNext(usual time.Duration) {
	switch w.intN(4) {
	case 0:
		<-time.After(w.exp(150 * time.Millisecond))
	case 1:
		w.awaitMove(usual)
		<-time.After(w.exp(60 * time.Millisecond))
	default:
		<-time.After(w.exp(usual))
	}
}

// awaitMove waits until who serves, or the key's term, is another, for limit at most.
func (w *World) awaitMove(limit time.Duration) {
	before := w.standing()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(limit); w.standing() == before; {
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// standing is the newest term that any node has applied, and whose PostgreSQL takes writes.
type standing struct {
	term    cluster.Term
	primary cluster.NodeID
}

func (w *World) standing() (s standing) {
	for _, h := range w.Hosts {
		if p := h.agentNow(); p.alive() {
			s.term = max(s.term, p.node.Snapshot().View.Key.Term)
		}
	}
	if h := w.primaryHost(); h != nil {
		s.primary = h.Name
	}
	return s
}

// lengthMean is how long a fault lasts on average: about as long as a lease, an election, a take-over, or all of them.
func (w *World) lengthMean() time.Duration {
	return []time.Duration{w.opt.Heartbeat / 5, w.opt.Heartbeat, 4 * time.Second, 10 * time.Second}[w.intN(4)]
}
