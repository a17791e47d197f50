package decide

import (
	"fmt"
	"slices"
	"time"

	"pgquorum/cluster"
)

// The numbers of B2 for a disk that fills (ADR 0030).
const (
	// ShortPatience is how long a primary's disk must have been short of space before the primary moves: a query that
	// fills a disk for some seconds is no reason. One that is full has refused a block, or is about to.
	ShortPatience = 10 * time.Second
	// FullRest is how long a primary that runs stays after it has acquired the key, whatever its disk says: were the
	// disks to fill in turn, the primary would go round with them.
	FullRest = time.Minute
	// The pauses between starts of a Postgres whose disk is full.
	firstFullPause, longestFullPause = time.Second, time.Minute
)

// DiskFault says why a node cannot write (B2), of the disks that it can do nothing without; empty: it can.
func DiskFault(disks []cluster.DiskStatus) string {
	for _, d := range disks {
		if vital(d) && d.Alarm.Unwritable() {
			return d.Why
		}
	}
	return ""
}

func vital(d cluster.DiskStatus) bool { return slices.ContainsFunc(d.Uses, cluster.DiskUse.Vital) }

// Full says why a node has no room to be promoted into: end of recovery alone asks for a segment of WAL. Empty: it has.
func Full(s cluster.NodeStatus) string {
	for _, d := range s.Disks {
		if vital(d) && d.Alarm == cluster.DiskFull {
			return d.Why
		}
	}
	return ""
}

// Short says why a node is short of space, or full, where it matters for it as a primary; empty: it has room.
func Short(s cluster.NodeStatus) string {
	for _, d := range s.Disks {
		if vital(d) && (d.Alarm == cluster.DiskShort || d.Alarm == cluster.DiskFull) {
			return d.Why
		}
	}
	return ""
}

// worse says why a node is the last choice among good candidates: it is short of space, or a tablespace of it cannot be
// written, so that its replay may never end. It is promoted only if nobody else will do: a primary with a little room
// serves, and none does not.
func worse(s cluster.NodeStatus) string {
	if why := Short(s); why != "" {
		return why
	}
	for _, d := range s.Disks {
		if d.Alarm.Unwritable() || d.Alarm == cluster.DiskFull {
			return d.Why
		}
	}
	return ""
}

// roomy estimates, as soonest does, who of those with room could take over, and how soon.
func roomy(o *Observation) (name cluster.NodeID, t time.Duration, ok bool) {
	return soonestOf(o, o.lately, func(s cluster.NodeStatus) bool { return worse(s) == "" })
}

// leaveFullDisk is B2 for a primary that runs on a disk without room: it hands over while a standby that has room is
// ready, and stays where it is while there is none, for then a failover would only be repeated.
func leaveFullDisk(o *Observation) (Decision, bool) {
	why := Short(o.Local)
	if why == "" || !o.leads() || o.Now.Sub(o.HoldsSince) < FullRest {
		return Decision{}, false
	}
	if Full(o.Local) == "" && o.Now.Sub(o.ShortSince) < ShortPatience {
		return Decision{}, false
	}
	other, takes, can := roomy(o)
	if !can || takes > ReadyWithin {
		return Decision{}, false
	}
	return toRoom(o, other, why), true
}

// reviveFull is B2 for a holder whose Postgres has gone on a disk without room, most likely for that (PostgreSQL ends when
// it cannot write WAL): another that has room takes over, however long that takes, since a restart would end the same way.
// While there is none the node keeps the key and tries again, with growing pauses and at once when there is room: a
// hand-over among full nodes would cost a term each time and serve nobody.
func reviveFull(o *Observation, why string) (Decision, bool) {
	if other, _, can := roomy(o); can {
		return toRoom(o, other, why), true
	}
	if higherPosition(o) { // C3 stands, whatever room there is
		return handOver(o, ReasonCrashed)
	}
	if until, unread := unreadUntil(o); unread {
		return Decision{Action: Wait, Reason: ReasonUnread, Wake: until}, true
	}
	if until := fullPause(o); o.Now.Before(until) {
		return Decision{Action: Wait, Reason: ReasonDiskFull, Detail: why, Wake: until}, true
	}
	return Decision{Action: StartPrimary, Reason: ReasonDiskFull, Term: o.View.Key.Term, Detail: why}, true
}

// promoteFull is B2 for an acquisition whose node has run out of space meanwhile: it goes to another that has room.
func promoteFull(o *Observation) (Decision, bool) {
	why := Full(o.Local)
	other, _, can := roomy(o)
	if why == "" || !can {
		return Decision{}, false
	}
	return toRoom(o, other, why), true
}

func toRoom(o *Observation, other cluster.NodeID, why string) Decision {
	return Decision{Action: HandOver, Reason: ReasonDiskFull, Node: other, Term: o.View.Key.Term, Detail: fmt.Sprintf("%s; %s has room", why, other)}
}

// fullPause is until when a Postgres that has ended on a disk without room is not started again; zero: now. The first
// start follows at once.
func fullPause(o *Observation) cluster.Instant {
	if Short(o.Local) == "" || o.FullStops <= 1 || o.StoppedSince.IsZero() {
		return 0
	}
	return o.StoppedSince.Add(min(firstFullPause<<min(o.FullStops-2, 8), longestFullPause))
}
