package decide

import (
	"fmt"
	"testing"
	"time"

	"pgquorum/cluster"
)

// world is every combination of the small facts on which safety rests.
type world struct {
	leader, barrier, released bool
	holder                    cluster.NodeID // of the key
	lease                     LeaseState
	leaseTerm                 cluster.Term
	expired                   bool // the lease's fence point has passed
	state                     cluster.PostgresState
	role                      cluster.Role
	frozen                    cluster.Term // 3: in the key's term; 2: in the one before, since when the key was acquired in place
	stale                     bool         // own WAL left the key's timeline
	inRule                    bool
	promises                  string // which of n1, n2, n3 have promised
	leaseOver                 string // how the old lease is known to be over: "", attested, waited
	asked                     bool
}

// observation builds what n2 sees in this world.
func (w world) observation() *Observation {
	o := taking()
	if !w.leader {
		o.Raft.State = cluster.RaftFollower
	}
	o.Barrier = w.barrier
	o.View.Key.Holder, o.View.Key.Released = w.holder, w.released
	o.View.Key.Member = member(string(w.holder))
	o.View.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, LSN: 500, Term: 3, Node: w.holder}
	o.LeaseState = w.lease
	o.Lease = cluster.Lease{Term: w.leaseTerm, RaftTerm: 8, End: testNow.Add(600 * time.Millisecond)}
	if w.expired {
		o.Lease.End = testNow.Add(50 * time.Millisecond)
	}
	p := &o.Local.Postgres
	p.State, p.Role = w.state, w.role
	o.Local.Guard.Frozen, o.Answers = w.frozen, testNow.Add(700*time.Millisecond)
	if w.frozen == 2 {
		o.View.Forks[2] = cluster.Fork{Timeline: 2, Parent: 1, LSN: 500, Term: 1, Node: w.holder}
	}
	if w.stale {
		o.Position = pos(1, 900)
	}
	o.View.Rules[0].Primary = member(string(w.holder))
	o.View.Rules[0].Standbys = []cluster.Member{member("n1"), member("n3")}
	if w.inRule {
		o.View.Rules[0].Standbys = []cluster.Member{member("n2"), member("n3")}
	}
	o.TakeOver.Promises = map[cluster.NodeID]cluster.Promise{}
	for _, n := range w.promises {
		name := fmt.Sprintf("n%c", n)
		o.TakeOver.Promises[cluster.NodeID(name)] = promised(name, 4, pos(2, 1000))
	}
	if w.leaseOver != "waited" {
		o.TakeOver.BarrierAt = testNow
	}
	if w.leaseOver == "attested" {
		for _, n := range []cluster.NodeID{"n1", "n2", "n3"} {
			o.TakeOver.Attests[n] = cluster.Attest{Voter: n, Holder: w.holder, RaftTerm: 8, Age: time.Second}
		}
	}
	if !w.asked {
		o.TakeOver.AskedAt, o.TakeOver.PromisedAt = 0, 0
	}
	return o
}

// enoughPromised is C1 said anew, as simply as can be: the rule's primary, or both of its two standbys (n=2, k=1).
func (w world) enoughPromised(o *Observation) bool {
	has := func(n cluster.NodeID) bool { _, ok := o.TakeOver.Promises[n]; return ok }
	s := o.View.Rules[0].Standbys
	return has(w.holder) || has(s[0].Node) && has(s[1].Node)
}

// liveHere is what a live lease means, said anew.
func (w world) liveHere() bool {
	return w.lease == LeaseLive && w.leaseTerm == 3 && !w.expired && w.holder == "n2" && !w.released
}

// TestInvariants enumerates the worlds and holds Next against I1 to I4.
func TestInvariants(t *testing.T) {
	count := 0
	eachWorld(func(w world) {
		count++
		o := w.observation()
		d := Next(o)
		fail := func(rule string) {
			if t.Failed() {
				return
			}
			t.Errorf("%s: %q because %q (%s) in %+v", rule, d.Action, d.Reason, d.Detail, w)
		}
		primary := w.role == cluster.RolePrimary && w.state == cluster.PostgresRunning
		ahead := w.lease == LeaseLive && w.leaseTerm > 3
		switch d.Action {
		case Promote, StartPrimary:
			if !w.liveHere() {
				fail("I1 promotes without a live lease")
			}
		case Acquire:
			if !w.leader || !w.barrier {
				fail("I3 acquires without leadership and Barrier")
			}
			if !d.Acquire.InPlace && !w.enoughPromised(o) {
				fail("I3 acquires without the promises of C1")
			}
			over := w.released || w.leaseOver != "" || o.TakeOver.Promises[w.holder].Fenced
			if !d.Acquire.InPlace && !over {
				fail("I3 acquires while the old lease may live")
			}
			thaws := w.frozen == 3 && w.holder == "n2" && !w.released && !(w.lease == LeaseFresh && w.leaseTerm == 3)
			if d.Acquire.InPlace && !(w.liveHere() && primary) && !thaws {
				fail("I3 acquires in place without a live lease and a primary, and without one that was frozen in this very term")
			}
		case Thaw:
			if !w.liveHere() || w.frozen != 2 {
				fail("I1 thaws without the live lease of the next term")
			}
		case Clone, Rewind:
			if w.inRule || w.holder == "n2" {
				fail("I4 changes data that counts in a rule")
			}
		}
		if w.frozen != 0 && (w.holder != "n2" || w.released) && d.Action != Fence {
			fail("I2 leaves alone what is frozen and can never go on")
		}
		inPlace := w.lease == LeaseFresh && w.leaseTerm == 3 && w.holder == "n2" && !w.released
		if primary && !w.liveHere() && !ahead && !inPlace && d.Action != Fence {
			fail("I2 leaves a primary without a lease alone")
		}
	})
	if count < 10_000 {
		t.Fatalf("enumerated %d worlds only", count)
	}
}

func eachWorld(f func(world)) {
	bools := []bool{false, true}
	kinds := []struct {
		s cluster.PostgresState
		r cluster.Role
		f cluster.Term
	}{{cluster.PostgresStopped, "", 0}, {cluster.PostgresRunning, cluster.RoleStandby, 0}, {cluster.PostgresRunning, cluster.RolePrimary, 0}, {cluster.PostgresHung, "", 0},
		{cluster.PostgresFrozen, cluster.RolePrimary, 3}, {cluster.PostgresFrozen, cluster.RolePrimary, 2}}
	for _, leader := range bools {
		for _, barrier := range bools {
			if barrier && !leader {
				continue
			}
			for _, released := range bools {
				for _, holder := range []cluster.NodeID{"n1", "n2"} {
					for _, lease := range []LeaseState{LeaseNone, LeaseFresh, LeaseLive} {
						for _, term := range []cluster.Term{2, 3, 4} {
							for _, expired := range bools {
								for _, k := range kinds {
									for _, stale := range bools {
										for _, inRule := range bools {
											for _, promises := range []string{"", "2", "23", "13", "12", "123"} {
												for _, over := range []string{"", "attested", "waited"} {
													for _, asked := range bools {
														f(world{leader, barrier, released, holder, lease, term, expired, k.s, k.r, k.f, stale, inRule, promises, over, asked})
													}
												}
											}
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
}
