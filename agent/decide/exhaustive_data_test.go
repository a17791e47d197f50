package decide

import (
	"testing"

	"pgquorum/cluster"
)

// dataWorld is every combination of the facts on which I4 rests for a directory that is not, or not wholly, there.
type dataWorld struct {
	data       cluster.DataState
	counts     string // how the life that the registry has for n2 counts in the rules
	registered bool   // the registry has a life for n2 at all
	holder     cluster.NodeID
	released   bool
	leader     bool
	lease      LeaseState
	primary    bool // the source is the running primary of the key's timeline
	useRewind  bool
	failures   int
	promised   cluster.Term
	leaving    bool
	patient    bool // it has waited long enough, while nobody else could settle the rules
}

func (w dataWorld) observation() *Observation {
	o := healthy("n2")
	o.Local.Postgres = cluster.PostgresStatus{Data: w.data, SystemID: "7000", State: cluster.PostgresStopped}
	o.Position = cluster.Position{}
	o.Node.Incarnation = ""
	if !w.registered {
		n := o.View.Nodes["n2"]
		n.Incarnation = ""
		o.View.Nodes["n2"] = n
	}
	other := cluster.SyncRule{ID: 3, Term: 2, Primary: member("n3"), Timeline: 1, Standbys: []cluster.Member{member("n1")}, K: 1, Mode: cluster.SyncQuorum}
	count(o, 1, "n3")
	switch w.counts {
	case "as a standby":
		count(o, 1, "n2", "n3")
	case "as a standby of an older rule":
		other.Standbys = []cluster.Member{member("n2")}
		o.View.Rules = append([]cluster.SyncRule{other}, o.View.Rules...)
	case "as the primary of an older rule":
		other.Primary = member("n2")
		o.View.Rules = append([]cluster.SyncRule{other}, o.View.Rules...)
	}
	o.View.Key.Holder, o.View.Key.Member, o.View.Key.Released = w.holder, member(string(w.holder)), w.released
	if w.leader {
		o.Raft.State, o.Barrier = cluster.RaftLeader, true
		o.TakeOver.AskedAt, o.TakeOver.PromisedAt, o.TakeOver.BarrierAt = testNow, testNow, testNow-cluster.Instant(testHeartbeat)*2
		o.TakeOver.Promises["n1"], o.TakeOver.Promises["n3"] = promised("n1", 4, pos(2, 1000)), promised("n3", 4, pos(2, 1000))
		o.TakeOver.Statuses["n3"] = statusFor("n3")
	}
	o.LeaseState, o.Lease = w.lease, cluster.Lease{Term: 3, RaftTerm: 7, End: testNow + cluster.Instant(testHeartbeat)}
	if !w.primary {
		p := o.Peers["n1"]
		p.Status.Postgres.Role = cluster.RoleStandby
		o.Peers["n1"] = p
	}
	o.UseRewind, o.Promised = w.useRewind, w.promised
	failed(o, Rewind, w.failures)
	if w.leaving {
		o.Request = &Request{Leaving: true}
	}
	if w.patient {
		o.HeldSince = testNow.Add(-HeldPatience)
	}
	return o
}

// V5, I4: as long as the life that the registry has for this node counts in a recorded rule, its directory is neither
// filled nor rewound before it was patient (held.go), and it asks to be taken out; and what is not wholly there is never
// started, promoted or acquired with, nor is its life taken over by a copy. An absent directory, or one where a rewind broke off, is one that somebody may yet put back.
func TestInvariantsOfBrokenData(t *testing.T) {
	for _, data := range []cluster.DataState{cluster.DataAbsent, cluster.DataRewinding, cluster.DataUnclaimed} {
		t.Run(string(data), func(t *testing.T) {
			seen := map[Action]int{}
			told := map[string]bool{}
			worlds := 0
			eachDataWorld(data, func(w dataWorld) {
				worlds++
				d, broken := w.check()
				seen[d.Action]++
				if broken != "" && !told[broken] { // the first world of each kind is enough to read
					told[broken] = true
					t.Errorf("%s: %q from %q because %q in %+v", broken, d.Action, d.Source, d.Reason, w)
				}
			})
			changes := map[cluster.DataState]Action{cluster.DataAbsent: Clone, cluster.DataRewinding: Rewind, cluster.DataUnclaimed: ClaimData}
			if worlds < 1000 || seen[changes[data]] == 0 || seen[Wait] == 0 || data == cluster.DataRewinding && seen[Clone] == 0 {
				t.Fatalf("%d worlds, decisions %v: too few to mean anything", worlds, seen)
			}
		})
	}
}

// check gives the decision in this world and which rule it breaks, if any.
func (w dataWorld) check() (d Decision, broken string) {
	o := w.observation()
	d = Next(o)
	counts := w.counts != "" && w.registered
	held := w.holder == "n2" && !w.released && w.lease != LeaseNone
	switch d.Action {
	case Clone, Rewind:
		switch {
		case counts && !w.patient:
			return d, "I4 changes data that counts in a rule"
		case d.Life != "":
			return d, "V5 goes on as a life whose data is not there"
		case w.data == cluster.DataAbsent && d.Action == Rewind:
			return d, "rewinds what is absent"
		case w.leaving:
			return d, "S8 begins while leaving"
		case d.Source != "n1" || w.holder != "n1" || w.released || !w.primary || w.promised > 3:
			return d, "V1 copies from a node that does not serve the key's timeline, or below the promise"
		}
	case ClaimData:
		switch {
		case w.data != cluster.DataUnclaimed:
			return d, "V5 claims what is not whole"
		case counts && !w.patient:
			return d, "I4 claims data that counts in a rule"
		case w.leaving:
			return d, "S8 begins while leaving"
		}
	case Promote, StartPrimary, StartStandby, Acquire, Follow, InitDB:
		return d, "V5 uses data that is not wholly there"
	}
	switch {
	case counts && !held && WantsOut(o) != member("n2").Incarnation:
		return d, "V5 counts in a rule and does not ask to be taken out"
	case MayPromise(o, 4, 8) == "":
		return d, "V5 promises without an incarnation"
	}
	return d, ""
}

func eachDataWorld(data cluster.DataState, f func(dataWorld)) {
	bools := []bool{false, true}
	for _, counts := range []string{"", "as a standby", "as a standby of an older rule", "as the primary of an older rule"} {
		for _, registered := range bools {
			for _, holder := range []cluster.NodeID{"n1", "n2"} {
				for _, released := range bools {
					for _, leader := range bools {
						for _, lease := range []LeaseState{LeaseNone, LeaseFresh, LeaseLive} {
							for _, primary := range bools {
								for _, useRewind := range bools {
									for _, failures := range []int{0, MaxRewinds} {
										for _, promised := range []cluster.Term{3, 4} {
											for _, leaving := range bools {
												for _, patient := range bools {
													f(dataWorld{data, counts, registered, holder, released, leader, lease, primary, useRewind, failures, promised, leaving, patient})
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
