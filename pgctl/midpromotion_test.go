package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// F2: a standby that died inside its promotion has the new timeline's history file, and a control file that knows
// nothing of it. Started as a primary it would go on with the old timeline and acknowledge commits there.
func TestF2DeathInsidePromotion(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	n, _ := newCluster(t, 0)
	must(t, n.Stop(within(t), StopFast, time.Minute))
	n.startStandby(nil)
	end := n.where().LSN
	must(t, n.Stop(within(t), StopFast, time.Minute))
	history := filepath.Join(n.opt.DataDir, "pg_wal", historyName(2))
	must(t, os.WriteFile(history, []byte("1\t"+end.String()+"\tno recovery target specified\n"), 0o600))
	if st := n.look(); st.Timeline != 1 {
		t.Errorf("status says timeline %d, want 1: that is where a start goes on", st.Timeline)
	}
	n.arm(9)
	err := n.Start(within(t), StartSpec{Primary: true, Term: 9, Timeline: 2, Settings: Settings{Me: n.me}})
	if !errors.Is(err, ErrWrongTimeline) {
		t.Fatalf("start as the primary of timeline 2: %v", err)
	}
	if _, err := os.Stat(filepath.Join(n.opt.DataDir, standbySignal)); err != nil {
		t.Errorf("standby.signal after the refusal: %v", err)
	}
	must(t, os.Remove(history))
	must(t, n.Start(within(t), StartSpec{Primary: true, Term: 9, Timeline: 1, Settings: Settings{Me: n.me}}))
}
