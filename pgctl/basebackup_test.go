package pgctl

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// newPrimary is a primary of term 1 with its users.
func newPrimary(t *testing.T, change func(*Options)) *node {
	t.Helper()
	n := emptyNode(t, "n1", change)
	must(t, second(n.InitDB(within(t), n.me)))
	n.startPrimary(1)
	must(t, n.CreateUsers(within(t)))
	return n
}

// entries lists what stands beside data_dir, by a pattern.
func (n *node) beside(pattern string) []string {
	n.t.Helper()
	list, err := filepath.Glob(n.opt.DataDir + pattern)
	must(n.t, err)
	return list
}

func (n *node) exists(name string) bool {
	n.t.Helper()
	_, err := os.Lstat(filepath.Join(n.opt.DataDir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	return err == nil
}

// B4, V5: a clone comes beside the old directory, which is kept, and bears its own identity; tablespaces get fresh names.
func TestBaseBackup(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary := newPrimary(t, nil)
	space := filepath.Join(primary.dir, "space=1")
	must(t, os.Mkdir(space, 0o700))
	primary.sql("CREATE TABLESPACE elsewhere LOCATION '" + space + "'")
	primary.sql("CREATE TABLE far (i int) TABLESPACE elsewhere")
	primary.sql("INSERT INTO far SELECT generate_series(1, 1000)")
	must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n1", "n2"}))

	n := emptyNode(t, "n2", nil)
	n.ExpectSystemID("1")
	if err := n.BaseBackup(within(t), *primary.asSource(1), n.me, nil); !errors.Is(err, ErrOtherCluster) || n.exists("") {
		t.Errorf("clone of another cluster: %v", err)
	}
	n.ExpectSystemID(primary.look().SystemID)
	var done, total int64
	for round, want := range []int{0, 1} { // into nothing, then over a former life
		if round == 1 {
			must(t, n.Stop(within(t), StopFast, time.Minute))
			must(t, os.WriteFile(filepath.Join(n.opt.DataDir, "only-copy"), nil, 0o600))
		}
		must(t, n.BaseBackup(within(t), *primary.asSource(1), n.me, func(d, all int64) { done, total = d, all }))
		if got := n.beside(".replaced-*"); len(got) != want {
			t.Fatalf("round %d: kept %v, want %d", round, got, want)
		}
		if got := n.beside(cloneInfix + "*"); len(got) > 0 {
			t.Errorf("round %d: left %v", round, got)
		}
		if st := n.look(); st.Data != cluster.DataOurs || st.Incarnation != n.me.Incarnation || st.SystemID != primary.look().SystemID {
			t.Errorf("round %d: data %+v", round, st)
		}
		if !n.exists(standbySignal) || n.exists("postmaster.opts") {
			t.Error("standby.signal is missing, or postmaster.opts is the source's")
		}
		n.startStandby(primary.asSource(1))
		n.awaitStreaming()
		if got := n.value("SELECT count(*)::text FROM far"); got != "1000" {
			t.Errorf("round %d: %s rows", round, got)
		}
		if got := n.value("SELECT count(*)::text FROM pg_replication_slots"); got != "0" {
			t.Errorf("round %d: %s slots came along", round, got)
		}
		n.me.Incarnation = "b2"
	}
	if _, err := os.Stat(filepath.Join(n.beside(".replaced-*")[0], "only-copy")); err != nil {
		t.Errorf("the former directory is not whole: %v", err)
	}
	if done == 0 || total == 0 {
		t.Errorf("progress %d of %d", done, total)
	}
	noPassword(t, n.opt.DataDir)
	if err := n.BaseBackup(within(t), *primary.asSource(1), n.me, nil); err == nil {
		t.Error("a clone over a running server")
	}
	must(t, n.Stop(within(t), StopFast, time.Minute))
	n.ExpectSystemID("1") // what stands there is another cluster's from now on
	if err := n.BaseBackup(within(t), *primary.asSource(1), n.me, nil); !errors.Is(err, ErrOtherCluster) || !n.exists(idFile) {
		t.Errorf("clone over another cluster: %v", err)
	}
}

// noPassword looks for the replication password in every configuration file.
func noPassword(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	must(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(t, err)
		if strings.Contains(string(text), "s3cr") {
			t.Errorf("%s holds the password", f)
		}
	}
}

// B4: a clone that breaks off leaves data_dir as it was and only rubbish beside it, which the next one removes, with the
// tablespaces' copies.
func TestBaseBackupBreaksOff(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary := newPrimary(t, nil)
	space := filepath.Join(primary.dir, "space")
	must(t, os.Mkdir(space, 0o700))
	primary.sql("CREATE TABLESPACE elsewhere LOCATION '" + space + "'")
	primary.sql("CREATE TABLE far TABLESPACE elsewhere AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
	must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n2"}))
	n := emptyNode(t, "n2", nil)
	must(t, n.BaseBackup(within(t), *primary.asSource(1), n.me, nil))
	before, err := os.Stat(n.opt.DataDir)
	must(t, err)

	ctx, cancel := context.WithCancelCause(within(t))
	broken := errors.New("line cut")
	next := cluster.Member{Node: "n2", Incarnation: "c3"}
	err = n.BaseBackup(ctx, *primary.asSource(1), next, func(_, _ int64) { cancel(broken) })
	if !errors.Is(err, broken) {
		t.Fatalf("clone: %v", err)
	}
	left := n.beside(cloneInfix + "*")
	if after, err := os.Stat(n.opt.DataDir); err != nil || !os.SameFile(before, after) || len(left) != 1 || len(n.beside(".replaced-*")) > 0 {
		t.Errorf("after the break: %v, left %v", err, left)
	}
	if st := n.look(); st.Data != cluster.DataOurs || st.Incarnation != n.me.Incarnation {
		t.Errorf("data %+v", st)
	}
	must(t, n.BaseBackup(within(t), *primary.asSource(1), next, nil))
	if left := n.beside(cloneInfix + "*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	copies, err := filepath.Glob(space + cloneInfix + "*")
	if err != nil || len(copies) != 2 { // of the present and of the kept directory
		t.Errorf("tablespace copies %v, %v", copies, err)
	}
	n.startStandby(primary.asSource(1))
	n.awaitStreaming()
	if got := n.value("SELECT count(*)::text FROM far"); got != "20000" {
		t.Errorf("%s rows", got)
	}
}

// A leftover's list never removes what was swapped in, nor a directory that no clone makes.
func TestRemoveClone(t *testing.T) {
	for _, c := range []struct {
		name    string
		whole   bool // data has not moved out
		to      string
		refused bool
		gone    bool
	}{
		{"broken off", true, "ts.clone-0123456789ab", false, true},
		{"swapped in", false, "ts.clone-0123456789ab", false, false},
		{"not of a clone", true, "ts", true, false},
	} {
		dir := t.TempDir()
		clone, to := filepath.Join(dir, "data.clone-0123456789ab"), filepath.Join(dir, c.to)
		must(t, os.MkdirAll(to, 0o700))
		must(t, os.Mkdir(clone, 0o700))
		if c.whole {
			must(t, os.Mkdir(filepath.Join(clone, cloneData), 0o700))
		}
		must(t, writeDurable(filepath.Join(clone, cloneSpaces), []tablespaceMove{{From: "/x", To: to}}))
		err := removeClone(clone)
		_, missing := os.Stat(to)
		if (err != nil) != c.refused || os.IsNotExist(missing) != c.gone {
			t.Errorf("%s: %v, copy %v", c.name, err, missing)
		}
	}
}

func TestCheckSpace(t *testing.T) {
	dir := t.TempDir()
	free, err := freeSpace(dir)
	must(t, err)
	if err := (sourceInfo{bytes: int64(free)}).checkSpace(dir); !errors.Is(err, ErrNoSpace) {
		t.Errorf("source as large as the free space: %v", err)
	}
	if err := (sourceInfo{bytes: 1}).checkSpace(dir); err != nil {
		t.Errorf("source of a byte: %v", err)
	}
}
