package pgctl

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// F1: a standby that knows of a newer timeline and has nothing of it yet, such as when its new primary died at once, is
// promoted as a child of the timeline of which it has WAL, as it said when its position was read (V4). PostgreSQL itself
// writes the newer one as a step on the way, of no length.
func TestForkOfATimelineWithoutWAL(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	_, standbys := newCluster(t, 3)
	next, third, fourth := standbys[0], standbys[1], standbys[2]
	must(t, fourth.Cut(within(t)))
	cutForPromotion(t, next, third)
	next.arm(2)
	must(t, next.Promote(within(t), PromoteSpec{Term: 2, Timeline: 2}))
	c, err := third.ControlData(within(t))
	must(t, err)
	copyFileTo(t, filepath.Join(next.walFiles(c).dir, historyName(2)), filepath.Join(third.walFiles(c).dir, historyName(2)))
	eventually(t, 30*time.Second, "third takes the newer timeline as its target", func() bool {
		return strings.Contains(third.log(), "new target timeline is 2")
	})
	pos := third.where()
	if pos.Timeline != 1 {
		t.Fatalf("position %v, want timeline 1", pos)
	}
	third.arm(3)
	must(t, third.Promote(within(t), PromoteSpec{Term: 3, Timeline: 3}))
	forks, err := third.LocalForks(within(t))
	must(t, err)
	if want := (cluster.Fork{Timeline: 3, Parent: 1, LSN: pos.LSN}); len(forks) != 1 || forks[0] != want {
		t.Fatalf("forks %+v, want only %+v", forks, want)
	}
	if at := third.where(); at.Timeline != 3 || at.LSN <= pos.LSN {
		t.Fatalf("after the promotion: position %v", at)
	}
	must(t, fourth.Promise(within(t), 3, fourth.me))
	must(t, fourth.Follow(within(t), third.asSource(3), fourth.me))
	eventually(t, 30*time.Second, "fourth streams timeline 3", func() bool { st := fourth.look(); return st.Streaming && st.Timeline == 3 })
}
