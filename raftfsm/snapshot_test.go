package raftfsm

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// sink keeps what is persisted; broken makes it fail.
type sink struct {
	bytes.Buffer
	broken            error
	closed, cancelled bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	return s.Buffer.Write(p)
}
func (s *sink) ID() string    { return "1-2-3" }
func (s *sink) Cancel() error { s.cancelled = true; return nil }
func (s *sink) Close() error  { s.closed = true; return nil }

// persisted takes and writes a snapshot.
func persisted(tb interface{ Fatalf(string, ...any) }, f *fsm) []byte {
	snap, err := f.Snapshot()
	if err != nil {
		tb.Fatalf("snapshot: %v", err)
	}
	defer snap.Release()
	var s sink
	if err := snap.Persist(&s); err != nil || !s.closed {
		tb.Fatalf("persist: %v, closed %t", err, s.closed)
	}
	return s.Bytes()
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	watched := takeOver()
	watched.Lease.Watchdog = 6 * time.Second
	m.must(watched, cluster.Refuse{Node: "n3", Term: 3, Reason: "disk"}, cluster.CountHandback{Term: 2})
	m.StoreConfiguration(m.index+1, raft.Configuration{Servers: []raft.Server{{ID: "n1"}, {ID: "n2"}}})
	v := *m.View()
	v.Extension, v.Pause = &cluster.Extension{Holder: "n2", Term: 2, Duration: 5}, &cluster.Pause{Holder: "n2", Term: 2}
	m.view.Store(&v)
	data := persisted(t, m.fsm)

	woken := 0
	other := newFSM("main", func() { woken++ })
	if err := other.Restore(io.NopCloser(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(other.View(), m.View()) || woken != 1 {
		t.Errorf("restored (woken %d times)\n%+v, want\n%+v", woken, other.View(), m.View())
	}
	if wd := other.View().Key.Lease.Watchdog; wd != 6*time.Second {
		t.Errorf("restored with a watchdog of %v, want 6s", wd)
	}
	if again := persisted(t, other); !bytes.Equal(again, data) {
		t.Errorf("written again\n%s, want\n%s", again, data)
	}
}

// Raft applies commands while a snapshot is written: what is written is the state at Snapshot.
func TestSnapshotIsOfItsMoment(t *testing.T) {
	t.Parallel()
	m := healthyMachine(t)
	want := persisted(t, m.fsm)
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var s sink
	written := make(chan error)
	go func() { written <- snap.Persist(&s) }()
	m.must(takeOver(), registration("n4"), cluster.RecordFork{Timeline: 3, Parent: 1, LSN: 9}, cluster.Refuse{Node: "n3", Term: 3})
	if err := <-written; err != nil || !bytes.Equal(s.Bytes(), want) {
		t.Errorf("written (%v)\n%s, want\n%s", err, s.Bytes(), want)
	}
}

func TestPersistCancelsABrokenSink(t *testing.T) {
	t.Parallel()
	snap, err := healthyMachine(t).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	s := sink{broken: full}
	if err := snap.Persist(&s); !errors.Is(err, full) || !s.cancelled || s.closed {
		t.Errorf("error %v, cancelled %t, closed %t", err, s.cancelled, s.closed)
	}
}

func TestRestoreRefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	good := string(persisted(t, healthyMachine(t).fsm))
	for _, c := range []struct{ name, data, want string }{
		{"another format", strings.Replace(good, `"format":1`, `"format":2`, 1), "snapshot format 2, want 1"},
		{"no format", `{"view":{}}`, "snapshot format 0, want 1"},
		{"another cluster", strings.Replace(good, `"scope":"main"`, `"scope":"test"`, 1), `want the state of cluster "main" (id "c1"), have "test"`},
		{"another cluster of that name", strings.Replace(good, `"cluster_id":"c1"`, `"cluster_id":"c2"`, 1), `have "main" (id "c2")`},
		{"no state", `{"format":1}`, `want a state, have none`},
		{"a field of a newer version", strings.Replace(good, `"claim"`, `"claims"`, 1), "unknown field"},
		{"cut off", good[:len(good)/2], "unexpected end"},
		{"more behind it", good + "{}", "after top-level value"},
		{"nothing", "", "snapshot of 0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := healthyMachine(t)
			before, wakes := m.View(), m.wakes
			err := m.Restore(io.NopCloser(strings.NewReader(c.data)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if m.View() != before || m.wakes != wakes {
				t.Error("the state moved")
			}
		})
	}
}

func TestRestoreSaysWhenItCannotRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("link lost")
	r, w := io.Pipe()
	w.CloseWithError(broken)
	if err := newFSM("main", nil).Restore(r); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}
