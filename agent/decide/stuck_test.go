package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// Who leads Raft and can propose nothing ends its agent, once no transfer can be under way any more.
func TestStuck(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want Action
	}{
		{"nothing is refused", func(*Observation) {}, ""},
		{"a transfer may still be under way", func(o *Observation) { o.Raft.TransferStuck = 3 * testHeartbeat }, ""},
		{"none can be", func(o *Observation) { o.Raft.TransferStuck = 3*testHeartbeat + time.Millisecond }, EndAgent},
		{"a follower proposes nothing anyway", func(o *Observation) {
			o.Raft.TransferStuck = time.Minute
			o.Raft.State = cluster.RaftFollower
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			if d, ok := Stuck(o); d.Action != c.want || ok != (c.want != "") {
				t.Errorf("got %q %v, want %q", d.Action, ok, c.want)
			}
		})
	}
}
