package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// fakeRaft is Consensus as far as the keeper looks at it; what else it is asked panics.
type fakeRaft struct {
	Consensus
	view    cluster.View
	term    uint64
	barrier uint64
	newest  cluster.Instant // q-th largest send time
	answers bool
	voters  []cluster.NodeID
}

func (f *fakeRaft) View() *cluster.View { v := f.view; return &v }
func (f *fakeRaft) Status() cluster.RaftStatus {
	return cluster.RaftStatus{Term: f.term, Voters: f.voters}
}
func (f *fakeRaft) BarrierTerm() uint64 { return f.barrier }
func (f *fakeRaft) LeaseEnd(ttl time.Duration) (uint64, cluster.Instant, bool) {
	return f.term, f.newest.Add(ttl), f.answers
}

// fakeGuard takes leases unless told otherwise.
type fakeGuard struct {
	Guard
	leases []cluster.Lease
	refuse error
}

func (f *fakeGuard) Lease(_ context.Context, l cluster.Lease, _ cluster.LeaseParams) error {
	if f.refuse == nil {
		f.leases = append(f.leases, l)
	}
	return f.refuse
}

// bench is a keeper on which time and Raft are moved by hand.
type bench struct {
	*keeper
	raft  *fakeRaft
	guard *fakeGuard
	now   cluster.Instant
}

func newBench() *bench {
	b := &bench{raft: &fakeRaft{term: 7, barrier: 7, answers: true}, guard: &fakeGuard{}, now: 1_000_000_000}
	b.raft.view.Key = cluster.LeaderKey{Holder: "n1", Term: 3, Lease: cluster.DefaultLease(time.Second)}
	b.keeper = newKeeper("n1", b.raft, b.guard, func() cluster.Instant { return b.now }, slog.New(slog.NewTextHandler(io.Discard, nil)), func() {})
	return b
}

// pass lets time pass, with an answer sent at its end if answered.
func (b *bench) pass(d time.Duration, answered bool) {
	b.now = b.now.Add(d)
	if answered {
		b.raft.newest = b.now
	}
	b.renew(context.Background())
}

func (b *bench) want(t *testing.T, state decide.LeaseState) {
	t.Helper()
	if _, got := b.current(); got != state {
		t.Fatalf("lease state %d, want %d", got, state)
	}
}

func TestKeeperAcquires(t *testing.T) {
	b := newBench()
	b.pass(0, true)
	b.want(t, decide.LeaseNone) // nothing acquired in this process, whatever the FSM says
	b.acquired(3, 7)
	b.want(t, decide.LeaseFresh)
	b.pass(10*time.Millisecond, true)
	b.want(t, decide.LeaseLive)
	if n := len(b.guard.leases); n != 1 || b.guard.leases[0].End != b.now.Add(800*time.Millisecond) {
		t.Fatalf("guard was given %+v", b.guard.leases)
	}
}

// L2: answers to heartbeats sent before the acquisition do not count.
func TestKeeperIgnoresOlderAnswers(t *testing.T) {
	b := newBench()
	b.raft.newest = b.now.Add(-time.Millisecond)
	b.acquired(3, 7)
	b.renew(context.Background())
	b.want(t, decide.LeaseFresh)
	if len(b.guard.leases) != 0 {
		t.Fatalf("guard was given %+v", b.guard.leases)
	}
}

// L2: a lease that has ended never lives again, even when answers come back.
func TestKeeperNeverRevives(t *testing.T) {
	b := newBench()
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	b.pass(701*time.Millisecond, false) // past E - F
	b.want(t, decide.LeaseNone)
	b.pass(time.Millisecond, true)
	b.want(t, decide.LeaseNone)
}

// L2: without a Barrier of the Raft term nothing counts.
func TestKeeperWaitsForBarrier(t *testing.T) {
	b := newBench()
	b.raft.barrier = 0
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	b.want(t, decide.LeaseFresh)
}

// L2: leadership that comes back to the holder goes on with the same term, on answers of the new Raft term.
func TestKeeperContinuesInANewRaftTerm(t *testing.T) {
	b := newBench()
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	end := b.guard.leases[0].End
	b.raft.term, b.raft.barrier, b.raft.answers = 9, 0, false
	b.pass(100*time.Millisecond, false)
	b.raft.barrier, b.raft.answers = 9, true
	b.pass(10*time.Millisecond, true) // notes the new Raft term
	b.want(t, decide.LeaseLive)
	if got := b.guard.leases[len(b.guard.leases)-1].End; got != end {
		t.Fatalf("E moved to %d on answers sent before the new Raft term was taken up", got)
	}
	b.pass(10*time.Millisecond, true)
	if got := b.guard.leases[len(b.guard.leases)-1]; got.End <= end || got.RaftTerm != 9 || got.Term != 3 {
		t.Fatalf("guard holds %+v", got)
	}
}

// L2: leadership lost before the first quorum of answers ends the term for good.
func TestKeeperFreshEndsWithLeadership(t *testing.T) {
	b := newBench()
	b.raft.answers = false
	b.acquired(3, 7)
	b.raft.term = 8
	b.pass(time.Millisecond, false)
	b.want(t, decide.LeaseNone)
}

// U2: the guard has the last word.
func TestKeeperEndsWhenTheGuardRefuses(t *testing.T) {
	b := newBench()
	b.guard.refuse = errors.New("fenced")
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	b.want(t, decide.LeaseNone)
}

// The key that moves on, or is released, ends the lease.
func TestKeeperFollowsTheKey(t *testing.T) {
	for name, edit := range map[string]func(*cluster.LeaderKey){
		"another term":   func(k *cluster.LeaderKey) { k.Term = 4 },
		"another holder": func(k *cluster.LeaderKey) { k.Holder = "n2" },
		"released":       func(k *cluster.LeaderKey) { k.Released = true },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.acquired(3, 7)
			b.pass(10*time.Millisecond, true)
			edit(&b.raft.view.Key)
			b.pass(time.Millisecond, true)
			b.want(t, decide.LeaseNone)
		})
	}
}

// L9: a restarted agent goes on with the lease that its guard still holds, until that ends.
func TestKeeperContinuesAGuardsLease(t *testing.T) {
	b := newBench()
	b.raft.answers = false
	b.continues(3, b.now.Add(400*time.Millisecond))
	b.pass(100*time.Millisecond, false)
	b.want(t, decide.LeaseLive)
	b.raft.answers = true
	b.pass(10*time.Millisecond, true) // takes up the Raft term
	b.pass(10*time.Millisecond, true)
	if n := len(b.guard.leases); n != 1 {
		t.Fatalf("guard was given %d leases", n)
	}
	b.raft.answers = false
	b.pass(701*time.Millisecond, false)
	b.want(t, decide.LeaseNone)
}

// A single voter, to whom nobody answers, renews by itself well before its fence point.
func TestKeeperOfASingleVoter(t *testing.T) {
	b := newBench()
	b.raft.voters = []cluster.NodeID{"n1"}
	if got := b.untilNext(); got < time.Minute {
		t.Errorf("without a lease it would look again in %v", got)
	}
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	if got := b.untilNext(); got > 200*time.Millisecond {
		t.Errorf("it would look again in %v, its lease has 700 ms", got)
	}
}

// TestU6KeeperTellsALapse: only a live lease that ended by itself is one; one that was taken back, or never began, is none.
func TestU6KeeperTellsALapse(t *testing.T) {
	b := newBench()
	b.acquired(3, 7)
	b.end(3)
	if got := b.lapsed(); got.Term != 0 {
		t.Errorf("a lease that was given up: %+v", got)
	}
	b = newBench()
	b.acquired(3, 7)
	b.pass(10*time.Millisecond, true)
	b.want(t, decide.LeaseLive)
	b.pass(time.Second, false)
	b.want(t, decide.LeaseNone)
	if got := b.lapsed(); got != (decide.Lapse{Term: 3, At: b.now}) {
		t.Errorf("a lease that ran out: %+v, want term 3 at %d", got, b.now)
	}
}
