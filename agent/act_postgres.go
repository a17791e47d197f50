package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"reflect"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// newIncarnation makes the random id of a new life of a data directory (V5): 8 hex digits, unique among the few lives
// that one node's name ever has.
func newIncarnation() cluster.Incarnation {
	b := make([]byte, 4)
	rand.Read(b) // never fails: it ends the program instead (crypto/rand)
	return cluster.Incarnation(hex.EncodeToString(b))
}

// lifeOr gives a life that is to go on, or a new one where there is none, or where its promises may be lost (V5).
func (a *Agent) lifeOr(i cluster.Incarnation) cluster.Incarnation {
	if i == "" || !a.pg.KeepsLife(i) {
		return newIncarnation()
	}
	return i
}

// claim takes the right to run initdb.
func (a *Agent) claim(ctx context.Context, _ *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	id := make([]byte, 16)
	rand.Read(id) // never fails, see newIncarnation
	_, err := a.raft.Apply(ctx, cluster.Claim{Node: a.opt.Self, From: d.Node, ClusterID: hex.EncodeToString(id), Config: a.opt.Dynamic})
	return err
}

// initDB makes the cluster's first data directory.
func (a *Agent) initDB(ctx context.Context, _ *decide.Observation, _ decide.Decision) error {
	m := cluster.Member{Node: a.opt.Self, Incarnation: newIncarnation()}
	id, err := a.pg.InitDB(ctx, m)
	if err == nil {
		a.event(ctx, "initdb", 0, "system identifier "+id)
	}
	return err
}

// setSystemID records what initdb made.
func (a *Agent) setSystemID(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	_, err := a.raft.Apply(ctx, cluster.SetSystemID{Node: a.opt.Self, SystemID: o.Local.Postgres.SystemID})
	return err
}

// claimData gives a directory of this cluster that has no valid id an incarnation: it counts in no rule until the
// joint change enters it (V5).
func (a *Agent) claimData(ctx context.Context, _ *decide.Observation, _ decide.Decision) error {
	return a.pg.Claim(ctx, cluster.Member{Node: a.opt.Self, Incarnation: newIncarnation()})
}

// startStandby starts Postgres read-only, with or without a source.
func (a *Agent) startStandby(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	src, err := a.source(o, d)
	if err != nil {
		return err
	}
	spec := StartSpec{Term: d.Term, Source: src, Settings: a.settings(o, cluster.Member{Node: o.Self, Incarnation: o.Local.Postgres.Incarnation})}
	ctx, cancel := context.WithTimeout(ctx, o.View.Config.PrimaryStartTimeout+time.Minute)
	defer cancel()
	return a.pg.Start(ctx, spec)
}

// startPrimary starts Postgres in place under the live lease (C3), or for the first time.
func (a *Agent) startPrimary(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	rule, ok := o.View.Current()
	if !ok {
		return fmt.Errorf("start primary: no sync rule is recorded for term %d", d.Term)
	}
	s := a.settings(o, rule.Primary)
	s.Sync = listOf(rule) // before Postgres starts (S3)
	ctx, cancel := context.WithTimeout(ctx, o.View.Config.PrimaryStartTimeout)
	defer cancel()
	if err := a.pg.Start(ctx, StartSpec{Primary: true, Term: d.Term, Timeline: o.View.Key.Timeline, Settings: s}); err != nil {
		return err
	}
	a.mu.Lock()
	a.resuming = 0
	a.mu.Unlock()
	if err := a.pg.CreateUsers(ctx); err != nil {
		return err
	}
	a.event(ctx, "started", d.Term, fmt.Sprintf("primary on timeline %d: %s", o.View.Key.Timeline, d.Reason))
	return nil
}

// promote makes this node's Postgres the primary of the allotted timeline. Its list holds the new rule before (S3).
func (a *Agent) promote(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	rule, ok := o.View.Current()
	if !ok || rule.Term != d.Term {
		return fmt.Errorf("promote in term %d: the newest rule is of term %d", d.Term, rule.Term)
	}
	ctx, cancel := context.WithTimeout(ctx, o.View.Config.PrimaryStartTimeout)
	defer cancel()
	if err := a.prepareNow(ctx, listOf(rule), o.Local.Postgres.StartTime); err != nil {
		return err
	}
	if err := a.pg.Promote(ctx, d.Term, o.View.Key.Timeline); err != nil {
		return err
	}
	a.markPhase("promoted", a.opt.Clock())
	a.event(ctx, "promoted", d.Term, fmt.Sprintf("timeline %d from %d", o.View.Key.Timeline, o.View.Forks[o.View.Key.Timeline].Parent))
	return nil
}

// prepare puts a list in force and proves it, unless that was done in this run of Postgres, or unless says no.
func (a *Agent) prepare(ctx context.Context, l SyncList, start string, unless func() bool) error {
	if err := a.lists.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("list of standbys: another one is being written: %w", err)
	}
	defer a.lists.Release(1)
	if !unless() {
		return nil
	}
	want := preparedList{l, start}
	if a.isPrepared(want) {
		return nil
	}
	a.mu.Lock()
	a.prepared = preparedList{} // another list comes into force, whether or not it is proven
	a.mu.Unlock()
	if err := a.pg.SetSyncNames(ctx, l); err != nil {
		return err
	}
	if _, err := a.pg.ProveSyncNames(ctx, l); err != nil {
		return err
	}
	a.mu.Lock()
	a.prepared = want
	a.mu.Unlock()
	return nil
}

// isPrepared says whether a list was proven in a run of Postgres, and is in force still.
func (a *Agent) isPrepared(l preparedList) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return reflect.DeepEqual(a.prepared, l)
}

// prepareNow is prepare for what cannot wait: a proof that upkeep makes ahead, which may be in a checkpoint, is broken off.
func (a *Agent) prepareNow(ctx context.Context, l SyncList, start string) error {
	a.mu.Lock()
	endEarly := a.endEarly
	a.mu.Unlock()
	if endEarly != nil {
		endEarly()
	}
	return a.prepare(ctx, l, start, func() bool { return true })
}

// afterPromotion checkpoints once the new primary's rule is settled and writes flow again, so that a later pg_rewind against this node sees the new timeline in its control file.
func (a *Agent) afterPromotion(ctx context.Context, t cluster.Term) {
	ctx, cancel := context.WithTimeout(ctx, checkpointLimit)
	defer cancel()
	if err := a.pg.Checkpoint(ctx); err != nil {
		a.log.WarnContext(ctx, "no checkpoint after the promotion; the next one will do", "term", t, "error", err)
	}
}

// checkpointLimit bounds a checkpoint that something waits for.
const checkpointLimit = 5 * time.Minute

// stopPostgres stops a standby that must leave its history.
func (a *Agent) stopPostgres(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	return a.pg.Stop(ctx, o.View.Config.PrimaryStopTimeout)
}

// clone copies the source's data directory. A new life is registered when the copy stands (V5).
func (a *Agent) clone(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	src, err := a.source(o, d)
	if err != nil {
		return err
	}
	m := cluster.Member{Node: a.opt.Self, Incarnation: a.lifeOr(d.Life)}
	a.pg.ExpectSystemID(o.View.SystemID)
	a.eventOnce(ctx, o, d, "clone", fmt.Sprintf("from %s: %s", d.Source, d.Reason))
	copying, cancel := a.whileItHolds(ctx, d)
	defer cancel()
	err = a.pg.BaseBackup(copying, *src, m, func(done, total int64) {
		a.progress(fmt.Sprintf("clone from %s: %d of %d MiB", d.Source, done>>20, total>>20))
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.removed, a.held = removedWAL{}, heldMark{} // what was found is of the directory that made way
	a.mu.Unlock()
	a.event(ctx, "cloned", d.Term, "from "+string(d.Source))
	return nil
}

// whileItHolds ends a copy that a life waits for when the term ends in which it was begun: a taker needs this node's
// Postgres, and its promise forbids the swap.
func (a *Agent) whileItHolds(ctx context.Context, d decide.Decision) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if d.Life == "" {
		return ctx, cancel
	}
	go func() {
		tick := time.NewTicker(a.opt.Heartbeat / 4)
		defer tick.Stop()
		for {
			if decide.Outlived(d, a.raft.View().Key, a.pg.Promised()) {
				cancel()
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return ctx, cancel
}

// rewind takes this node's WAL back to where it left the key's timeline. The source has checkpointed since its
// promotion, or the rewind says that it has not, and is tried again.
func (a *Agent) rewind(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	src, err := a.source(o, d)
	if err != nil {
		return err
	}
	m := cluster.Member{Node: a.opt.Self, Incarnation: a.lifeOr(o.View.Nodes[a.opt.Self].Incarnation)}
	a.eventOnce(ctx, o, d, "rewind", fmt.Sprintf("to %s: %s", d.Source, d.Detail))
	if o.Local.Postgres.Data == cluster.DataOurs && !o.Local.Postgres.Clean {
		if err := a.pg.CrashRecover(ctx); err != nil { // U3: pg_rewind itself must not
			return err
		}
	}
	if k := a.raft.View().Key; k.Term != o.View.Key.Term {
		return fmt.Errorf("rewind to %s: the key has moved on to term %d meanwhile", d.Source, k.Term)
	}
	if err := a.pg.Rewind(ctx, *src, o.View.Forks.Divergence(o.Position.Timeline, o.View.Key.Timeline), m, a.progress); err != nil {
		return err
	}
	a.event(ctx, "rewound", d.Term, "to "+string(d.Source))
	return nil
}

// progress shows how far a long action is.
func (a *Agent) progress(text string) {
	a.mu.Lock()
	a.jobText = text
	a.mu.Unlock()
}

// follow changes the source of a running standby: reload only, once its WAL is known to be the beginning of the source's.
func (a *Agent) follow(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	src, err := a.source(o, d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	if err := a.proveBeginning(ctx, o, src); err != nil {
		return err
	}
	if err := a.pg.Follow(ctx, src, cluster.Member{Node: a.opt.Self, Incarnation: o.Local.Postgres.Incarnation}); err != nil {
		return err
	}
	a.watch.refresh(ctx)
	return nil
}

// proveBeginning proves that the WAL here is the beginning of a timeline before this standby streams it under that timeline's
// name (S6). What the loop last saw may be a second old, a source of an earlier timeline may have sent more since, and a source
// that is gone from the file may still have a receiver: so the standby is cut off first. Nothing is to be proven where the
// timeline is followed already, such as after an acquisition in place, or by the taker's order.
func (a *Agent) proveBeginning(ctx context.Context, o *decide.Observation, src *Source) error {
	follows := func(p cluster.PostgresStatus) bool { return decide.Follows(p, src.Node, src.Timeline) }
	if src == nil || follows(o.Local.Postgres) || follows(a.watch.refresh(ctx).postgres) {
		return nil
	}
	if err := a.pg.Cut(ctx); err != nil {
		return err
	}
	pos, err := a.pg.Position(ctx)
	if err != nil {
		return err
	}
	if !decide.FollowsByItself(o.View.Forks, pos, src.Timeline) {
		a.watch.refresh(ctx)
		return fmt.Errorf("follow %s on timeline %d: the WAL here ends at %s of timeline %d and is not known to be the beginning of that", src.Node, src.Timeline, pos.LSN, pos.Timeline)
	}
	return nil
}

// recordFork adds the LSN of every allotted timeline that this node's history file knows (F1).
func (a *Agent) recordFork(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	forks, err := a.pg.LocalForks(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, f := range forks {
		known, allotted := o.View.Forks[f.Timeline]
		if !allotted || known.LSN != 0 || known.Parent != f.Parent {
			continue
		}
		if _, err := a.raft.Apply(ctx, cluster.RecordFork{Timeline: f.Timeline, Parent: f.Parent, LSN: f.LSN}); err != nil {
			return err
		}
		found = found || f.Timeline == o.View.Key.Timeline
	}
	if !found {
		return fmt.Errorf("fork of timeline %d: this node's history file does not name it", o.View.Key.Timeline)
	}
	return nil
}

// listOf is the rule as Postgres's list.
func listOf(r cluster.SyncRule) SyncList {
	return SyncList{Mode: r.Mode, K: r.K, Members: r.Standbys, Timeline: r.Timeline}
}
