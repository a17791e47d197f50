package decide

import (
	"strings"
	"testing"

	"pgquorum/cluster"
)

const fault = "raft.data_dir: a write has not ended 2s after it began"

func failing(o *Observation) { o.Local.DiskFault = fault }

// B2: who cannot write is fenced if it may serve, and closes Raft's transport if anything hangs on it, once.
func TestB2Disk(t *testing.T) {
	leads := func(o *Observation) { o.Raft.State = cluster.RaftLeader }
	noLease := func(o *Observation) { o.LeaseState, o.Lease = LeaseNone, cluster.Lease{} }
	for _, c := range []struct {
		name string
		self string
		edit func(*Observation)
		want Action
	}{
		{"it can write", "n1", func(*Observation) {}, ""},
		{"holder and leader: fenced first", "n1", failing, Fence},
		{"then the transport, whatever the guard said", "n1", func(o *Observation) { failing(o); o.DiskFenced = true }, CloseTransport},
		{"Postgres is gone after the fence: the transport still", "n1", func(o *Observation) {
			failing(o)
			noLease(o)
			o.DiskFenced = true
			o.Raft.State = cluster.RaftFollower
			o.View.Key.Holder = "n2"
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresStopped, ""
		}, CloseTransport},
		{"closed: nothing more", "n1", func(o *Observation) { failing(o); o.DiskFenced, o.TransportClosed = true, true }, Wait},
		{"closed, and it can write again", "n1", func(o *Observation) { o.DiskFenced, o.TransportClosed = true, true }, EndAgent},
		{"it can write again before the transport was closed", "n1", func(o *Observation) { o.DiskFenced = true }, ""},
		{"holder that does not lead", "n1", func(o *Observation) { failing(o); o.Raft.State = cluster.RaftFollower }, Fence},
		{"holder whose lease has ended", "n1", func(o *Observation) { failing(o); noLease(o) }, Fence},
		{"holder whose Postgres hangs", "n1", func(o *Observation) {
			failing(o)
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresHung, ""
		}, Fence},
		{"released: it only leads", "n1", func(o *Observation) {
			failing(o)
			noLease(o)
			o.View.Key.Released = true
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresStopped, ""
		}, CloseTransport},
		{"follower", "n2", failing, Wait},
		{"follower that leads Raft", "n2", func(o *Observation) { failing(o); leads(o) }, CloseTransport},
		{"follower with a lease that the FSM does not show yet", "n2", func(o *Observation) {
			failing(o)
			o.LeaseState, o.Lease.Term = LeaseLive, 4
		}, Fence},
		{"follower with a primary that somebody promoted", "n2", func(o *Observation) {
			failing(o)
			o.Local.Postgres.Role = cluster.RolePrimary
		}, Fence},
		{"arbiter that leads Raft", "n2", func(o *Observation) {
			failing(o)
			leads(o)
			o.Local.Postgres = cluster.PostgresStatus{Data: cluster.DataAbsent, State: cluster.PostgresStopped}
		}, CloseTransport},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy(c.self)
			c.edit(o)
			d, ok := Disk(o)
			if d.Action != c.want || ok != (c.want != "") {
				t.Fatalf("Disk = %q because %q, want %q", d.Action, d.Reason, c.want)
			}
			if d.Action != EndAgent && d.Detail != o.Local.DiskFault {
				t.Errorf("detail %q, want the disk's %q", d.Detail, o.Local.DiskFault)
			}
			if d.Action == Fence && d.Term != max(3, o.Lease.Term) {
				t.Errorf("fence of term %d", d.Term)
			}
		})
	}
}

// B2: the loop begins nothing on a node that cannot write, but fences a primary without a lease (I2) as ever.
func TestB2NextBeginsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		base func() *Observation
		edit func(*Observation)
		want Action
	}{
		{"it would take over", taking, failing, Wait},
		{"it would start its standby", func() *Observation { return healthy("n2") }, func(o *Observation) {
			failing(o)
			o.Local.Postgres.State, o.Local.Postgres.Role = cluster.PostgresStopped, ""
		}, Wait},
		{"it would change the rule", func() *Observation { return healthy("n1") }, func(o *Observation) { failing(o); o.RuleProven = false }, Wait},
		{"I2 primary without a lease", func() *Observation { return healthy("n1") }, func(o *Observation) { failing(o); o.LeaseState = LeaseNone }, Fence},
		{"closed, the agent is about to end", taking, func(o *Observation) { o.TransportClosed = true }, Wait},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.base()
			if d := Next(o); d.Action == Wait {
				t.Fatalf("with a disk that works it waits too: %q", d.Reason)
			}
			c.edit(o)
			if d := Next(o); d.Action != c.want {
				t.Errorf("Next = %q because %q, want %q", d.Action, d.Reason, c.want)
			}
		})
	}
}

// B2: who cannot write is no candidate, and promises nothing.
func TestB2NoCandidate(t *testing.T) {
	s := statusFor("n2")
	if no := CannotPromote(s, cluster.Tags{}); no != "" {
		t.Fatalf("n2 cannot be promoted: %s", no)
	}
	s.DiskFault = fault
	if no := CannotPromote(s, cluster.Tags{}); !strings.Contains(no, fault) {
		t.Errorf("cannot be promoted because %q, want the disk named", no)
	}
	o := healthy("n2")
	if no := MayPromise(o, 4, 8); no != "" {
		t.Fatalf("no promise: %s", no)
	}
	failing(o)
	if no := MayPromise(o, 4, 8); !strings.Contains(no, fault) {
		t.Errorf("no promise because %q, want the disk named", no)
	}
}
