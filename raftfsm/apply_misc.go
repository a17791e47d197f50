package raftfsm

import (
	"fmt"
	"maps"
	"reflect"

	"pgquorum/cluster"
)

// maxEvents bounds the cluster's log.
const maxEvents = 1000

// applySetConfig replaces the dynamic config. What would make the lease unsafe is refused with its numbers (L7).
func applySetConfig(v *cluster.View, c cluster.SetConfig) outcome {
	switch {
	case !knownMode(c.Config.SynchronousMode):
		return refuse(c, "synchronous_mode %q: want quorum, on or off", c.Config.SynchronousMode)
	case c.Config.SynchronousNodeCount < 0:
		return refuse(c, "synchronous_node_count %d: want 0 or more", c.Config.SynchronousNodeCount)
	}
	if err := c.Config.Lease.Check(cluster.DefaultTimings(c.Config.HeartbeatTimeout)); err != nil {
		return refuse(c, "%v", err)
	}
	if why := leaseObstacle(c.Config.Lease); why != "" {
		return refuse(c, "%s", why)
	}
	if reflect.DeepEqual(v.Config, c.Config) {
		return same(nil)
	}
	v.Config = c.Config
	record(v, "", "config_changed", "", "synchronous_mode %s, synchronous_node_count %d, strict %t, heartbeat_timeout %v, lease_ttl %v",
		c.Config.SynchronousMode, c.Config.SynchronousNodeCount, c.Config.SynchronousModeStrict, c.Config.HeartbeatTimeout, c.Config.Lease.TTL)
	return done(nil)
}

// applyAddEvent appends to the log. An event that stands in it with the same time is the same one, applied again.
func applyAddEvent(v *cluster.View, c cluster.AddEvent) outcome {
	e := c.Event
	for _, old := range v.Events {
		e.ID = old.ID
		if e.Time != "" && old == e {
			return same(nil)
		}
	}
	appendEvent(v, e)
	return done(nil)
}

// record enters a command's own event. when is the command's time, empty where it has none: the FSM has no clock.
func record(v *cluster.View, when, kind string, node cluster.NodeID, format string, args ...any) {
	appendEvent(v, cluster.Event{Time: when, Type: kind, Node: node, Term: v.Key.Term, Detail: fmt.Sprintf(format, args...)})
}

// appendEvent gives e the next ID and drops the oldest beyond the bound. The log is never emptied, so its last ID
// says how many there ever were.
func appendEvent(v *cluster.View, e cluster.Event) {
	e.ID = 1
	if n := len(v.Events); n > 0 {
		e.ID = v.Events[n-1].ID + 1
	}
	keep := v.Events[max(0, len(v.Events)+1-maxEvents):]
	events := make([]cluster.Event, 0, len(keep)+1)
	v.Events = append(append(events, keep...), e)
}

// with gives a copy of m with one entry more or replaced: readers hold the old one.
func with[M ~map[K]V, K comparable, V any](m M, key K, value V) M {
	copied := make(M, len(m)+1)
	maps.Copy(copied, m)
	copied[key] = value
	return copied
}
