package sim

import (
	"time"
)

// hiccup is a way in which the network fails for a while.
type hiccup struct {
	name string
	cut  func(w *World, h *Host) // h is the primary's host
}

func hiccups() []hiccup {
	isolate := func(in, out bool) func(*World, *Host) {
		return func(w *World, h *Host) { w.Isolate(h, in, out) }
	}
	return []hiccup{
		{"the primary is cut off", isolate(true, true)},
		{"the primary hears nothing", isolate(true, false)},
		{"nobody hears the primary", isolate(false, true)},
		{"nobody reaches anybody", func(w *World, _ *Host) {
			for _, h := range w.Hosts {
				w.Isolate(h, true, true)
			}
		}},
		{"the primary's agent stands still", func(_ *World, h *Host) { h.Freeze(true, serviceAgent) }},
	}
}

// Hiccups lets the network of whoever is primary fail again and again, each time for a moment between the two lengths:
// shorter and longer than a lease, sooner and later than somebody else takes over (U6). In every third, a further fault
// that is drawn falls inside.
func (w *World) Hiccups(n int, shortest, longest time.Duration) error {
	for range n {
		<-time.After(w.exp(2 * time.Second))
		h := w.primaryHost()
		if h == nil {
			continue
		}
		kinds := hiccups()
		k := kinds[w.intN(len(kinds))]
		lasts := shortest + time.Duration(w.intN(int(longest-shortest)))
		w.Did("%s: %s, for %v", h.Name, k.name, lasts.Round(time.Millisecond))
		k.cut(w, h)
		end := nothing
		if w.intN(3) == 0 {
			inside := time.Duration(w.intN(int(lasts)))
			<-time.After(inside)
			lasts -= inside
			o, f := w.pick(), w.drawFault()
			w.Did("%s: %s, inside", o.Name, f.name)
			end = f.begin(w, o)
		}
		<-time.After(lasts)
		w.Did("the network is whole")
		if err := end(); err != nil {
			return err
		}
		if err := w.Heal(); err != nil {
			return err
		}
	}
	w.Did("all hiccups are over")
	return w.Heal()
}
