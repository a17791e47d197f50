package decide

import "pgquorum/cluster"

// Next chooses the one action for this observation: the first rule that fits.
func Next(o *Observation) Decision {
	if d, ok := fence(o); ok {
		return d
	}
	if d, ok := cannotWrite(o); ok {
		return d
	}
	if d, ok := notMember(o); ok {
		return d
	}
	waiting := Decision{Action: None}
	for _, rule := range []func(*Observation) (Decision, bool){takeOver, holder, standby} {
		d, ok := rule(o)
		switch {
		case !ok, leaving(o) && starts(d.Action):
			continue
		case d.Action == Wait: // a rule that waits for others leaves this node's own duties to the rules after it
			if waiting.Action == None {
				waiting = d
			}
		case needsPostgres(d.Action) && o.Job.Action != "":
			if waiting.Action == None {
				waiting = Decision{Action: Wait, Reason: ReasonJob, Detail: string(o.Job.Action)}
			}
		default:
			if at := o.retryAfter(d.Action); !at.IsZero() {
				if waiting.Action == None {
					waiting = Decision{Action: Wait, Reason: ReasonRetry, Detail: string(d.Action) + ": " + string(d.Reason), Wake: at}
				}
				continue
			}
			return d
		}
	}
	return waiting
}

// leaving says whether the agent is on its way out.
func leaving(o *Observation) bool { return o.Request != nil && o.Request.Leaving }

// starts says whether an action begins something that a stopping agent would leave half done.
func starts(a Action) bool {
	switch a {
	case InitDB, StartStandby, StartPrimary, Clone, Rewind, ClaimData:
		return true
	}
	return false
}

// needsPostgres says whether an action changes the local Postgres: one of these runs at a time.
func needsPostgres(a Action) bool {
	switch a {
	case InitDB, StartStandby, StartPrimary, Promote, StopPostgres, Clone, Rewind, ClaimData, Switchover, HandOver:
		return true
	}
	return false
}

// running says whether the local Postgres answers in the given role.
func running(o *Observation, role cluster.Role) bool {
	p := o.Local.Postgres
	return p.State == cluster.PostgresRunning && p.Role == role
}
