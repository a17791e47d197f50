package pgctl

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// diverge makes a cluster whose standby is promoted to timeline 2 while the old primary goes on for itself and is shut
// down. fork is where the old primary's WAL leaves timeline 2.
func diverge(t *testing.T, old, young *node) (fork cluster.Position) {
	t.Helper()
	old.sql("CREATE TABLE t (v text)")
	old.sql("INSERT INTO t VALUES ('both')")
	young.catchUp(old)
	must(t, young.Cut(within(t)))
	young.arm(2)
	must(t, young.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	young.sql("INSERT INTO t VALUES ('young')")
	old.sql("INSERT INTO t VALUES ('lost')")
	old.sql("CREATE TABLE lost AS SELECT generate_series(1, 10000)")
	must(t, young.Checkpoint(within(t)))
	forks, err := young.LocalForks(within(t))
	must(t, err)
	return cluster.Position{Timeline: 1, LSN: forks[len(forks)-1].LSN}
}

// catchUp waits until n has replayed all of primary.
func (n *node) catchUp(primary *node) {
	n.t.Helper()
	at := primary.flushed()
	eventually(n.t, 30*time.Second, "standby has caught up", func() bool { return n.look().Replayed >= at })
}

// rejoined checks that n streams from young, as m, and has young's rows and no other.
func (n *node) rejoined(young *node, m cluster.Member) {
	n.t.Helper()
	if st := n.look(); st.Data != cluster.DataOurs || st.Incarnation != m.Incarnation {
		n.t.Fatalf("data %+v", st)
	}
	n.me = m
	must(n.t, young.EnsureSlots(within(n.t), []cluster.NodeID{m.Node}))
	n.startStandby(young.asSource(2))
	n.awaitStreaming()
	n.catchUp(young)
	if got := n.value("SELECT string_agg(v, ' ' ORDER BY v) FROM t"); got != "both young" {
		n.t.Errorf("rows %q", got)
	}
	if got := n.value("SELECT to_regclass('lost')::text"); got != "" {
		n.t.Errorf("table %s survived", got)
	}
}

// B4, U4, V5: after a crash the WAL from the fork on and the list of what is lost are kept aside before pg_rewind, and
// the directory comes back as the new incarnation, with its own files.
func TestRewindAfterCrash(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	must(t, old.EnsureSlots(within(t), []cluster.NodeID{"n2", "n3"}))
	fork := diverge(t, old, young)
	xid := old.value("SELECT xmin::text FROM t WHERE v = 'lost'")
	must(t, old.Stop(within(t), StopImmediate, time.Minute))
	m := cluster.Member{Node: "n1", Incarnation: "new"}
	if err := old.Rewind(within(t), *young.asSource(2), fork, m, nil); !errors.Is(err, ErrNotShutDown) {
		t.Errorf("after a crash: %v", err)
	}
	must(t, old.CrashRecover(within(t)))
	must(t, old.CrashRecover(within(t))) // nothing to do
	own := filepath.Join(old.opt.DataDir, "mine.conf")
	must(t, os.WriteFile(own, []byte("# mine"), 0o600))

	var said []string
	must(t, old.Rewind(within(t), *young.asSource(2), fork, m, func(s string) { said = append(said, s) }))
	if len(said) < 3 || !strings.HasPrefix(said[0], "kept aside ") {
		t.Errorf("progress %q", said)
	}
	kept, err := filepath.Glob(filepath.Join(old.dir, "kept", "*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %v, %v", kept, err)
	}
	lost, err := os.ReadFile(filepath.Join(kept[0], "lost.txt"))
	must(t, err)
	if !strings.Contains(string(lost), "tx: ") || !strings.Contains(string(lost), xid) || !strings.Contains(string(lost), "COMMIT") {
		t.Errorf("list of what is lost lacks transaction %s:\n%s", xid, lost)
	}
	w := walFiles{dir: filepath.Join(kept[0], "pg_wal"), segment: 1 << 20, page: 8192}
	if !w.has(1, fork.LSN) {
		t.Errorf("no segment %s kept", w.name(1, fork.LSN))
	}
	if text, err := os.ReadFile(own); string(text) != "# mine" || err != nil {
		t.Errorf("own file: %q, %v", text, err)
	}
	old.rejoined(young, m)
	if got := old.value("SELECT count(*)::text FROM pg_replication_slots"); got != "0" {
		t.Errorf("%s slots survived", got)
	}
	noPassword(t, old.opt.DataDir)
}

// V5: a rewind that breaks off leaves the mark, under which the directory is nobody's incarnation; it is taken up again.
func TestRewindBreaksOff(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	fork := diverge(t, old, young)
	must(t, old.Stop(within(t), StopFast, time.Minute))
	m := cluster.Member{Node: "n1", Incarnation: "new"}

	ctx, cancel := context.WithCancelCause(within(t))
	broken := errors.New("power cut")
	err := old.Rewind(ctx, *young.asSource(2), fork, m, func(s string) {
		if strings.Contains(s, "rewinding from last common checkpoint") {
			cancel(broken)
		}
	})
	if !errors.Is(err, broken) {
		t.Fatalf("rewind: %v", err)
	}
	if st := old.look(); st.Data != cluster.DataRewinding || st.Incarnation != "" {
		t.Errorf("data %+v", st)
	}
	// Taken up, the fork is the mark's: nobody can tell it from the directory any more. A source whose control file is not
	// past it would look like one without a divergence, and a mark from before is not taken back.
	mark, err := old.readRewindMark()
	must(t, err)
	early := *mark
	early.Fork.Timeline = 2
	must(t, old.writeRewindMark(&early))
	var impossible *RewindImpossible
	if err := old.Rewind(within(t), *young.asSource(2), cluster.Position{}, m, nil); !errors.As(err, &impossible) || !impossible.Retry || !strings.Contains(err.Error(), "a checkpoint of n2") {
		t.Errorf("taken up before the source's checkpoint: %v", err)
	}
	if err := old.nothingRewound(&early, false); !errors.As(err, &impossible) {
		t.Errorf("nothing rewound: %v", err)
	}
	if st := old.look(); st.Data != cluster.DataRewinding {
		t.Fatalf("data %+v", st)
	}
	must(t, old.writeRewindMark(mark))
	must(t, old.Rewind(within(t), *young.asSource(2), cluster.Position{}, m, nil))
	if kept, err := filepath.Glob(filepath.Join(old.dir, "kept", "*")); err != nil || len(kept) != 1 {
		t.Errorf("kept %v, %v", kept, err)
	}
	old.rejoined(young, m)
}

// U4, V5: the same after pg_rewind ended well, and for a clone instead of a second rewind.
func TestRewindMarkLeft(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	fork := diverge(t, old, young)
	must(t, old.Stop(within(t), StopFast, time.Minute))
	m := cluster.Member{Node: "n1", Incarnation: "new"}
	must(t, old.Rewind(within(t), *young.asSource(2), fork, m, nil))
	kept, err := filepath.Glob(filepath.Join(old.dir, "kept", "*"))
	must(t, err)
	// As if it had ended between pg_rewind and the identity: the source's is still there.
	must(t, writeDurable(filepath.Join(old.opt.DataDir, idFile), young.me))
	must(t, old.writeRewindMark(&rewindMark{Fork: fork, Source: "n2", Kept: kept[0], Rewound: true}))
	if st := old.look(); st.Data != cluster.DataRewinding {
		t.Errorf("data %+v", st)
	}
	must(t, old.Rewind(within(t), *young.asSource(2), fork, m, nil))
	if st := old.look(); st.Data != cluster.DataOurs || st.Incarnation != "new" {
		t.Errorf("data %+v", st)
	}
	must(t, old.writeRewindMark(&rewindMark{Fork: fork, Source: "n2", Kept: kept[0]}))
	cloned := cluster.Member{Node: "n1", Incarnation: "cloned"}
	must(t, old.BaseBackup(within(t), *young.asSource(2), cloned, nil))
	old.rejoined(young, cloned)
}

// What pg_rewind needs is said before anything is touched.
func TestRewindImpossible(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	fork := diverge(t, old, young)
	must(t, old.Stop(within(t), StopFast, time.Minute))
	src := *young.asSource(2)
	c, err := old.ControlData(within(t))
	must(t, err)
	for _, x := range []struct {
		name    string
		want    string
		retry   bool
		edit    func(c *ControlData, s *Source, fork *cluster.Position)
		prepare string
		undo    string
	}{
		{"hints", "wal_log_hints", false, func(c *ControlData, _ *Source, _ *cluster.Position) { c.Checksums, c.WalLogHints = false, false }, "", ""},
		{"source away", "an answer", true, func(_ *ControlData, s *Source, _ *cluster.Position) { s.Port = 1 }, "", ""},
		{"other cluster", "same cluster", false, func(c *ControlData, _ *Source, _ *cluster.Position) { c.SystemID = "1" }, "", ""},
		{"no checkpoint", "a checkpoint of n2", true, func(_ *ControlData, _ *Source, f *cluster.Position) { f.Timeline = 2 }, "", ""},
		{"no right", "pg_stat_file", false, func(*ControlData, *Source, *cluster.Position) {},
			"REVOKE EXECUTE ON FUNCTION pg_stat_file(text, boolean) FROM rewinder", "GRANT EXECUTE ON FUNCTION pg_stat_file(text, boolean) TO rewinder"},
		{"all there", "", false, func(*ControlData, *Source, *cluster.Position) {}, "", ""},
	} {
		control, s, f := *c, src, fork
		x.edit(&control, &s, &f)
		if x.prepare != "" {
			young.sql(x.prepare)
		}
		err := old.checkRewind(within(t), &control, s, f)
		if x.undo != "" {
			young.sql(x.undo)
		}
		var impossible *RewindImpossible
		if x.want == "" {
			must(t, err)
		} else if !errors.As(err, &impossible) || !strings.Contains(impossible.Missing, x.want) || impossible.Retry != x.retry {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

// F3: with equal timeline numbers pg_rewind finds nothing to rewind. That is no success: this node has WAL that the
// other does not.
func TestRewindSeesNothing(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	old, others := newCluster(t, 1)
	young := others[0]
	fork := diverge(t, old, young)
	must(t, old.Stop(within(t), StopFast, time.Minute))
	old.startStandby(nil)
	old.arm(3)
	must(t, old.Promote(within(t), PromoteSpec{Term: 3, Timeline: 2}))
	old.sql("INSERT INTO t VALUES ('old, on a timeline 2 of its own')")
	must(t, old.Checkpoint(within(t)))
	must(t, old.Stop(within(t), StopFast, time.Minute))

	m := cluster.Member{Node: "n1", Incarnation: "new"}
	err := old.Rewind(within(t), *young.asSource(2), fork, m, nil)
	var impossible *RewindImpossible
	if !errors.As(err, &impossible) || impossible.Retry {
		t.Fatalf("rewind: %v", err)
	}
	if st := old.look(); st.Data != cluster.DataOurs || st.Incarnation != old.me.Incarnation {
		t.Errorf("data %+v", st)
	}
}

// V5: what is rewound by half is no data, also once raft.data_dir is lost, and is none again when a clone has replaced it.
func TestRewindMarkBesideData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := New(Options{Self: "n1", DataDir: filepath.Join(dir, "data"), GuardDir: filepath.Join(dir, "guard"), Log: slog.New(slog.DiscardHandler)}, nil)
	must(t, os.Mkdir(p.opt.GuardDir, 0o700))
	must(t, p.writeRewindMark(&rewindMark{Source: "n2", Rewound: true}))
	must(t, os.RemoveAll(p.opt.GuardDir))
	if state, why := p.DataState(t.Context()); state != cluster.DataRewinding {
		t.Errorf("data is %s: %s", state, why)
	}
	mark, err := p.readRewindMark()
	if err != nil || mark == nil || mark.Source != "n2" || !mark.Rewound {
		t.Errorf("mark %+v, %v", mark, err)
	}
	must(t, p.clearRewindMark())
	if state, why := p.DataState(t.Context()); state != cluster.DataAbsent {
		t.Errorf("data is %s: %s", state, why)
	}
}
