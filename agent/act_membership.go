package agent

import (
	"context"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// voteLimit bounds one wait for a node's log to catch up; it is tried again.
const voteLimit = 10 * time.Second

// tendMembers carries out decide.Membership, beside the loop: a change waits for its commit, a vote for the node's log, and no
// failover may wait for either. Raft itself refuses a change before the key is settled, and lowers the lease first (L6).
func (a *Agent) tendMembers(ctx context.Context) {
	tick := time.NewTicker(a.opt.Heartbeat / 2)
	defer tick.Stop()
	var said decide.Decision
	for {
		d := decide.Membership(a.observe())
		if told := (decide.Decision{Action: d.Action, Reason: d.Reason, Detail: d.Detail, Node: d.Node}); told.Action != said.Action || told.Node != said.Node || told.Detail != said.Detail {
			said = told
			if d.Action != decide.None {
				a.log.InfoContext(ctx, "membership", "action", d.Action, "reason", d.Reason, "detail", d.Detail, "node", d.Node, "uid", d.Joins.UID)
			}
		}
		if d.Action != decide.None && d.Action != decide.Wait {
			if err := a.changeMembers(ctx, d); err != nil {
				a.log.WarnContext(ctx, "membership did not change", "action", d.Action, "node", d.Node, "error", err)
			} else if ctx.Err() == nil {
				continue // the next step
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// changeMembers is one step.
func (a *Agent) changeMembers(ctx context.Context, d decide.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, voteLimit)
	defer cancel()
	var err error
	switch d.Action {
	case decide.RemoveServer:
		err = a.raft.RemoveServer(ctx, d.Node)
	case decide.Readmit:
		_, err = a.raft.Apply(ctx, cluster.Readmit{Node: d.Node, From: a.raft.View().Nodes[d.Node].UID, UID: d.Joins.UID, RaftAddr: d.Joins.RaftAddr})
	case decide.AddServer:
		err = a.raft.AddNonvoter(ctx, d.Node, d.Joins.RaftAddr)
	case decide.GiveVote:
		err = a.raft.AddVoter(ctx, d.Node, d.Joins.RaftAddr)
	}
	if err == nil {
		a.event(ctx, "membership", a.raft.View().Key.Term, string(d.Action)+" "+string(d.Node))
	}
	return err
}
