package agent

import (
	"context"
	"fmt"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// removedWAL is a source's refusal of the WAL that one life of this node's data needs next.
type removedWAL struct {
	term    cluster.Term // of the key: another holder may still have it
	life    cluster.Incarnation
	refusal string
}

// askForWAL asks the source of a standby that has not streamed for a while whether it still has the WAL that comes next:
// the standby itself would ask in vain for ever. Called by upkeep, in its own time.
func (a *Agent) askForWAL(ctx context.Context, o *decide.Observation) {
	p, k := o.Local.Postgres, o.View.Key
	if p.Streaming {
		a.mu.Lock()
		a.removed = removedWAL{}
		a.mu.Unlock()
	}
	if !decide.Dry(o) {
		a.dry = 0
		return
	}
	if a.dry.IsZero() {
		a.dry = o.Now
	}
	if o.Now.Before(a.dry.Add(decide.RemovedPatience)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	src, err := a.source(o, decide.Decision{Source: p.Source, Term: p.SourceTerm})
	refusal := ""
	if err == nil {
		refusal, err = a.pg.RemovedWAL(ctx, *src, o.Position)
	}
	if err != nil {
		a.log.InfoContext(ctx, "standby does not stream; its source could not be asked for the wal", "source", p.Source, "error", err)
		return
	}
	if refusal == "" {
		return
	}
	a.log.WarnContext(ctx, "standby cannot catch up", "source", p.Source, "position", o.Position.LSN, "timeline", o.Position.Timeline, "refusal", refusal)
	a.mu.Lock()
	a.removed = removedWAL{term: k.Term, life: p.Incarnation, refusal: fmt.Sprintf("%s: %s", p.Source, refusal)}
	a.mu.Unlock()
	a.Wake()
}

// askLimit bounds the question, so that a source that does not answer keeps upkeep from nothing else.
const askLimit = 2 * time.Second

// stillRemoved is what the source refused, as long as it concerns this term and this life of the data. Called with a.mu.
func (a *Agent) stillRemoved(o *decide.Observation) string {
	p := o.Local.Postgres
	if p.Streaming || a.removed.term != o.View.Key.Term || a.removed.life != p.Incarnation {
		return ""
	}
	return a.removed.refusal
}
