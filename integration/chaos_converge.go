package integration

import (
	"context"
	"fmt"
	"time"
)

// wholeFor is how long a cluster must be whole: what was killed a moment ago has not been missed yet.
const wholeFor = time.Second

var errNotYet = fmt.Errorf("whole for less than %s", wholeFor)

// converge waits for a whole cluster: one primary, all others streaming, commits on as many nodes as there should be, one
// rule. It must come within settleTime of the last fault.
func (r *chaosRun) converge(ctx context.Context) bool {
	since := r.now()
	bounded, cancel := context.WithTimeoutCause(ctx, settleTime, errNotSettled)
	defer cancel()
	said, whole := since, time.Duration(0)
	err := until(bounded, 100*time.Millisecond, func() error {
		err := r.cluster.Converged(bounded, r.cluster.Nodes()...)
		if err == nil {
			err = r.fullRule(bounded)
		}
		switch {
		case err != nil:
			whole = 0
		case whole == 0:
			whole = r.now()
			return errNotYet
		case r.now()-whole < wholeFor:
			return errNotYet
		}
		if err != nil && r.now()-said > progressEvery {
			said = r.now()
			r.event("not whole after %.0f s: %v", (said - since).Seconds(), err)
		}
		return err
	})
	result := Converged{Since: since, Took: whole - since}
	if err != nil {
		result.Took = r.now() - since
		result.Err = err.Error()
		r.violate(Violation{"converges", since, err.Error()})
	} else {
		r.event("whole again after %.1f s", result.Took.Seconds())
	}
	r.mu.Lock()
	r.log.Converged = append(r.log.Converged, result)
	r.mu.Unlock()
	if err == nil {
		r.wholeUsage(ctx)
		r.sweepKept()
	}
	return err == nil
}

func (r *chaosRun) fullRule(ctx context.Context) error {
	p, err := r.cluster.Primary(ctx)
	if err != nil {
		return err
	}
	s, err := r.cluster.Status(ctx, p)
	if sync := s.Pgquorum.Sync; err == nil && sync.K < sync.KFull {
		return fmt.Errorf("%s: commits on %d of %d standbys", p.Name, sync.K, sync.KFull)
	}
	return err
}

func (r *chaosRun) sweepKept() {
	for _, h := range r.hosts {
		n, err := h.sweepKept()
		if err != nil {
			r.event("%s: what was kept aside stays: %v", h.Name, err)
		} else if n > 0 {
			r.event("%s: removed %d directories that rewinds and clones kept aside", h.Name, n)
		}
	}
}
