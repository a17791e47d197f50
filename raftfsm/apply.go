package raftfsm

import (
	"fmt"

	"pgquorum/cluster"
)

// apply makes of the draft v what the command makes of the state. v is a shallow copy: a rule replaces maps and
// slices, and never writes into one.
func apply(v *cluster.View, cmd cluster.Command) outcome {
	switch c := cmd.(type) {
	case cluster.Claim:
		return applyClaim(v, c)
	case cluster.SetSystemID:
		return applySetSystemID(v, c)
	case cluster.Register:
		return applyRegister(v, c)
	case cluster.Readmit:
		return applyReadmit(v, c)
	case cluster.Recover:
		return applyRecover(v, c)
	case cluster.AcquireLeader:
		return applyAcquire(v, c)
	case cluster.ReleaseLeader:
		return applyRelease(v, c)
	case cluster.AddRule:
		return applyAddRule(v, c)
	case cluster.DropRules:
		return applyDropRules(v, c)
	case cluster.RecordFork:
		return applyRecordFork(v, c)
	case cluster.RecordLSN:
		return applyRecordLSN(v, c)
	case cluster.CountHandback:
		return applyCountHandback(v, c)
	case cluster.Refuse:
		return applyRefuse(v, c)
	case cluster.SetConfig:
		return applySetConfig(v, c)
	case cluster.SetLease:
		return applySetLease(v, c)
	case cluster.AddEvent:
		return applyAddEvent(v, c)
	}
	panic(fmt.Sprintf("command %q is decoded but has no rule", cmd.Kind()))
}
