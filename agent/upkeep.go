package agent

import (
	"context"
	"reflect"
	"slices"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// upkeepEvery is the pause between two rounds of what must be kept in order but is in no hurry; a standby's slots and files
// are looked at in each standbyRounds-th, which is how much WAL for the others they hold back, and how long a file that
// somebody edited stands.
const (
	upkeepEvery   = time.Second
	standbyRounds = 10
)

// upkeep keeps slots, settings and the recorded LSN in order, beside the loop. It changes nobody's role, and a change of
// roles is no reason for it: slots are the same on all data nodes, and a take-over has no time to spare.
func (a *Agent) upkeep(ctx context.Context) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	last, rounds, told := upkeepKey{}, 0, false
	for due := true; ; {
		o := a.observe()
		waits := o.Local.Postgres.State == cluster.PostgresRunning && !decide.KnowsItsCluster(o) && o.Now.Sub(o.Began) > tellWaitAfter
		if waits && !told {
			a.log.InfoContext(ctx, "slots, settings and list stay as they are: the state of the cluster is not as new as this node had it before, or does not name its data",
				"recalled", o.Raft.Recalled, "raft_leader", o.Raft.Leader, "incarnation", o.Local.Postgres.Incarnation, "registered", o.View.Nodes[o.Self].Incarnation)
		}
		told = waits
		key := upkeepKey{len(o.View.Nodes), o.Local.Postgres.StartTime}
		if (due || key != last) && o.Local.Postgres.State == cluster.PostgresRunning && o.Job.Action == "" && decide.MayKeepSlots(o) {
			a.keepOrder(ctx, o, key != last, rounds%standbyRounds == 0)
			last, rounds = key, rounds+1
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			due = true
		case <-a.upkeepNow:
			due = false
		}
	}
}

// tellWaitAfter is how long an agent may take to learn of its cluster before the log says what waits for it.
const tellWaitAfter = 10 * time.Second

// upkeepKey tells when slots must be looked at again at once.
type upkeepKey struct {
	nodes int
	start string
}

// keepOrder is one round: changed, whether nodes or this life of Postgres are new; thorough, whether a standby looks at all.
func (a *Agent) keepOrder(ctx context.Context, o *decide.Observation, changed, thorough bool) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	others := slices.DeleteFunc(o.View.Names(), func(n cluster.NodeID) bool { return n == a.opt.Self })
	if changed || thorough { // a slot may also be lost meanwhile, when it kept more than max_slot_wal_keep_size
		if err := a.pg.EnsureSlots(ctx, others); err != nil {
			a.log.WarnContext(ctx, "replication slots not in order", "error", err)
		}
	}
	switch o.Local.Postgres.Role {
	case cluster.RoleStandby:
		if !decide.KnowsItsCluster(o) {
			a.advanceSlots(ctx, o, others)
			return
		}
		a.keepStandby(ctx, o, others, changed || thorough)
	case cluster.RolePrimary:
		a.keepPrimary(ctx, o)
	}
}

// keepStandby advances the slots that would keep WAL for the others, and keeps settings and the list for a promotion (S3).
func (a *Agent) keepStandby(ctx context.Context, o *decide.Observation, others []cluster.NodeID, thorough bool) {
	me := cluster.Member{Node: a.opt.Self, Incarnation: o.Local.Postgres.Incarnation}
	settings := a.settings(o, me)
	if thorough {
		a.advanceSlots(ctx, o, others)
		a.easeSource(ctx, o)
	} else if reflect.DeepEqual(settings, a.configured) && (settings.Sync.K == 0 || a.isPrepared(preparedList{settings.Sync, o.Local.Postgres.StartTime})) {
		return
	}
	if thorough {
		defer a.askForWAL(ctx, o)
	}
	settings, ok := a.configureStandby(ctx)
	if ok {
		a.configured = settings
		a.proveEarly(ctx, o, settings.Sync)
	}
}

// easeSource ends the hurry of a standby that has caught up on the key's timeline.
func (a *Agent) easeSource(ctx context.Context, o *decide.Observation) {
	if p := o.Local.Postgres; !p.Streaming || p.Timeline != o.View.Key.Timeline {
		return
	}
	if err := a.pg.EaseSource(ctx); err != nil {
		a.log.WarnContext(ctx, "settings of a hurried standby not taken back", "error", err)
	}
}

func (a *Agent) advanceSlots(ctx context.Context, o *decide.Observation, others []cluster.NodeID) {
	if err := a.pg.AdvanceSlots(ctx, decide.SlotsTo(o, others)); err != nil {
		a.log.WarnContext(ctx, "replication slots not advanced", "error", err)
	}
}

// configureStandby applies a standby's settings, unless a take-over runs, which sets the list itself.
func (a *Agent) configureStandby(ctx context.Context) (Settings, bool) {
	if a.lists.Acquire(ctx, 1) != nil {
		return Settings{}, false // in the next round
	}
	defer a.lists.Release(1)
	o := a.observe()
	if !a.stillStandby() {
		return Settings{}, false
	}
	me := cluster.Member{Node: a.opt.Self, Incarnation: o.Local.Postgres.Incarnation}
	settings := a.settings(o, me)
	a.mu.Lock()
	if !reflect.DeepEqual(a.prepared.list, settings.Sync) {
		a.prepared = preparedList{} // another list comes into force
	}
	a.mu.Unlock()
	if err := a.pg.Configure(ctx, settings); err != nil {
		a.log.WarnContext(ctx, "settings not applied", "error", err)
		return settings, false
	}
	return settings, true
}

// proveEarly proves the standby's list, once in each run of Postgres and for each list, while nothing waits for it: the
// first proof may take a checkpoint (S3), which a promotion must not.
func (a *Agent) proveEarly(ctx context.Context, o *decide.Observation, l SyncList) {
	want := preparedList{l, o.Local.Postgres.StartTime}
	if l.K == 0 || a.isPrepared(want) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkpointLimit)
	a.setEndEarly(cancel)
	defer a.setEndEarly(nil)
	defer cancel()
	if err := a.prepare(ctx, l, want.start, a.stillStandby); err != nil {
		a.log.InfoContext(ctx, "list for a promotion not proven yet", "reason", err)
	}
}

func (a *Agent) setEndEarly(cancel context.CancelFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endEarly = cancel
}

// stillStandby says whether no take-over has begun that sets the list itself.
func (a *Agent) stillStandby() bool {
	o := a.observe()
	return o.Job.Action == "" && o.Promised <= o.View.Key.Term && o.View.Key.Holder != a.opt.Self && o.Local.Postgres.Role == cluster.RoleStandby
}

// keepPrimary records the moving LSN in the mode off (C1 d).
func (a *Agent) keepPrimary(ctx context.Context, o *decide.Observation) {
	pos := cluster.Position{Timeline: o.Local.Postgres.Timeline, LSN: o.Local.Postgres.Current}
	if o.View.Config.SynchronousMode != cluster.SyncOff || o.LeaseState != decide.LeaseLive || pos == o.View.LastLSN.Position {
		return
	}
	if _, err := a.raft.Apply(ctx, cluster.RecordLSN{Node: a.opt.Self, Term: o.View.Key.Term, Position: pos}); err != nil {
		a.log.InfoContext(ctx, "LSN not recorded", "reason", err)
	}
}
