package raftfsm

import (
	"fmt"
	"testing"
	"time"

	"pgquorum/cluster"
)

func configOf(edit func(*cluster.Dynamic)) cluster.SetConfig {
	c := cluster.SetConfig{Config: testConfig()}
	edit(&c.Config)
	return c
}

// L7: a config under which the lease would not be safe is refused with its numbers.
func TestL7SetConfig(t *testing.T) {
	t.Parallel()
	parameters := func(c *cluster.Dynamic) {
		c.Parameters, c.PgHBA = map[string]string{"work_mem": "8MB"}, []string{"host all all all scram-sha-256"}
	}
	runCases(t, healthyMachine, []applyCase{
		{name: "as it is", cmd: configOf(func(*cluster.Dynamic) {}), same: true},
		{name: "mode", cmd: configOf(func(c *cluster.Dynamic) { c.SynchronousMode = cluster.SyncOff }), check: func(v *cluster.View) bool { return v.Config.SynchronousMode == cluster.SyncOff }},
		{name: "parameters", cmd: configOf(parameters), check: func(v *cluster.View) bool {
			return v.Config.Parameters["work_mem"] == "8MB" && len(v.Config.PgHBA) == 1
		}},
		{name: "parameters again", prepare: []cluster.Command{configOf(parameters)}, cmd: configOf(parameters), same: true},
		{name: "unknown mode", cmd: configOf(func(c *cluster.Dynamic) { c.SynchronousMode = "maybe" }), refused: `synchronous_mode "maybe": want quorum, on or off`},
		{name: "no mode", cmd: configOf(func(c *cluster.Dynamic) { c.SynchronousMode = "" }), refused: `synchronous_mode ""`},
		{name: "node count", cmd: configOf(func(c *cluster.Dynamic) { c.SynchronousNodeCount = -1 }), refused: "synchronous_node_count -1"},
		{name: "lease beyond Raft's", cmd: configOf(func(c *cluster.Dynamic) { c.HeartbeatTimeout = 800 * time.Millisecond }), refused: "lease_ttl 800ms must be under the leader lease timeout 720ms"},
		{name: "no heartbeat", cmd: configOf(func(c *cluster.Dynamic) { c.HeartbeatTimeout = 0 }), refused: "must be under the leader lease timeout 0s"},
		{name: "no lease", cmd: configOf(func(c *cluster.Dynamic) { c.Lease = cluster.LeaseParams{} }), refused: "want ttl > 0"},
		{name: "L4 a lease so long that W overflows", cmd: configOf(func(c *cluster.Dynamic) {
			c.HeartbeatTimeout = 3 * time.Hour
			c.Lease = cluster.DefaultLease(c.HeartbeatTimeout)
		}), refused: "lease_ttl 2h24m0s must not exceed 1h0m0s"},
	})
}

func TestAddEvent(t *testing.T) {
	t.Parallel()
	e := cluster.AddEvent{Event: cluster.Event{ID: 99, Time: "2026-01-01T00:00:01Z", Type: "rewound", Node: "n2", Term: 1, Detail: "1 MB"}}
	timeless := e
	timeless.Event.Time = ""
	runCases(t, healthyMachine, []applyCase{
		{name: "appended with the log's own ID", cmd: e, check: func(v *cluster.View) bool {
			n := len(v.Events)
			return v.Events[n-1].Detail == "1 MB" && v.Events[n-1].ID == v.Events[n-2].ID+1
		}},
		{name: "again", prepare: []cluster.Command{e}, cmd: e, same: true},
		{name: "again, after another", prepare: []cluster.Command{e, timeless}, cmd: e, same: true},
		{name: "without a time nothing tells two apart", prepare: []cluster.Command{timeless}, cmd: timeless, check: func(v *cluster.View) bool { return len(v.Events) >= 2 }},
	})
}

func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i := range maxEvents + 5 {
		m.must(cluster.AddEvent{Event: cluster.Event{Time: fmt.Sprint(i), Type: "x"}})
	}
	events := m.View().Events
	if len(events) != maxEvents || events[0].ID != 6 || events[maxEvents-1].ID != maxEvents+5 || events[0].Time != "5" {
		t.Errorf("%d events from %+v to %+v", len(events), events[0], events[len(events)-1])
	}
}
