package sim

import (
	"errors"
	"time"
)

// What a node may lose of its disks.
const (
	LostData     = "data directory"
	LostPromises = "marks and promises"
)

// LoseStandbys takes one standby's power away until back is called, and at the same moment something of the other one's
// disks, so that nobody is left who could settle the recorded rules as they are.
func (w *World) LoseStandbys(what string) (back func() error, err error) {
	p := w.primaryHost()
	if p == nil || len(w.Hosts) != 3 {
		return nil, errors.New("want a primary and two standbys")
	}
	var standbys []*Host
	for _, h := range w.Hosts {
		if h != p {
			standbys = append(standbys, h)
		}
	}
	off, loses := standbys[0], standbys[1]
	off.Crash()
	w.Did("%s: its power goes", off.Name)
	loses.Crash()
	loses.change(func() {
		if what == LostData {
			loses.loseDataLocked()
		} else {
			loses.losePromisesLocked()
		}
	})
	w.Did("%s: its power goes and comes back, its %s lost", loses.Name, what)
	return off.Boot, loses.Boot()
}

// LosePrimary takes the primary's Raft store, marks and promises, right after a standby's rewind has broken off: what is left of
// the two standbys settles no rule that names both. It judges these two as AwaitWithout does.
func (w *World) LosePrimary(limit time.Duration) error {
	p, breaks, other, err := w.ofThree()
	if err != nil {
		return err
	}
	if err := p.awaitAllCounted(2); err != nil {
		return err
	}
	breaks.Crash()
	breaks.change(func() { breaks.disk.rewinding = true })
	w.Did("%s: its power goes and comes back, a rewind has not ended", breaks.Name)
	if w.spend(p) || !w.spend(other) {
		return errors.New("a schedule bears the loss of the primary, or not that of the other standby")
	}
	p.Crash()
	p.change(func() {
		p.forgetLocked()
		p.losePromisesLocked()
	})
	w.Did("%s: its power goes and comes back, its Raft store, marks and promises lost", p.Name)
	return errors.Join(breaks.Boot(), p.Boot(), w.AwaitWithout([]*Host{p}, limit))
}
