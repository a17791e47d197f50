package pgctl

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// V1: no source below the promise, neither by Follow nor by Start, running or stopped, also after a restart of the agent;
// the taker's catch-up source and the new holder bear the promised term.
func TestFollowRefusesBelowPromise(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, s.Promise(within(t), 3, s.me))
	must(t, s.Promise(within(t), 3, s.me))
	if err := s.Promise(within(t), 2, s.me); !errors.Is(err, ErrPromisedHigher) {
		t.Fatalf("lowered: %v", err)
	}
	again := New(s.opt, s.guard.Load())
	for _, term := range []cluster.Term{1, 2} {
		for name, p := range map[string]*Postgres{"same agent": s.Postgres, "next agent": again} {
			if err := p.Follow(within(t), primary.asSource(term), s.me); !errors.Is(err, ErrBelowPromise) {
				t.Fatalf("%s, term %d: %v", name, term, err)
			}
		}
	}
	catchUp := primary.asSource(3)
	catchUp.CatchUp = true
	must(t, s.Follow(within(t), catchUp, s.me))
	must(t, s.Stop(within(t), StopFast, time.Minute))
	if err := s.Start(within(t), StartSpec{Source: primary.asSource(2), Settings: Settings{Me: s.me}}); !errors.Is(err, ErrBelowPromise) {
		t.Fatalf("start below the promise: %v", err)
	}
	if err := s.Promise(within(t), 5, s.me); err != nil || s.Promised() != 5 {
		t.Fatalf("stopped: %v, promised %d", err, s.Promised())
	}
	s.startStandby(primary.asSource(5))
	s.awaitStreaming()
}

// The source changes by a reload: no restart, and the reader's session lives on. S6: own slot, name of the incarnation.
func TestFollowIsAReload(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 2)
	via, s := standbys[0], standbys[1]
	reader, err := s.superuserConn(within(t))
	must(t, err)
	defer closeConn(t.Context(), reader)
	for range 3 {
		for _, source := range []*node{via, primary} {
			must(t, s.Follow(within(t), source.asSource(1), s.me))
			eventually(t, 20*time.Second, "streams from "+string(source.me.Node), func() bool {
				return source.value("SELECT count(*)::text FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid"+
					" WHERE r.application_name = $1 AND s.slot_name = $2", s.me.AppName(0), SlotName(s.me.Node)) == "1"
			})
			if st := s.look(); st.Source != source.me.Node {
				t.Fatalf("source %s, want %s", st.Source, source.me.Node)
			}
		}
	}
	must(t, reader.Ping(within(t)))
}

// The connection string survives every character that a name or a password may hold.
func TestSourceLineRoundTrip(t *testing.T) {
	for _, node := range []cluster.NodeID{"n1", "a b", `q"uo'te\`, "ünï"} {
		line := sourceLine(&Source{Node: node, Term: 42})
		if strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "#") {
			t.Errorf("%q: %q is no single comment line", node, line)
		}
	}
	for in, want := range map[string]string{"a": "'a'", "it's": "'it''s'", `b\s`: `'b\\s'`, "l\nf": `'l\nf'`} {
		if got := confQuote(in); got != want {
			t.Errorf("confQuote(%q) = %s, want %s", in, got, want)
		}
	}
}

// A start gives up when Postgres ends, and says where to look.
func TestStartReportsDeath(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	must(t, n.Stop(within(t), StopFast, time.Minute))
	spec := StartSpec{Settings: Settings{Me: n.me, Parameters: map[string]string{"work_mem": "no number"}}}
	if err := n.Start(within(t), spec); !errors.Is(err, ErrNotStarted) {
		t.Fatalf("broken parameter: %v", err)
	}
	if err := n.Start(within(t), StartSpec{Primary: true, Term: 9, Settings: Settings{Me: n.me}}); !errors.Is(err, ErrLeaseRefused) {
		t.Fatalf("U2: primary without a lease for term 9: %v", err)
	}
	n.startStandby(nil)
	if st := n.look(); st.Role != cluster.RoleStandby || st.Streaming {
		t.Fatalf("%+v", st)
	}
	if err := n.Start(within(t), StartSpec{Settings: Settings{Me: n.me}}); !errors.Is(err, ErrRunning) {
		t.Fatalf("second start: %v", err)
	}
	if got := fmt.Sprint(n.value("SHOW restore_command"), n.value("SHOW primary_conninfo")); got != "" {
		t.Fatalf("source settings %q", got)
	}
}
