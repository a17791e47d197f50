package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// formerHolder is n2 as the holder that leads Raft, has lost its lease and cannot promise itself, for long enough: n3 has
// promised term 4.
func formerHolder() *Observation {
	o := taking()
	o.View.Key.Holder, o.View.Key.Member = "n2", member("n2")
	o.TakeOver.BarrierAt = 0 // the ledger began after its own acquisition
	o.TakeOver.Began = o.Now.Add(-o.View.Key.Lease.Wait() - heirAfter)
	delete(o.TakeOver.Promises, "n2")
	return o
}

// ineligible takes the status away that a node needs to be promoted.
func ineligible(n cluster.NodeID, why string) func(*Observation) {
	return func(o *Observation) {
		s := o.TakeOver.Statuses[n]
		s.CanPromote = why
		o.TakeOver.Statuses[n] = s
	}
}

// K5, K6: who gets leadership from a holder that cannot vouch for its own Postgres. Nobody, while it may still promise
// itself, or while another's lease is what is waited for.
func TestK6Heir(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*Observation)
		want cluster.NodeID
	}{
		{"it cannot promise", func(*Observation) {}, "n3"},
		{"a nanosecond earlier it still tries to", func(o *Observation) { o.TakeOver.Began++ }, ""},
		{"a longer ttl, a longer wait (L4)", func(o *Observation) { o.View.Key.Lease.TTL += time.Second }, ""},
		{"it has not begun to gather", func(o *Observation) { o.TakeOver.Began = 0 }, ""},
		{"it has promised after all", func(o *Observation) { o.TakeOver.Promises["n2"] = promised("n2", 4, pos(2, 1000)) }, ""},
		{"another holds the key: its lease is waited for", func(o *Observation) { o.View.Key.Holder = "n1" }, ""},
		{"it has released: nothing is to be vouched for", func(o *Observation) { o.View.Key.Released = true }, ""},
		{"nobody has promised", func(o *Observation) { delete(o.TakeOver.Promises, "n3") }, ""},
		{"the one that promised cannot be promoted", ineligible("n3", "its guard does not answer"), ""},
		{"the one that promised is silent", func(o *Observation) { delete(o.TakeOver.Statuses, "n3") }, ""},
		{"the one that promised is no voter", func(o *Observation) { o.Raft.Voters = []cluster.NodeID{"n1", "n2"} }, ""},
		{"the one that promised is tagged nofailover", func(o *Observation) {
			n := o.View.Nodes["n3"]
			n.Tags.NoFailover = true
			o.View.Nodes["n3"] = n
		}, ""},
		{"the first that may, by name", func(o *Observation) {
			o.TakeOver.Promises["n1"] = promised("n1", 4, pos(2, 900))
			o.TakeOver.Statuses["n1"] = statusFor("n3")
		}, "n1"},
		{"the first could not be given it: the next", func(o *Observation) {
			o.TakeOver.Promises["n1"] = promised("n1", 4, pos(2, 900))
			o.TakeOver.Statuses["n1"] = statusFor("n3")
			o.TakeOver.Hops = 1
		}, "n3"},
		{"the next that may", func(o *Observation) {
			o.TakeOver.Promises["n1"] = promised("n1", 4, pos(2, 900))
			ineligible("n1", "its disk")(o)
		}, "n3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := formerHolder()
			c.edit(o)
			if got := heir(o); got != c.want {
				t.Errorf("heir %q, want %q", got, c.want)
			}
		})
	}
}

// K5: the heir comes before the wait for a lease that a former holder would never see end, and only in its place: a step
// before it, and a lease that is over by another's word, are not passed over.
func TestK6HeirInTheTakeOver(t *testing.T) {
	runNext(t, formerHolder, []nextCase{
		{"leadership goes", func(*Observation) {}, Transfer, ReasonCannotVouch},
		{"too early: its own lease is waited for", func(o *Observation) { o.TakeOver.Began = o.Now }, Wait, ReasonLeaseNotOver},
		{"K1 before the barrier", func(o *Observation) { o.Barrier = false }, Barrier, ReasonNewLeader},
		{"K2 before it has asked", func(o *Observation) { o.TakeOver.AskedAt = 0 }, AskStatus, ReasonHolderUnknown},
		{"K4 before promises are asked", func(o *Observation) { o.TakeOver.PromisedAt = 0 }, AskPromises, ReasonPromises},
		{"B1 while it is about to release", func(o *Observation) { o.Job.Action = HandOver }, Wait, ReasonJob},
		{"L2 while its lease lives", func(o *Observation) {
			o.LeaseState, o.Lease = LeaseLive, cluster.Lease{Term: 3, RaftTerm: 8, End: o.Now.Add(time.Second)}
			o.Local.Postgres.Role, o.Local.Postgres.Streaming = cluster.RoleStandby, false
			o.Local.Postgres.Timeline = 1
			f := o.View.Forks[2]
			f.Node = "n2"
			o.View.Forks[2] = f
			o.Promised = 3
		}, Promote, ReasonKeyHeld},
		{"after a transfer that failed it waits for the next try", func(o *Observation) { o.Retry[Transfer] = o.Now.Add(time.Second) }, Wait, ReasonRetry},
		{"and asks meanwhile who is there", func(o *Observation) {
			o.Retry[Transfer] = o.Now.Add(time.Second)
			o.TakeOver.AskedAt, o.TakeOver.PromisedAt = o.Now.Add(-testHeartbeat), o.Now.Add(-testHeartbeat)
		}, AskPromises, ReasonRetry},
	})
	t.Run("to whom and for which term", func(t *testing.T) {
		if d := Next(formerHolder()); d.Node != "n3" || d.Term != 4 {
			t.Errorf("leadership goes to %q for term %d", d.Node, d.Term)
		}
	})
}
