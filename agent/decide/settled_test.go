package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// L6: when a leader may change the membership. n1 holds the key and leads in Raft term 7.
func TestL6KeySettled(t *testing.T) {
	unsettled := func(o *Observation) { o.View.Rules = append(o.View.Rules, o.View.Rules[0]) }
	for _, c := range []struct {
		name   string
		edit   func(*Observation)
		before bool
		want   bool
	}{
		{"holds the key, its rule is settled", func(*Observation) {}, false, true},
		{"holds the key, older rules recorded", unsettled, false, false},
		{"holds the key, list not proven", func(o *Observation) { o.RuleProven = false }, false, false},
		{"a rule is changed later", unsettled, true, true},
		{"no barrier yet", func(o *Observation) { o.Barrier = false }, true, false},
		{"follower", func(o *Observation) { o.Raft.State = cluster.RaftFollower }, true, false},
		{"lease proven in an older raft term", func(o *Observation) { o.Lease.RaftTerm = 6 }, true, false},
		{"lease run out", func(o *Observation) { o.Now = o.Lease.End }, true, false},
		{"acquired, no quorum of answers yet", func(o *Observation) { o.LeaseState = LeaseFresh }, true, false},
		{"released", func(o *Observation) { o.View.Key.Released = true }, true, false},
		{"no key was ever given", func(o *Observation) { o.View.Key, o.View.Rules = cluster.LeaderKey{}, nil }, false, true},
		{"no key was ever given, no barrier yet", func(o *Observation) { o.View.Key, o.Barrier = cluster.LeaderKey{}, false }, false, false},
	} {
		t.Run("L6 "+c.name, func(t *testing.T) {
			o := healthy("n1")
			c.edit(o)
			if got := KeySettled(o, c.before); got != c.want {
				t.Errorf("settled %t, want %t", got, c.want)
			}
		})
	}
}

// L6: a leader that is not the holder has seen it well. n2 leads in Raft term 8, n1 holds the key.
func TestL6HolderSeenWell(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Observation, *cluster.NodeStatus)
		want bool
	}{
		{"well", func(*Observation, *cluster.NodeStatus) {}, true},
		{"no barrier", func(o *Observation, _ *cluster.NodeStatus) { o.Barrier = false }, false},
		{"lease too short", func(o *Observation, s *cluster.NodeStatus) { s.Lease = 50 * time.Millisecond }, false},
		{"lease of another term", func(o *Observation, s *cluster.NodeStatus) { s.LeaseTerm = 2 }, false},
		{"promised the next term", func(o *Observation, s *cluster.NodeStatus) { s.Promised = 4 }, false},
		{"not a primary", func(o *Observation, s *cluster.NodeStatus) { s.Postgres.Role = cluster.RoleStandby }, false},
		{"promises asked: a take-over runs", func(o *Observation, _ *cluster.NodeStatus) { o.TakeOver.PromisedAt = o.Now }, false},
		{"handed back twice: it is taken over", func(o *Observation, _ *cluster.NodeStatus) { o.View.Handbacks = MaxHandbacks }, false},
		{"seen in an older raft term", func(o *Observation, _ *cluster.NodeStatus) { o.TakeOver.RaftTerm = 7 }, false},
		{"released", func(o *Observation, _ *cluster.NodeStatus) { o.View.Key.Released = true }, false},
	} {
		t.Run("L6 "+c.name, func(t *testing.T) {
			o, s := taking(), statusFor("n1")
			o.TakeOver.PromisedAt = 0
			c.edit(o, &s)
			o.TakeOver.Statuses["n1"] = s
			if got := KeySettled(o, true); got != c.want {
				t.Errorf("settled %t, want %t", got, c.want)
			}
		})
	}
	o := taking()
	o.TakeOver.PromisedAt = 0
	if KeySettled(o, true) {
		t.Error("L6: settled although the holder has not answered")
	}
}

// L9: whose request for leadership makes a leader look at once.
func TestL9AsksBack(t *testing.T) {
	for _, c := range []struct {
		name string
		from cluster.NodeID
		edit func(*Observation)
		want bool
	}{
		{"the holder", "n1", func(*Observation) {}, true},
		{"another node", "n3", func(*Observation) {}, false},
		{"nobody: an ordinary nudge", "", func(*Observation) {}, false},
		{"no holder yet", "", func(o *Observation) { o.View.Key = cluster.LeaderKey{} }, false},
		{"this node itself", "n2", func(o *Observation) { o.View.Key.Holder = "n2" }, false},
		{"the key is released", "n1", func(o *Observation) { o.View.Key.Released = true }, false},
		{"this node does not lead", "n1", func(o *Observation) { o.Raft.State = cluster.RaftFollower }, false},
		{"no barrier yet: the round of K2 comes", "n1", func(o *Observation) { o.Barrier = false }, false},
	} {
		t.Run("L9 "+c.name, func(t *testing.T) {
			o := taking()
			c.edit(o)
			if got := AsksBack(o, c.from); got != c.want {
				t.Errorf("looks at once %t, want %t", got, c.want)
			}
		})
	}
}
