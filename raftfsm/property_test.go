package raftfsm

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"pgquorum/cluster"
)

// TestPropertyModel runs random commands against the machine and its second model: both accept the same, end in the
// same state, and a refusal changes nothing.
func TestPropertyModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		other := newModel()
		r.check = func(cmd cluster.Command, _, after *cluster.View, value any) {
			_, refused := value.(*cluster.Refused)
			if accepted := other.step(cmd); accepted == refused {
				t.Fatalf("%T %+v: machine answers %v, model accepts %t", cmd, cmd, value, accepted)
			}
			got := *after
			got.Index, got.Events, got.Committed = 0, nil, nil
			if want := other.view(); !reflect.DeepEqual(got, want) {
				t.Fatalf("after %T %+v\nmachine %+v\nmodel   %+v", cmd, cmd, got, want)
			}
		}
		r.steps()
	})
}

// TestPropertyInvariants checks each step of a random run: K7 terms grow by one and never go back, F1 timeline numbers
// are new and above SeenMax, G3 an acquisition only adds rules, S2 the newest rule stays, IDs grow, forks stay.
func TestPropertyInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		r.check = func(cmd cluster.Command, before, after *cluster.View, value any) {
			if c, ok := cmd.(cluster.AcquireLeader); ok && after.Key.Term != before.Key.Term {
				checkAcquisition(t, c, before, after)
			} else if after.Key.Term != before.Key.Term || len(after.Forks) != len(before.Forks) {
				t.Fatalf("%T moved the term from %d to %d, forks %v to %v", cmd, before.Key.Term, after.Key.Term, before.Forks, after.Forks)
			}
			checkAlways(t, cmd, before, after)
		}
		r.steps()
	})
}

func checkAcquisition(t *rapid.T, c cluster.AcquireLeader, before, after *cluster.View) {
	n := len(before.Rules)
	if after.Key.Term != before.Key.Term+1 {
		t.Fatalf("K7: term from %d to %d", before.Key.Term, after.Key.Term)
	}
	if len(after.Rules) != n+1 || !reflect.DeepEqual(after.Rules[:n], before.Rules) || after.Rules[n].Timeline != after.Key.Timeline {
		t.Fatalf("G3: rules %+v became %+v", before.Rules, after.Rules)
	}
	tl := after.Key.Timeline
	_, used := before.Forks[tl]
	newCluster := before.Key.Term == 0 && c.Parent == 0 && tl == 1
	switch {
	case c.InPlace && (tl != before.Key.Timeline || len(after.Forks) != len(before.Forks)):
		t.Fatalf("C3: in place, timeline %d became %d", before.Key.Timeline, tl)
	case !c.InPlace && (used || tl <= before.Forks.Newest() || tl <= c.Parent || tl <= c.SeenMax && !newCluster):
		t.Fatalf("F1: timeline %d allotted, known %v, parent %d, seen %d", tl, before.Forks, c.Parent, c.SeenMax)
	}
}

func checkAlways(t *rapid.T, cmd cluster.Command, before, after *cluster.View) {
	for tl, f := range before.Forks {
		now := after.Forks[tl]
		if f.LSN == 0 {
			f.LSN = now.LSN
		}
		if now != f {
			t.Fatalf("F1: %T made fork %+v of %+v", cmd, now, f)
		}
	}
	if after.RulesVersion < before.RulesVersion || (after.RulesVersion == before.RulesVersion) != reflect.DeepEqual(before.Rules, after.Rules) {
		t.Fatalf("%T: rules version %d to %d, rules %v to %v", cmd, before.RulesVersion, after.RulesVersion, before.Rules, after.Rules)
	}
	if len(after.Rules) == 0 && after.Key.Term > 0 || len(after.Rules) > 0 && after.Rules[len(after.Rules)-1].Term != after.Key.Term {
		t.Fatalf("S2: after %T the newest rule is not of term %d: %v", cmd, after.Key.Term, after.Rules)
	}
	for i, rule := range after.Rules {
		if i > 0 && rule.ID <= after.Rules[i-1].ID || rule.K > len(rule.Standbys) {
			t.Fatalf("after %T: rules %v", cmd, after.Rules)
		}
		for _, m := range rule.Standbys {
			if !registered(after, m) {
				t.Fatalf("V5: after %T standby %s of rule %d is no registered life", cmd, m.AppName(), rule.ID)
			}
		}
	}
	for i, e := range after.Events {
		if i > 0 && e.ID != after.Events[i-1].ID+1 {
			t.Fatalf("after %T: event %d behind %d", cmd, e.ID, after.Events[i-1].ID)
		}
	}
	if len(after.Events) < len(before.Events) {
		t.Fatalf("after %T: %d events, before %d", cmd, len(after.Events), len(before.Events))
	}
}

// TestPropertyTwice applies each command twice: whatever the first answer was, the second is the same and changes
// nothing, hand-backs excepted.
func TestPropertyTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		r.check = func(cmd cluster.Command, _, after *cluster.View, value any) {
			if _, counts := cmd.(cluster.CountHandback); counts {
				return
			}
			again := r.send(cmd)
			now, was := *r.fsm.View(), *after
			now.Index, was.Index = 0, 0
			if !reflect.DeepEqual(again, value) || !reflect.DeepEqual(now, was) {
				t.Fatalf("%T %+v answers %v, then %v\nstate %+v\nthen  %+v", cmd, cmd, value, again, was, now)
			}
		}
		r.steps()
	})
}

// TestPropertyDeterminism replays a random log on a second machine, and on a third that restores a snapshot of some
// moment and goes on from there: all three write the same bytes. No published view has changed meanwhile.
func TestPropertyDeterminism(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t)
		type published struct {
			view    *cluster.View
			written string
		}
		views := []published{}
		snapshots := [][]byte{persisted(t, r.fsm)}
		r.check = func(_ cluster.Command, _, after *cluster.View, _ any) {
			views = append(views, published{after, jsonOf(t, after)})
			snapshots = append(snapshots, persisted(t, r.fsm))
		}
		r.steps()
		for i, p := range views {
			if jsonOf(t, p.view) != p.written {
				t.Fatalf("view %d of %d has changed under its reader: %s, was %s", i, len(views), jsonOf(t, p.view), p.written)
			}
		}
		want := persisted(t, r.fsm)
		second, third := newFSM("main", nil), newFSM("main", nil)
		from := rapid.IntRange(0, len(snapshots)-1).Draw(t, "snapshot")
		if err := third.Restore(io.NopCloser(bytes.NewReader(snapshots[from]))); err != nil {
			t.Fatalf("restore: %v", err)
		}
		index := third.View().Index
		for _, entry := range r.log {
			replay(second, entry)
			if entry.Index > index {
				replay(third, entry)
			}
		}
		for name, f := range map[string]*fsm{"replayed": second, "restored and replayed": third} {
			if got := persisted(t, f); !bytes.Equal(got, want) {
				t.Fatalf("%s\n%s, want\n%s", name, got, want)
			}
		}
	})
}

func replay(f *fsm, entry raft.Log) {
	if entry.Type == raft.LogConfiguration {
		f.StoreConfiguration(entry.Index, raft.DecodeConfiguration(entry.Data))
		return
	}
	f.Apply(&entry)
}

// run is one machine under random commands, with its log.
type run struct {
	t     *rapid.T
	fsm   *fsm
	log   []raft.Log
	sent  []cluster.Command
	check func(cmd cluster.Command, before, after *cluster.View, value any)
}

func newRun(t *rapid.T) *run { return &run{t: t, fsm: newFSM("main", nil)} }

// send appends a command to the log and applies it.
func (r *run) send(cmd cluster.Command) any {
	data, err := encodeCommand(cmd)
	if err != nil {
		r.t.Fatalf("encode %+v: %v", cmd, err)
	}
	entry := raft.Log{Index: uint64(len(r.log) + 1), Type: raft.LogCommand, Data: data}
	r.log = append(r.log, entry)
	return r.fsm.Apply(&entry)
}

// steps sends the nodes' registrations and then some random commands, some of them late
// duplicates; now and then Raft's voters change. Each command is checked in the form that the log gives it.
func (r *run) steps() {
	start := []cluster.Command{claimOf("n1", ""), registration("n1"), registration("n2"), registration("n3"), firstAcquisition()}
	for _, cmd := range start[:rapid.SampledFrom([]int{len(start), len(start), 4, 0}).Draw(r.t, "start")] {
		r.step(cmd)
	}
	for range rapid.IntRange(20, 120).Draw(r.t, "commands") {
		if back := rapid.IntRange(0, 23).Draw(r.t, "back"); back < 6 && back < len(r.sent) && back > 0 {
			r.step(r.sent[len(r.sent)-back]) // a late duplicate
		} else {
			r.step(anyCommand(r.t, r.fsm.View(), len(r.log)))
		}
		if rapid.IntRange(0, 19).Draw(r.t, "voters") == 19 {
			r.changeVoters()
		}
	}
}

func (r *run) step(cmd cluster.Command) {
	before := r.fsm.View()
	r.sent = append(r.sent, cmd)
	value := r.send(cmd)
	read, err := decodeCommand(r.log[len(r.log)-1].Data)
	if err != nil {
		r.t.Fatalf("decode %+v: %v", cmd, err)
	}
	r.check(read, before, r.fsm.View(), value)
}

func (r *run) changeVoters() {
	var c raft.Configuration
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID).Draw(r.t, "servers") {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(n), Suffrage: rapid.SampledFrom([]raft.ServerSuffrage{raft.Voter, raft.Nonvoter}).Draw(r.t, "suffrage")})
	}
	entry := raft.Log{Index: uint64(len(r.log) + 1), Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
	r.log = append(r.log, entry)
	replay(r.fsm, entry)
}

var names = []cluster.NodeID{"n1", "n2", "n3", "n4"}

// often draws x mostly, else one of the others: a run goes on, and still tries what must be refused.
func often[T any](t *rapid.T, label string, x T, others ...T) T {
	const most = 24 // of so many and one for each of the others
	if i := rapid.IntRange(0, most+len(others)-1).Draw(t, label); i >= most {
		return others[i-most]
	}
	return x
}

func anyTerm(t *rapid.T, x cluster.Term) cluster.Term { return often(t, "term", x, x+1, x-1) }
func anyVersion(t *rapid.T, x uint64) uint64          { return often(t, "version", x, x+1, x-1) }

// anyMember is mostly the node's registered life.
func anyMember(t *rapid.T, v *cluster.View, n cluster.NodeID) cluster.Member {
	i := often(t, "incarnation", v.Nodes[n].Incarnation, "a", "b", "")
	return cluster.Member{Node: n, Incarnation: i}
}

// anyRule draws standbys that are mostly others than primary, k and mode.
func anyRule(t *rapid.T, v *cluster.View, primary cluster.NodeID) (standbys []cluster.Member, k int, mode cluster.SyncMode) {
	for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names[:3]), 0, 3, rapid.ID).Draw(t, "standbys") {
		if n != primary || often(t, "primary too", false, true) {
			standbys = append(standbys, anyMember(t, v, n))
		}
	}
	if len(standbys) > 0 && often(t, "twice", false, true) {
		standbys = append(standbys, standbys[0])
	}
	mode = often(t, "mode", cluster.SyncQuorum, cluster.SyncOn, cluster.SyncOff, "maybe")
	return standbys, often(t, "k", len(standbys), 0, 1, -1, len(standbys)+1), mode
}

func anyLease(t *rapid.T) cluster.LeaseParams {
	return often(t, "lease", testLease, cluster.DefaultLease(2*time.Second), cluster.DefaultLease(5*time.Hour), cluster.LeaseParams{},
		cluster.LeaseParams{TTL: time.Second, RhoPPM: 1_000_000}, cluster.LeaseParams{TTL: time.Second, Fence: time.Second})
}

// anyCommand draws a command that fits the state more often than not. n makes its time unlike the others'.
func anyCommand(t *rapid.T, v *cluster.View, n int) cluster.Command {
	node := rapid.SampledFrom(names).Draw(t, "node")
	holder := often(t, "holder", v.Key.Holder, names...)
	term, version, now := anyTerm(t, v.Key.Term), anyVersion(t, v.RulesVersion), fmt.Sprint("t", n)
	switch rapid.IntRange(0, 16).Draw(t, "kind") {
	case 0:
		from := often(t, "from", v.Claim, names...)
		return cluster.Claim{Node: node, From: from, ClusterID: rapid.SampledFrom([]string{"c-n1", "c2", ""}).Draw(t, "cluster"), Config: anyConfig(t)}
	case 1:
		return cluster.SetSystemID{Node: often(t, "claimer", v.Claim, names...), SystemID: often(t, "system", "77", "78", "")}
	case 2, 3:
		return anyRegistration(t, node)
	case 4, 5, 6:
		return anyAcquisition(t, v, node, now)
	case 7:
		return cluster.ReleaseLeader{Node: holder, Term: term, Reason: "asked", Time: now}
	case 8, 9:
		c := cluster.AddRule{Node: holder, Term: term, RulesVersion: version}
		c.Standbys, c.K, c.Mode = anyRule(t, v, holder)
		return c
	case 10, 11:
		return cluster.DropRules{Node: holder, Term: term, RulesVersion: version}
	case 12:
		tl := often(t, "timeline", v.Key.Timeline, 1, 2, 3, 9)
		return cluster.RecordFork{Timeline: tl, Parent: often(t, "parent", v.Forks[tl].Parent, 0, 1, 2), LSN: rapid.SampledFrom([]cluster.LSN{16, 32, 0}).Draw(t, "lsn")}
	case 13:
		lsn := rapid.SampledFrom([]cluster.LSN{v.LastLSN.Position.LSN + 8, v.LastLSN.Position.LSN, 8, 0}).Draw(t, "lsn")
		return cluster.RecordLSN{Node: holder, Term: term, Position: cluster.Position{Timeline: often(t, "timeline", v.Key.Timeline, 0, 1, 2, 9), LSN: lsn}}
	case 14:
		return often[cluster.Command](t, "handback", cluster.CountHandback{Term: term}, cluster.SetLease{Node: holder, Term: term, Lease: anyLease(t)})
	case 15:
		return often[cluster.Command](t, "refuse", cluster.Refuse{Node: often(t, "whom", node, ""), Term: term + 1, Reason: "disk"}, cluster.SetConfig{Config: anyConfig(t)})
	}
	return rapid.SampledFrom([]cluster.Command{cluster.SetConfig{Config: anyConfig(t)}, cluster.SetLease{Node: holder, Term: term, Lease: anyLease(t)},
		cluster.AddEvent{Event: cluster.Event{Time: now, Type: "seen", Node: node}}}).Draw(t, "other")
}

func anyRegistration(t *rapid.T, node cluster.NodeID) cluster.Register {
	c := registration(often(t, "name", node, ""))
	c.Node.Incarnation = rapid.SampledFrom([]cluster.Incarnation{"a", "b", "c", ""}).Draw(t, "incarnation")
	c.Node.UID = often(t, "uid", c.Node.UID, "other", "")
	c.Node.APIURL = often(t, "url", "http://a", "http://b")
	c.Node.Tags.Custom = often(t, "tags", nil, map[string]string{"zone": "z", "rack": "r"}, map[string]string{})
	return c
}

func anyAcquisition(t *rapid.T, v *cluster.View, node cluster.NodeID, now string) cluster.AcquireLeader {
	inPlace := rapid.IntRange(0, 3).Draw(t, "in place") == 3
	if inPlace {
		node = often(t, "who", v.Key.Holder, node)
	}
	c := cluster.AcquireLeader{Node: node, ExpectTerm: anyTerm(t, v.Key.Term), RulesVersion: anyVersion(t, v.RulesVersion),
		Member: anyMember(t, v, often(t, "whose", node, names...)), InPlace: inPlace, Parent: often(t, "parent", v.Key.Timeline, 0, 1, 7),
		SeenMax: often(t, "seen", v.Key.Timeline, 0, 1, 12, v.Key.Timeline+3), Lease: anyLease(t), Reason: "taken", Time: now}
	c.Standbys, c.K, c.Mode = anyRule(t, v, node)
	return c
}

func anyConfig(t *rapid.T) cluster.Dynamic {
	c := testConfig()
	c.SynchronousMode = often(t, "mode", c.SynchronousMode, cluster.SyncOff, "maybe")
	c.SynchronousNodeCount = often(t, "count", 1, 2, -1)
	c.Lease = anyLease(t)
	c.HeartbeatTimeout = often(t, "heartbeat", time.Second, 2*time.Second, 5*time.Hour)
	c.Parameters = often(t, "parameters", nil, map[string]string{"work_mem": "4MB"}, map[string]string{})
	return c
}
