package sim

import "errors"

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
