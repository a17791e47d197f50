package decide

import (
	"fmt"

	"pgquorum/cluster"
)

// Stuck ends the agent of a node that leads Raft and can propose nothing, for a transfer of leadership that has long ended
// (raft issue 696; raftfsm, transfers). Raft itself sees nothing wrong: heartbeats go on and keep everybody else from being
// elected. A new process is rid of it; the guard stays and Postgres with it, as after any restart of the agent (L9).
//
// A transfer takes Raft two election timeouts at most; after a third nobody is making one.
func Stuck(o *Observation) (Decision, bool) {
	if o.Raft.State != cluster.RaftLeader || o.Raft.TransferStuck <= 3*o.Heartbeat {
		return Decision{}, false
	}
	return Decision{Action: EndAgent, Reason: ReasonRaftStuck,
		Detail: fmt.Sprintf("every proposal was refused for %v", o.Raft.TransferStuck)}, true
}
