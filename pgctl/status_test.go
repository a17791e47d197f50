package pgctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/cluster"
)

// Status of a primary and its standby, running, stopping and stopped.
func TestStatusFollowsLife(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	at := primary.flushed()
	eventually(t, 10*time.Second, "standby has replayed", func() bool { return s.look().Replayed >= at })
	p, st := primary.look(), s.look()
	switch {
	case p.State != cluster.PostgresRunning || p.Role != cluster.RolePrimary || p.Timeline != 1 || p.Current < at || p.Version/10000 != testMajor(t):
		t.Fatalf("primary: %+v", p)
	case len(p.Replication) != 1 || p.Replication[0].AppName != s.me.AppName(0) || p.Replication[0].State != "streaming":
		t.Fatalf("primary's standbys: %+v", p.Replication)
	case st.Role != cluster.RoleStandby || !st.Streaming || st.Timeline != 1 || st.Received < at:
		t.Fatalf("standby: %+v", st)
	case st.Source != "n1" || st.SourceTerm != 1 || st.Data != cluster.DataOurs || st.Incarnation != "a1" || st.SystemID != p.SystemID:
		t.Fatalf("standby: %+v", st)
	}
	must(t, s.Stop(within(t), StopFast, time.Minute))
	if st := s.look(); st.State != cluster.PostgresStopped || !st.Clean || st.Timeline != 1 || st.Source != "n1" {
		t.Fatalf("stopped standby: %+v", st)
	}
	must(t, primary.Stop(within(t), StopImmediate, 0))
	if p := primary.look(); p.State != cluster.PostgresStopped || p.Clean || p.SystemID == "" || p.Redo == 0 || p.Redo > at { // C3: the estimate's beginning
		t.Fatalf("crashed primary: %+v", p)
	}
}

// A server that lives and does not answer in time hangs; it keeps the role that it last told.
func TestStatusHung(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n := emptyNode(t, "n1", func(o *Options) { o.HealthDeadline = 300 * time.Millisecond })
	must(t, second(n.InitDB(within(t), n.me)))
	n.startPrimary(1)
	eventually(t, 10*time.Second, "runs", func() bool { return n.look().State == cluster.PostgresRunning })
	run, _ := n.postmaster()
	children, err := run.children()
	must(t, err)
	pids := []int{run.pid}
	for _, c := range children {
		pids = append(pids, c.pid)
	}
	for _, pid := range pids {
		must(t, signalChild(pid, unix.SIGSTOP))
	}
	st := n.look()
	for _, pid := range pids {
		must(t, signalChild(pid, unix.SIGCONT))
	}
	if st.State != cluster.PostgresHung || st.Role != cluster.RolePrimary {
		t.Fatalf("frozen: %+v", st)
	}
	eventually(t, 10*time.Second, "answers again", func() bool { return n.look().State == cluster.PostgresRunning })
}

// A receiver that its source refuses does not stream, whatever pg_stat_wal_receiver says for a moment.
func TestStatusRefusedReceiverDoesNotStream(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, s.Cut(within(t)))
	eventually(t, 10*time.Second, "slot is free", func() bool { return primary.senderCount() == "0" })
	primary.sql("SELECT pg_drop_replication_slot('n2')")
	must(t, s.Follow(within(t), primary.asSource(1), s.me))
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if st := s.look(); st.Streaming {
			t.Fatalf("streams without a slot: %+v", st)
		}
	}
}

// V5: what counts as this node's own data.
func TestDataState(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	must(t, n.Stop(within(t), StopFast, time.Minute))
	want := func(state cluster.DataState) {
		t.Helper()
		if st := n.look(); st.Data != state || (st.Incarnation != "") != (state == cluster.DataOurs) {
			t.Fatalf("want %s, have %s (%s), incarnation %q", state, st.Data, st.DataDetail, st.Incarnation)
		}
	}
	want(cluster.DataOurs)
	n.ExpectSystemID("1")
	want(cluster.DataForeign)
	n.ExpectSystemID("")
	for _, mark := range n.rewindMarkPaths() { // one beside PGDATA, so that the loss of raft.data_dir is not the mark's
		must(t, os.WriteFile(mark, []byte("{}"), 0o600))
		want(cluster.DataRewinding)
		must(t, os.Remove(mark))
	}
	id := filepath.Join(n.opt.DataDir, idFile)
	must(t, writeDurable(id, cluster.Member{Node: "n7", Incarnation: "a1"}))
	want(cluster.DataUnclaimed)
	must(t, os.Remove(id))
	want(cluster.DataUnclaimed)
	must(t, n.Claim(within(t), cluster.Member{Node: "n1", Incarnation: "b2"}))
	want(cluster.DataOurs)
	if err := n.Claim(within(t), cluster.Member{Node: "n1", Incarnation: "c3"}); err == nil {
		t.Fatal("claimed twice")
	}
	// The promises of this life, if there were any, were here: without the record of that it does not go on.
	must(t, os.Remove(filepath.Join(n.opt.GuardDir, livesFile)))
	want(cluster.DataUnclaimed)
	if n.KeepsLife("b2") || !strings.Contains(n.Former(), "n1_b2") {
		t.Errorf("keeps the life %t; %q", n.KeepsLife("b2"), n.Former())
	}
	must(t, n.Claim(within(t), cluster.Member{Node: "n1", Incarnation: "c3"}))
	want(cluster.DataOurs)
	must(t, os.Remove(filepath.Join(n.opt.DataDir, pgVersionFile)))
	want(cluster.DataNotCluster)
	must(t, os.RemoveAll(n.opt.DataDir))
	want(cluster.DataAbsent)
	if n.Former() == "" {
		t.Error("the guard's directory remembers nothing")
	}
	must(t, os.Remove(filepath.Join(n.opt.GuardDir, livesFile)))
	if why := n.Former(); why != "" {
		t.Errorf("want a first start, have %q", why)
	}
}

// What recover reads and adopts, without a guard: the life that the directory bears, whether or not its promises are here.
func TestReadLeft(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	if _, err := n.ReadLeft(within(t)); err == nil || !strings.Contains(err.Error(), "postmaster") {
		t.Errorf("beside a running server: %v", err)
	}
	must(t, n.Stop(within(t), StopFast, time.Minute))
	offline := New(n.opt, nil)
	want := func(state cluster.DataState, m cluster.Member) {
		t.Helper()
		l, err := offline.ReadLeft(within(t))
		if err != nil || l.Data != state || l.Member != m || l.Position.Known() != (m.Node != "") || l.SystemID == "" {
			t.Errorf("left %+v, %v; want %s of %s", l, err, state, m.Life())
		}
	}
	want(cluster.DataOurs, n.me)
	must(t, os.Remove(filepath.Join(n.opt.GuardDir, livesFile)))
	want(cluster.DataUnclaimed, n.me)
	must(t, offline.Adopt(n.me))
	want(cluster.DataOurs, n.me)
	must(t, writeDurable(filepath.Join(n.opt.DataDir, idFile), cluster.Member{Node: "n7", Incarnation: "a1"}))
	want(cluster.DataUnclaimed, cluster.Member{})
}
