package pgctl

import (
	"testing"
	"time"
)

// An urgent source lasts until it is eased: the same source once more does not end it, and its end leaves the WAL
// receiver alone.
func TestUrgentSource(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	urgent := primary.asSource(2)
	urgent.Urgent = true
	zeros := func(want string) {
		t.Helper()
		eventually(t, 30*time.Second, "wal_init_zero "+want, func() bool { return s.value("SHOW wal_init_zero") == want })
	}
	receiver := func() string {
		s.awaitStreaming()
		return s.value("SELECT pid::text FROM pg_stat_wal_receiver")
	}
	zeros("on")
	former := receiver()
	must(t, s.Follow(within(t), urgent, s.me))
	zeros("off")
	eventually(t, 30*time.Second, "the receiver is the new source's", func() bool { return receiver() != former })
	must(t, s.Follow(within(t), primary.asSource(2), s.me))
	zeros("off")
	before := receiver()
	must(t, s.EaseSource(within(t)))
	zeros("on")
	if after := receiver(); after != before {
		t.Errorf("WAL receiver %s was replaced by %s", before, after)
	}
	if st := s.look(); st.Source != "n1" || st.SourceTerm != 2 {
		t.Errorf("source %s of term %d, want n1 of 2", st.Source, st.SourceTerm)
	}
	must(t, s.EaseSource(within(t))) // again: nothing to do
}
