package decide

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

// frozen is n1 as Raft leader and holder of term 3, whose primary its guard has frozen in that term, with a quorum that
// answers again.
func frozenHolder() *Observation {
	o := healthy("n1")
	o.SoftFence = true
	o.LeaseState, o.Lease = LeaseNone, cluster.Lease{}
	o.Lapsed = Lapse{Term: 3, At: testNow.Add(-time.Second)}
	o.LookedAt, o.Answers = testNow.Add(-10*time.Millisecond), testNow.Add(700*time.Millisecond)
	o.Local.LeaseTerm, o.Local.Lease = 0, 0
	o.Local.Postgres.State = cluster.PostgresFrozen
	o.Local.Guard.Frozen, o.Local.Guard.FrozenLeft = 3, 9*time.Second
	return o
}

// reacquired is the same after it has acquired term 4 in place, under a live lease.
func reacquired() *Observation {
	o := frozenHolder()
	o.View.Key.Term = 4
	o.LeaseState, o.Lease = LeaseLive, cluster.Lease{Term: 4, RaftTerm: 7, End: testNow.Add(600 * time.Millisecond)}
	return o
}

// TestU6Frozen is the soft fence as the holder of a frozen primary sees it.
func TestU6Frozen(t *testing.T) {
	for _, c := range []struct {
		name   string
		start  func() *Observation
		edit   func(*Observation)
		action Action
		reason Reason
	}{
		{"acquires again in place", frozenHolder, func(o *Observation) {}, Acquire, ReasonThaw},
		{"Barrier first", frozenHolder, func(o *Observation) { o.Barrier = false }, Barrier, ReasonNewLeader},
		{"no quorum has answered", frozenHolder, func(o *Observation) { o.Answers = 0 }, Wait, ReasonFrozen},
		{"answers too old to commit by", frozenHolder, func(o *Observation) { o.Answers = testNow.Add(290 * time.Millisecond) }, Wait, ReasonFrozen},
		{"no leader: it waits", frozenHolder, func(o *Observation) { o.Raft.State, o.Barrier = cluster.RaftFollower, false }, None, ""},
		{"this copy of the key is older", frozenHolder, func(o *Observation) {
			o.Raft.State, o.Barrier, o.View.Key.Term = cluster.RaftFollower, false, 2
		}, None, ""},
		{"another node has acquired", frozenHolder, func(o *Observation) { o.View.Key.Holder, o.View.Key.Term = "n2", 4 }, Fence, ReasonNotHolder},
		{"another node was between", frozenHolder, func(o *Observation) { o.View.Key.Term = 5 }, Fence, ReasonLeaseLost},
		{"released", frozenHolder, func(o *Observation) { o.View.Key.Released = true }, Fence, ReasonLeaseLost},
		{"acquired, its outcome not known here", frozenHolder, func(o *Observation) { o.View.Key.Term = 4 }, Fence, ReasonLeaseLost},
		{"a stopping agent acquires nothing", frozenHolder, func(o *Observation) { o.Request = &Request{Leaving: true} }, AskStatus, ReasonHolderUnknown},
		{"a disk that cannot be written", frozenHolder, func(o *Observation) { o.Local.DiskFault = "full" }, Wait, ReasonCannotWrite},
		{"acquired in place: thaw", reacquired, func(o *Observation) {}, Thaw, ReasonKeyHeld},
		{"the first answers of the new term are missing", reacquired, func(o *Observation) { o.LeaseState = LeaseFresh }, Wait, ReasonLeaseNotOver},
		{"the lease of the new term has run out", reacquired, func(o *Observation) { o.LeaseState = LeaseNone }, Fence, ReasonLeaseLost},
		{"acquired, but not in place", reacquired, func(o *Observation) {
			o.View.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, LSN: 500, Term: 4, Node: "n1"}
		}, Fence, ReasonLeaseLost},
		{"a lease two terms on", reacquired, func(o *Observation) { o.View.Key.Term, o.Lease.Term = 5, 5 }, Fence, ReasonLeaseLost},
	} {
		o := c.start()
		c.edit(o)
		if d := Next(o); d.Action != c.action || d.Reason != c.reason {
			t.Errorf("%s: %q because %q (%s), want %q because %q", c.name, d.Action, d.Reason, d.Detail, c.action, c.reason)
		}
	}
}

// TestU6Reacquisition is what the acquisition in place carries: compare-and-set on the very term in which it was frozen.
func TestU6Reacquisition(t *testing.T) {
	o := frozenHolder()
	a := Next(o).Acquire
	if !a.InPlace || a.Node != "n1" || a.ExpectTerm != 3 || a.RulesVersion != 9 || a.Member != member("n1") || a.K != 1 || len(a.Standbys) != 2 {
		t.Errorf("acquisition %+v, want n1 in place after term 3, with the rule that stands", a)
	}
}

// TestU6LeftToGuard is a lease that has just run out: the guard freezes or kills, and the agent does not come in between.
func TestU6LeftToGuard(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(*Observation)
		action Action
	}{
		{"just now", func(o *Observation) {}, Wait},
		{"a while ago, looked at since", func(o *Observation) { o.Lapsed.At = testNow.Add(-300 * time.Millisecond) }, Fence},
		{"a while ago, not looked at since", func(o *Observation) {
			o.Lapsed.At, o.LookedAt = testNow.Add(-2*time.Second), testNow.Add(-3*time.Second)
		}, Wait},
		{"long ago, and no look has ended", func(o *Observation) {
			o.Lapsed.At, o.LookedAt = testNow.Add(-4*time.Second), testNow.Add(-5*time.Second)
		}, Fence},
		{"this moment, and the keeper has not said so yet", func(o *Observation) {
			o.Lapsed, o.LeaseState = Lapse{}, LeaseLive
			o.Lease = cluster.Lease{Term: 3, RaftTerm: 7, End: testNow.Add(o.View.Key.Lease.Fence)}
		}, Wait},
		{"the keeper has not said so for long", func(o *Observation) {
			o.Lapsed, o.LeaseState = Lapse{}, LeaseLive
			o.Lease = cluster.Lease{Term: 3, RaftTerm: 7, End: testNow.Add(-time.Second)}
		}, Fence},
		{"no soft fence", func(o *Observation) { o.SoftFence = false }, Fence},
		{"a lease of another term", func(o *Observation) { o.Lapsed.Term = 2 }, Fence},
		{"the key is another's", func(o *Observation) { o.View.Key.Holder, o.View.Key.Term = "n2", 4 }, Fence},
		{"the key is released", func(o *Observation) { o.View.Key.Released = true }, Fence},
	} {
		o := frozenHolder()
		o.Local.Postgres.State, o.Local.Guard.Frozen = cluster.PostgresRunning, 0
		o.Lapsed.At = testNow.Add(-20 * time.Millisecond)
		c.edit(o)
		if d := Next(o); d.Action != c.action {
			t.Errorf("%s: %q because %q, want %q", c.name, d.Action, d.Reason, c.action)
		}
	}
}

// TestU6HandBack is K3 for a holder whose primary is frozen.
func TestU6HandBack(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(o *Observation, s *cluster.NodeStatus)
		want Action
	}{
		{"it can go on", func(*Observation, *cluster.NodeStatus) {}, HandBack},
		{"hand-backs used up", func(o *Observation, _ *cluster.NodeStatus) { o.View.Handbacks = MaxHandbacks }, AskPromises},
		{"frozen in an older term", func(_ *Observation, s *cluster.NodeStatus) { s.Guard.Frozen = 2 }, AskPromises},
		{"its grace is almost over", func(_ *Observation, s *cluster.NodeStatus) { s.Guard.FrozenLeft = 400 * time.Millisecond }, AskPromises},
		{"it has promised the next term", func(_ *Observation, s *cluster.NodeStatus) { s.Promised = 4 }, AskPromises},
		{"it cannot write", func(_ *Observation, s *cluster.NodeStatus) { s.DiskFault = "full" }, AskPromises},
		{"it is stopping", func(_ *Observation, s *cluster.NodeStatus) { s.Stopping = true }, AskPromises},
		{"its guard does not answer", func(_ *Observation, s *cluster.NodeStatus) { s.Guard.Alive = false }, AskPromises},
		{"it has released the key", func(o *Observation, _ *cluster.NodeStatus) { o.View.Key.Released = true }, AskPromises},
	} {
		o := taking()
		o.TakeOver.PromisedAt, o.TakeOver.Promises = 0, map[cluster.NodeID]cluster.Promise{}
		s := frozenHolder().Local
		c.edit(o, &s)
		o.TakeOver.Statuses["n1"] = s
		d := Next(o)
		if d.Action != c.want || c.want == HandBack && (d.Reason != ReasonHolderFrozen || d.Node != "n1") {
			t.Errorf("%s: %q to %q because %q, want %q", c.name, d.Action, d.Node, d.Reason, c.want)
		}
	}
}

// TestU6NoCandidate: nobody chooses a frozen node, and it promises as any other (its guard ends what is frozen first).
func TestU6NoCandidate(t *testing.T) {
	o := frozenHolder()
	if why := CannotPromote(o.Local, o.Node.Tags); why != "its postgres is frozen" {
		t.Errorf("candidate: %q", why)
	}
	if no := MayPromise(o, 4, o.Raft.Term); no != "" {
		t.Errorf("promise refused: %s", no)
	}
}
