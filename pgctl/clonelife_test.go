package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgquorum/cluster"
)

// V1, V5: a copy takes no place under a promise above its source's term; where it does, the directory is the old life or
// the copy at every moment, and what is kept is nobody's, also if the swap broke off before that.
func TestCloneWithTheSameLife(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	primary.sql("CREATE TABLE t AS SELECT 1 AS v")
	s.catchUp(primary)
	must(t, s.Stop(within(t), StopFast, time.Minute))
	must(t, s.Promise(within(t), 2, s.me))
	if err := s.BaseBackup(within(t), *primary.asSource(1), s.me, nil); !errors.Is(err, ErrBelowPromise) {
		t.Errorf("under a promise: %v", err)
	}
	if st := s.look(); st.Data != cluster.DataOurs || st.Incarnation != s.me.Incarnation || len(s.beside(".replaced-*")) != 0 {
		t.Errorf("after the refusal: %+v, kept %v", st, s.beside(".replaced-*"))
	}
	own := filepath.Join(s.opt.DataDir, idFile)
	must(t, os.Rename(own, own+".away"))
	if err := s.BaseBackup(within(t), *primary.asSource(2), s.me, nil); err == nil || len(s.beside(".replaced-*")) != 0 {
		t.Errorf("in place of a directory that is not the life's: %v, kept %v", err, s.beside(".replaced-*"))
	}
	must(t, os.Rename(own+".away", own))
	must(t, s.BaseBackup(within(t), *primary.asSource(2), s.me, nil))
	kept := s.beside(".replaced-*")
	if len(kept) != 1 || len(s.beside(".clone-*")) != 0 {
		t.Fatalf("kept %v, left over %v", kept, s.beside(".clone-*"))
	}
	if st := s.look(); st.Data != cluster.DataOurs || st.Incarnation != s.me.Incarnation {
		t.Errorf("the copy: %+v", st)
	}
	id := filepath.Join(kept[0], idFile)
	if _, err := os.Stat(id); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is kept has an identity: %v", err)
	}
	if _, err := os.Stat(filepath.Join(kept[0], pgVersionFile)); err != nil {
		t.Errorf("what is kept: %v", err)
	}
	must(t, writeDurable(id, s.me)) // as if the swap had broken off
	s.startStandby(primary.asSource(2))
	s.awaitStreaming()
	if _, err := os.Stat(id); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is kept still has the living identity: %v", err)
	}
	if got := s.value("SELECT v::text FROM t"); got != "1" {
		t.Errorf("row %q", got)
	}
}

// A file system that cannot exchange two names gets the same by renames.
func TestSwapInTurn(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, copied := filepath.Join(top, "data"), filepath.Join(top, "copy")
	for _, d := range []string{dir, copied} {
		must(t, os.Mkdir(d, 0o700))
		must(t, os.WriteFile(filepath.Join(d, "whose"), []byte(d), 0o600))
	}
	kept, err := swapInTurn(copied, dir)
	must(t, err)
	for at, want := range map[string]string{dir: copied, kept: dir} {
		if got, err := os.ReadFile(filepath.Join(at, "whose")); string(got) != want || err != nil {
			t.Errorf("%s is %q, %v", at, got, err)
		}
	}
}
