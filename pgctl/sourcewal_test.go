package pgctl

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
	"pgquorum/internal/testport"
)

// A source that has removed the WAL which a standby needs next says so, and a source that has it does not; asking makes
// nobody a standby. Nothing else counts as that refusal.
func TestRemovedWAL(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	primary.sql("CREATE TABLE t (v text)")
	s.catchUp(primary)
	must(t, s.Stop(within(t), StopFast, time.Minute))
	from := s.where()
	src := primary.asSource(1)
	refusal := func() string {
		t.Helper()
		said, err := s.RemovedWAL(within(t), *src, from)
		must(t, err)
		return said
	}
	for range 3 {
		primary.sql("SELECT pg_logical_emit_message(false, '', 'x'), pg_switch_wal()")
	}
	must(t, primary.Checkpoint(within(t)))
	if said := refusal(); said != "" {
		t.Errorf("its slot keeps the wal, yet: %q", said)
	}
	if n := primary.value("SELECT count(*)::text FROM pg_stat_replication WHERE application_name NOT LIKE 'pgquorum_look_%'"); n != "0" {
		t.Errorf("%s standbys", n)
	}
	beyond := cluster.Position{Timeline: from.Timeline + 5, LSN: from.LSN}
	if said, err := s.RemovedWAL(within(t), *src, beyond); said != "" || err == nil {
		t.Errorf("a timeline that the source does not know: %q, %v", said, err)
	}
	stranger := *src
	stranger.Port = testport.Free(t)
	if said, err := s.RemovedWAL(within(t), stranger, from); said != "" || err == nil {
		t.Errorf("nobody there: %q, %v", said, err)
	}

	must(t, primary.EnsureSlots(within(t), nil))
	gone := primary.lsn("SELECT pg_current_wal_insert_lsn()::text")
	eventually(t, waitShort, "the primary removes old wal", func() bool {
		for range 16 { // wal_keep_size keeps 128 MB
			primary.sql("SELECT pg_logical_emit_message(false, '', 'x'), pg_switch_wal()")
		}
		must(t, primary.Checkpoint(within(t)))
		return refusal() != ""
	})
	if said := refusal(); !strings.Contains(said, (walFiles{segment: 1 << 20}).name(1, from.LSN)) {
		t.Errorf("%q does not name the segment of %s", said, from.LSN)
	}
	if said, err := s.RemovedWAL(within(t), *src, cluster.Position{Timeline: 1, LSN: primary.lsn("SELECT pg_current_wal_flush_lsn()::text")}); said != "" || err != nil {
		t.Errorf("from the end on (later than %s): %q, %v", gone, said, err)
	}
}
