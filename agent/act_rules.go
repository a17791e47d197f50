package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// changeRule is step (1) of S2: the FSM records the new rule beside the old one.
func (a *Agent) changeRule(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	_, err := a.raft.Apply(ctx, cluster.AddRule{Node: a.opt.Self, Term: o.View.Key.Term, RulesVersion: o.View.RulesVersion,
		Standbys: d.Rule.Standbys, K: d.Rule.K, Mode: d.Rule.Mode})
	return err
}

// settleRule is steps (2) to (4) of S2 for the newest rule, and S4 for the first rule of a term: Postgres is set and
// proven, an LSN read after that is confirmed by k of its standbys, then the older rules go. It hangs off the lease:
// without one it ends.
func (a *Agent) settleRule(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	rule, ok := o.View.Current()
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	// A list that was proven before the promotion is in force since the first commit (S3).
	if err := a.prepareNow(ctx, listOf(rule), o.Local.Postgres.StartTime); err != nil {
		return err
	}
	now, err := a.pg.Position(ctx)
	if err != nil {
		return err
	}
	if now.Timeline != rule.Timeline {
		return fmt.Errorf("sync rule %d: postgres is on timeline %d, the rule is of %d", rule.ID, now.Timeline, rule.Timeline)
	}
	if err := a.awaitConfirmed(ctx, o, rule, now.LSN); errors.Is(err, errReplaced) {
		return nil // the newer rule is settled next
	} else if err != nil {
		return err
	}
	if len(o.View.Rules) > 1 {
		if _, err := a.raft.Apply(ctx, cluster.DropRules{Node: a.opt.Self, Term: o.View.Key.Term, RulesVersion: o.View.RulesVersion}); err != nil {
			return err
		}
	}
	a.mu.Lock()
	a.proven = provenRule{rule.ID, o.Local.Postgres.StartTime}
	first := a.checkpointed < rule.Term && o.View.Forks[rule.Timeline].Term == rule.Term
	a.checkpointed = max(a.checkpointed, rule.Term)
	a.mu.Unlock()
	if first {
		go a.afterPromotion(context.WithoutCancel(ctx), rule.Term)
	}
	a.markPhase("settled", a.opt.Clock())
	return nil
}

// settleLimit bounds one try; what was done stays done, and the next goes on.
const settleLimit = 10 * time.Second

// errReplaced says that a rule is no longer the newest.
var errReplaced = errors.New("it was replaced meanwhile")

// awaitConfirmed polls until k of the rule's standbys have flushed lsn, closely at first, as writes wait for it. A key
// or a rule that has moved on ends it.
func (a *Agent) awaitConfirmed(ctx context.Context, o *decide.Observation, rule cluster.SyncRule, lsn cluster.LSN) error {
	if rule.K == 0 {
		return nil
	}
	pause := 2 * time.Millisecond
	for {
		confirmed, duplicates, err := a.pg.Confirmed(ctx, rule.Timeline, lsn, rule.Standbys)
		if err != nil {
			return err
		}
		for _, name := range duplicates { // S6
			a.event(ctx, "duplicate_walsender", o.View.Key.Term, "ended a second connection of "+name)
		}
		if len(duplicates) == 0 && len(confirmed) >= rule.K {
			return nil
		}
		if v := a.raft.View(); v.RulesVersion != o.View.RulesVersion || v.Key.Term != o.View.Key.Term {
			return fmt.Errorf("sync rule %d: %w", rule.ID, errReplaced)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("sync rule %d: %d of %d standbys confirm %s, wanted %d: %w", rule.ID, len(confirmed), len(rule.Standbys), lsn, rule.K, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(pause*5/4, 100*time.Millisecond)
	}
}
