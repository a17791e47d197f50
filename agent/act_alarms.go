package agent

import (
	"context"
	"errors"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// maxUntold bounds the events of disks that wait for a leader.
const maxUntold = 16

// alarms tells each alarm of a disk that began, changed or ended: in the log at once, and in the cluster's events as soon
// as a leader takes it. One that leads Raft and cannot write has to wait for the next leader.
func (a *Agent) alarms(ctx context.Context, o *decide.Observation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range o.Local.Disks {
		before := a.alarmed[d.Dir]
		if a.alarmed[d.Dir] = d; d.Alarm == before.Alarm {
			continue
		}
		kind, detail := "disk_alarm", string(d.Alarm)+": "+d.Why
		if d.Alarm == cluster.DiskWell {
			kind, detail = "disk_well", "no longer "+string(before.Alarm)+": "+before.Why
		}
		a.log.WarnContext(ctx, "disk alarm changed", "dir", d.Dir, "alarm", d.Alarm, "before", before.Alarm, "reason", d.Why, "free_bytes", d.Free)
		a.untold = append(a.untold, cluster.Event{Time: now(), Type: kind, Node: a.opt.Self, Term: o.View.Key.Term, Detail: detail})
	}
	if len(a.untold) > 0 {
		a.Wake()
	}
	a.untold = a.untold[max(0, len(a.untold)-maxUntold):]
	if len(a.untold) > 0 && !a.telling {
		a.telling = true
		go a.tellUntold(context.WithoutCancel(ctx), o.Local.DiskFault != "")
	}
}

// tellUntold records what waits, oldest first, until there is nobody who takes it.
func (a *Agent) tellUntold(ctx context.Context, unwritable bool) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	for {
		a.mu.Lock()
		if len(a.untold) == 0 {
			a.telling = false
			a.mu.Unlock()
			return
		}
		e := a.untold[0]
		a.mu.Unlock()
		err := a.record(ctx, e, unwritable)
		a.mu.Lock()
		if err != nil {
			a.telling = false
			a.mu.Unlock()
			a.log.DebugContext(ctx, "event of a disk waits for a leader", "type", e.Type, "reason", err)
			return
		}
		if len(a.untold) > 0 && a.untold[0] == e {
			a.untold = a.untold[1:]
		}
		a.mu.Unlock()
	}
}

// record gives an event to the leader: this node, the one that Raft names, or, where the transport is closed (B2), the one
// that says so itself.
func (a *Agent) record(ctx context.Context, e cluster.Event, unwritable bool) error {
	raft := a.raft.Status()
	switch {
	case raft.State == cluster.RaftLeader && unwritable:
		return errors.New("this node leads, and cannot write")
	case raft.State == cluster.RaftLeader:
		_, err := a.raft.Apply(ctx, cluster.AddEvent{Event: e})
		return err
	case !unwritable:
		return a.toLeader(ctx, "/event", e)
	}
	for n, p := range a.peers.views() {
		if p.Err == "" && p.Status.Raft.State == cluster.RaftLeader {
			return a.peers.call(ctx, n, "/event", e, nil)
		}
	}
	return errors.New("no leader is known")
}
