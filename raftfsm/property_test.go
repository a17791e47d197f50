package raftfsm

import (
	"bytes"
	"io"
	"reflect"
	"slices"
	"testing"

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
		r.check = func(cmd cluster.Command, before, after *cluster.View, value any) {
			other.voters = before.Committed // of Raft, not of a command
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
	if after.Key.Term != before.Key.Term+1 {
		t.Fatalf("K7: term from %d to %d", before.Key.Term, after.Key.Term)
	}
	checkAddsOnly(t, before, after)
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

// checkAddsOnly is G3: one rule is added, of the key's term and timeline, and one that goes asked the same of the same primary
// on the same timeline.
func checkAddsOnly(t *rapid.T, before, after *cluster.View) {
	last := after.Rules[len(after.Rules)-1]
	var stay []cluster.SyncRule
	for _, r := range before.Rules {
		if r.Primary != last.Primary || r.Timeline != last.Timeline || r.K != last.K || r.Mode != last.Mode || !slices.Equal(r.Standbys, last.Standbys) {
			stay = append(stay, r)
		}
	}
	if n := len(stay); len(after.Rules) != n+1 || n > 0 && !reflect.DeepEqual(after.Rules[:n], stay) || last.Timeline != after.Key.Timeline || last.Term != after.Key.Term {
		t.Fatalf("G3: rules %+v became %+v", before.Rules, after.Rules)
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
	if _, adds := cmd.(cluster.AddRule); adds && after.RulesVersion != before.RulesVersion {
		checkAddsOnly(t, before, after)
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
		if slices.ContainsFunc(before.Rules, func(r cluster.SyncRule) bool { return r.ID == rule.ID }) {
			continue
		}
		for _, m := range rule.Standbys {
			if !registered(after, m) {
				t.Fatalf("V5: %T added rule %d with standby %s, which is no registered life", cmd, rule.ID, m.Life())
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
