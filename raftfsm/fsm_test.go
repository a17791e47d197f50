package raftfsm

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// machine is an fsm under test: commands go through the log's form, as they do in Raft.
type machine struct {
	*fsm
	tb    testing.TB
	index uint64
	wakes int
}

func newMachine(tb testing.TB) *machine {
	m := &machine{tb: tb}
	m.fsm = newFSM("main", func() { m.wakes++ })
	return m
}

// apply encodes and applies one command.
func (m *machine) apply(cmd cluster.Command) any {
	m.tb.Helper()
	data, err := encodeCommand(cmd)
	if err != nil {
		m.tb.Fatalf("encode %+v: %v", cmd, err)
	}
	m.index++
	return m.Apply(&raft.Log{Index: m.index, Type: raft.LogCommand, Data: data})
}

// must applies commands that may not be refused, and gives the last one's value.
func (m *machine) must(cmds ...cluster.Command) (value any) {
	m.tb.Helper()
	for _, cmd := range cmds {
		value = m.apply(cmd)
		if r, refused := value.(*cluster.Refused); refused {
			m.tb.Fatalf("%+v: %v", cmd, r)
		}
	}
	return value
}

const (
	testNode1 = cluster.NodeID("n1")
	testNode2 = cluster.NodeID("n2")
	testNode3 = cluster.NodeID("n3")
)

var testLease = cluster.DefaultLease(time.Second)

func testConfig() cluster.Dynamic {
	return cluster.Dynamic{SynchronousMode: cluster.SyncQuorum, SynchronousNodeCount: 1, HeartbeatTimeout: time.Second, Lease: testLease}
}

// life is a member's first incarnation, as healthyMachine registers it.
func life(n cluster.NodeID) cluster.Member { return cluster.Member{Node: n, Incarnation: "a"} }

func registration(n cluster.NodeID) cluster.Register {
	return cluster.Register{Node: cluster.Node{Name: n, UID: cluster.UID("uid-" + n), Incarnation: "a", RaftAddr: string(n) + ":7000"}}
}

// firstAcquisition is n1's of term 1: timeline 1, one of n2 and n3 confirms.
func firstAcquisition() cluster.AcquireLeader {
	return cluster.AcquireLeader{Node: testNode1, Member: life(testNode1), SeenMax: 1, Lease: testLease,
		Standbys: []cluster.Member{life(testNode2), life(testNode3)}, K: 1, Mode: cluster.SyncQuorum, Reason: "first", Time: "2026-01-01T00:00:00Z"}
}

// takeOver is n2's acquisition of term 2 from the healthy state.
func takeOver() cluster.AcquireLeader {
	return cluster.AcquireLeader{Node: testNode2, ExpectTerm: 1, RulesVersion: 1, Member: life(testNode2), Parent: 1, SeenMax: 1, Lease: testLease,
		Standbys: []cluster.Member{life(testNode3)}, K: 1, Mode: cluster.SyncQuorum, Reason: "n1 is gone", Time: "2026-01-01T00:01:00Z"}
}

// healthyMachine is a cluster of three with n1 as the holder of term 1 on timeline 1, at rules version 1.
func healthyMachine(tb testing.TB) *machine {
	tb.Helper()
	m := newMachine(tb)
	m.must(cluster.Claim{Node: testNode1, ClusterID: "c1", Config: testConfig()},
		cluster.SetSystemID{Node: testNode1, SystemID: "77"},
		registration(testNode1), registration(testNode2), registration(testNode3), firstAcquisition())
	return m
}

// applyCase is one command on a base state that some commands have edited.
type applyCase struct {
	name    string
	prepare []cluster.Command
	cmd     cluster.Command
	refused string // part of the reason; empty: the command is applied
	same    bool   // it changes nothing but the index
	check   func(v *cluster.View) bool
}

// run applies the case's command and checks the answer, and that a refusal changes nothing.
func (c applyCase) run(t *testing.T, m *machine) {
	m.must(c.prepare...)
	before, wakes := *m.View(), m.wakes
	value := m.apply(c.cmd)
	after := *m.View()
	if after.Index != m.index {
		t.Errorf("index %d, want %d", after.Index, m.index)
	}
	r, refused := value.(*cluster.Refused)
	switch {
	case refused != (c.refused != ""):
		t.Fatalf("answer %v, want refusal %q", value, c.refused)
	case refused && (!strings.Contains(r.Reason, c.refused) || r.Command != c.cmd.Kind()):
		t.Errorf("refused with %v, want %q", r, c.refused)
	}
	after.Index = before.Index
	unchanged := reflect.DeepEqual(before, after)
	if still := refused || c.same; still != unchanged || unchanged != (m.wakes == wakes) {
		t.Errorf("unchanged %t (woken %d times), want %t\nbefore %+v\nafter %+v", unchanged, m.wakes-wakes, still, before, after)
	}
	if c.check != nil && !c.check(&after) {
		t.Errorf("state %+v", after)
	}
}

func runCases(t *testing.T, base func(testing.TB) *machine, cases []applyCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, base(t))
		})
	}
}

func TestNewFSMHasAViewAndNeedsNoWake(t *testing.T) {
	t.Parallel()
	f := newFSM("main", nil)
	if v := f.View(); v == nil || v.Scope != "main" || v.Index != 0 {
		t.Fatalf("view %+v", v)
	}
	f.StoreConfiguration(1, raft.Configuration{})
}

// L6: both sides count over the committed configuration too, so it must name the voters and them only.
func TestL6StoreConfigurationRecordsVotersSorted(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	before, wakes := m.View(), m.wakes
	m.StoreConfiguration(41, raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "n3"}, {Suffrage: raft.Nonvoter, ID: "n2"}, {Suffrage: raft.Voter, ID: "n1"},
	}})
	v := m.View()
	if want := []cluster.NodeID{testNode1, testNode3}; !reflect.DeepEqual(v.Committed, want) || v.Index != 41 {
		t.Errorf("committed %v at index %d, want %v at 41", v.Committed, v.Index, want)
	}
	if len(before.Committed) != 0 || m.wakes != wakes+1 || v.Key != before.Key {
		t.Errorf("before %+v, woken %d times, key %+v", before.Committed, m.wakes-wakes, v.Key)
	}
}

func TestUnknownEntryHaltsTheNode(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"version":       `{"v":2,"kind":"claim","body":{}}`,
		"no version":    `{"kind":"claim","body":{}}`,
		"kind":          `{"v":1,"kind":"divine","body":{}}`,
		"field":         `{"v":1,"kind":"count_handback","body":{"term":1,"times":2}}`,
		"no body":       `{"v":1,"kind":"claim"}`,
		"wrong type":    `{"v":1,"kind":"count_handback","body":{"term":"one"}}`,
		"no JSON":       `claim`,
		"nothing":       ``,
		"two at a time": `{"v":1,"kind":"count_handback","body":{"term":1}}{}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := healthyMachine(t)
			before := m.View()
			defer func() {
				said, ok := recover().(string)
				if !ok || !strings.Contains(said, "raft entry 9 cannot be applied by this version") {
					t.Errorf("panic %q, want one that names the entry", said)
				}
				if m.View() != before {
					t.Error("the view moved")
				}
			}()
			m.Apply(&raft.Log{Index: 9, Data: []byte(data)})
		})
	}
}

type unknownCommand struct{}

func (unknownCommand) Kind() string { return "divine" }

func TestEncodeRefusesWhatNoNodeCouldRead(t *testing.T) {
	t.Parallel()
	for _, cmd := range []cluster.Command{nil, unknownCommand{}} {
		if data, err := encodeCommand(cmd); err == nil {
			t.Errorf("%v: encoded as %s", cmd, data)
		}
	}
}

// The form of an entry stands in logs on disk: a change of it needs another version.
func TestEntryFormIsFrozen(t *testing.T) {
	t.Parallel()
	data, err := encodeCommand(cluster.RecordFork{Timeline: 2, Parent: 1, LSN: 0x5000028})
	want := `{"v":1,"kind":"record_fork","body":{"timeline":2,"parent":1,"lsn":"0/5000028"}}`
	if err != nil || string(data) != want {
		t.Errorf("entry %s (%v), want %s", data, err, want)
	}
}

// What a watchdog is recorded by stands in the entry only where there is one: the entries of clusters without are what they
// were before there were any.
func TestEntryWithoutAWatchdogIsAsBefore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wd   time.Duration
		want string
	}{
		{0, `{"v":1,"kind":"set_lease","body":{"node":"n1","term":1,"lease":{"ttl":800000000,"fence":100000000,"rho_ppm":10000}}}`},
		{6 * time.Second, `{"v":1,"kind":"set_lease","body":{"node":"n1","term":1,"lease":{"ttl":800000000,"fence":100000000,"rho_ppm":10000,"watchdog":6000000000}}}`},
	} {
		lease := testLease
		lease.Watchdog = c.wd
		cmd := cluster.SetLease{Node: "n1", Term: 1, Lease: lease}
		data, err := encodeCommand(cmd)
		if err != nil || string(data) != c.want {
			t.Errorf("entry %s (%v), want %s", data, err, c.want)
		}
		if back, err := decodeCommand(data); err != nil || back != cmd {
			t.Errorf("%s came back as %+v (%v)", data, back, err)
		}
	}
}

// Each kind that can be decoded has a rule, and comes back from its entry as it was.
func TestEveryKindIsDecodedAndApplied(t *testing.T) {
	t.Parallel()
	kinds := []cluster.Command{cluster.Claim{Node: testNode1, Config: testConfig()}, cluster.SetSystemID{SystemID: "1"}, registration(testNode1), cluster.Readmit{Node: testNode1, UID: "u"}, takeOver(),
		cluster.ReleaseLeader{Term: 3}, cluster.AddRule{K: 1}, cluster.DropRules{Term: 3}, cluster.RecordFork{LSN: 9}, cluster.RecordLSN{Position: cluster.Position{Timeline: 1, LSN: 7}},
		cluster.CountHandback{Term: 4}, cluster.Refuse{Reason: "disk"}, cluster.SetConfig{Config: testConfig()}, cluster.SetLease{Lease: testLease}, cluster.AddEvent{Event: cluster.Event{Type: "x"}}}
	if len(kinds) != len(decoders) {
		t.Fatalf("%d kinds here, %d can be decoded", len(kinds), len(decoders))
	}
	m := newMachine(t)
	for _, cmd := range kinds {
		data, err := encodeCommand(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeCommand(data); err != nil || !reflect.DeepEqual(back, cmd) {
			t.Errorf("%s came back as %+v (%v)", data, back, err)
		}
		m.apply(cmd)
	}
}

// jsonOf is the written form of a value, to see whether a reader's view was touched.
func jsonOf(tb interface{ Fatalf(string, ...any) }, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		tb.Fatalf("encode %T: %v", v, err)
	}
	return string(data)
}
