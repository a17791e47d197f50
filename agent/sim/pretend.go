package sim

import (
	"errors"
)

// What is pretended of a world that is well, so that a check which is asked at all must see something broken.
const (
	PretendPromise = "a standby has promised the next term, and goes on"
	PretendTenure  = "the present term was that of another life of its holder" // what a view shows, and no lease
	PretendLease   = "another node's guard has had a lease of the present term"
)

// Pretend puts into the checks' books what did not happen.
func (w *World) Pretend(what string) error {
	p := w.primaryHost()
	if p == nil {
		return errors.New("want a primary")
	}
	other := w.Hosts[0]
	if other == p {
		other = w.Hosts[1]
	}
	key := viewOf(w.Hosts).Key
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	switch what {
	case PretendPromise:
		h.promised[other.Name] = key.Term + 1
	case PretendTenure:
		was := key.Member
		was.Incarnation += "x"
		h.terms.of[key.Term] = tenure{was, key.Timeline}
	case PretendLease:
		h.terms.leased[key.Term] = other.Name
	}
	return nil
}
