package agent

import (
	"context"
	"fmt"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// applyLimit bounds one command to Raft.
const applyLimit = 5 * time.Second

// act carries out one decision. It answers true when the next turn should follow at once. Actions that take long run
// as a job beside the loop and wake it when they end.
func (a *Agent) act(ctx context.Context, o *decide.Observation, d decide.Decision) bool {
	now := map[decide.Action]func(context.Context, *decide.Observation, decide.Decision) error{
		decide.Fence:       a.fence,
		decide.Barrier:     a.barrier,
		decide.AskStatus:   a.askStatus,
		decide.HandBack:    a.handBack,
		decide.AskPromises: a.askPromises,
		decide.CatchUp:     a.catchUp,
		decide.Transfer:    a.transfer,
		decide.Acquire:     a.acquire,
		decide.Thaw:        a.thaw,
		decide.Claim:       a.claim,
		decide.SetSystemID: a.setSystemID,
		decide.Register:    a.register,
		decide.Follow:      a.follow,
		decide.ChangeRule:  a.changeRule,
		decide.RecordFork:  a.recordFork,
	}
	jobs := map[decide.Action]func(context.Context, *decide.Observation, decide.Decision) error{
		decide.InitDB:       a.initDB,
		decide.StartStandby: a.startStandby,
		decide.StartPrimary: a.startPrimary,
		decide.Promote:      a.promote,
		decide.StopPostgres: a.stopPostgres,
		decide.Clone:        a.clone,
		decide.Rewind:       a.rewind,
		decide.ClaimData:    a.claimData,
		decide.HandOver:     a.handOver,
		decide.Switchover:   a.switchover,
		decide.SettleRule:   a.settleRule,
	}
	if f := now[d.Action]; f != nil {
		err := f(ctx, o, d)
		a.tried(ctx, d, err)
		return err == nil
	}
	f := jobs[d.Action]
	if f == nil {
		a.tried(ctx, d, fmt.Errorf("action %s: no such action", d.Action))
		return false
	}
	a.jobs.start(ctx, d, o.Now, func(ctx context.Context) {
		err := f(ctx, o, d)
		a.progress("")
		if d.Action != decide.HandOver && d.Action != decide.Switchover && d.Action != decide.SettleRule {
			look, cancel := context.WithTimeout(ctx, a.opt.Heartbeat/2)
			defer cancel()
			a.watch.forget()
			a.watch.refresh(look)
		}
		a.tried(ctx, d, err)
	}, a.Wake)
	return false
}

// fence makes sure that the local Postgres acknowledges nothing more (I2).
func (a *Agent) fence(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	a.keeper.end(d.Term)
	if err := a.opt.Guard.Fence(ctx, d.Term); err != nil {
		return err
	}
	if p := a.watch.refresh(ctx).postgres; p.State != cluster.PostgresStopped && p.Role == cluster.RolePrimary {
		// The guard has no lease to take away from a Postgres that somebody promoted by hand. One that hangs may wake.
		if err := a.pg.Stop(ctx, time.Second); err != nil {
			return err
		}
		if p := a.watch.refresh(ctx).postgres; p.State != cluster.PostgresStopped {
			return fmt.Errorf("fence term %d: postgres is %s still", d.Term, p.State)
		}
	}
	a.event(ctx, "fenced", d.Term, string(d.Reason)+" "+d.Detail)
	return nil
}

// thaw lets a frozen primary go on (U6). Whatever comes of it, the next decision needs a new look.
func (a *Agent) thaw(ctx context.Context, o *decide.Observation, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	err := a.opt.Guard.Thaw(ctx, o.Local.Guard.Frozen, d.Term)
	look, done := context.WithTimeout(ctx, a.opt.Heartbeat/2)
	defer done()
	a.watch.refresh(look)
	if err != nil {
		return err
	}
	a.markPhase("thawed", a.opt.Clock())
	a.event(ctx, "thawed", d.Term, fmt.Sprintf("primary on timeline %d goes on, frozen in term %d", o.View.Key.Timeline, o.Local.Guard.Frozen))
	return nil
}

// register enters this node into the registry, through the leader.
func (a *Agent) register(ctx context.Context, o *decide.Observation, _ decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	n := a.opt.Node
	n.Incarnation = o.Local.Postgres.Incarnation
	if n.Incarnation == "" {
		n.Incarnation = o.View.Nodes[a.opt.Self].Incarnation
	}
	if o.Raft.State == cluster.RaftLeader {
		_, err := a.raft.Apply(ctx, cluster.Register{Node: n})
		return err
	}
	return a.toLeader(ctx, "/register", n)
}

// toLeader sends a call to the present Raft leader.
func (a *Agent) toLeader(ctx context.Context, path string, in any) error {
	leader := a.raft.Status().Leader
	if leader == "" || leader == a.opt.Self {
		return fmt.Errorf("%s: no leader is known", path)
	}
	return a.peers.call(ctx, leader, path, in, nil)
}

// event records what happened in the cluster's log. It waits for nobody: an event that finds no leader is only logged.
func (a *Agent) event(ctx context.Context, kind string, term cluster.Term, detail string) {
	e := cluster.Event{Time: now(), Type: kind, Node: a.opt.Self, Term: term, Detail: detail}
	a.log.InfoContext(ctx, "event", "type", kind, "term", term, "detail", detail)
	ctx = context.WithoutCancel(ctx)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, applyLimit)
		defer cancel()
		var err error
		if a.raft.Status().State == cluster.RaftLeader {
			_, err = a.raft.Apply(ctx, cluster.AddEvent{Event: e})
		} else {
			err = a.toLeader(ctx, "/event", e)
		}
		if err != nil {
			a.log.InfoContext(ctx, "event not recorded in the cluster", "type", kind, "reason", err)
		}
	}()
}

// eventOnce records the first try of an action; the tries after it are in the log only.
func (a *Agent) eventOnce(ctx context.Context, o *decide.Observation, d decide.Decision, kind, detail string) {
	if o.Failed(d.Action) == 0 {
		a.event(ctx, kind, d.Term, detail)
	}
}

// now is the time of day, for people only.
func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// settings are Postgres's as this node should run it, with the list for when it is no primary (S3).
func (a *Agent) settings(o *decide.Observation, m cluster.Member) Settings {
	l := decide.StandbyList(o)
	return Settings{Dynamic: o.View.Config, Sync: SyncList{Mode: l.Mode, K: l.K, Members: l.Standbys, Timeline: decide.NextTimeline(o)}, Me: m}
}

// source gives the address of a node to stream or copy from.
func (a *Agent) source(o *decide.Observation, d decide.Decision) (*Source, error) {
	if d.Source == "" {
		return nil, nil
	}
	n, ok := o.View.Nodes[d.Source]
	if !ok || n.PostgresAddr == "" {
		return nil, fmt.Errorf("source %s: not in the registry", d.Source)
	}
	return &Source{Node: d.Source, Term: d.Term, Addr: n.PostgresAddr, Timeline: o.View.Key.Timeline}, nil
}
