package pgctl

import (
	"testing"
	"time"

	"pgquorum/cluster"
)

func (n *node) slotNames() string {
	n.t.Helper()
	return n.value("SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots WHERE restart_lsn IS NOT NULL OR slot_type = 'logical'")
}

func TestEnsureSlots(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	primary.sql("SELECT pg_create_physical_replication_slot('operators', true)")
	primary.sql("SELECT pg_create_physical_replication_slot('n4')") // made by hand for a member, keeps no WAL
	for _, step := range []struct {
		name  string
		nodes []cluster.NodeID
		want  string
	}{
		{"as it was", []cluster.NodeID{"n1", "n2"}, "n2 operators"},
		{"new members", []cluster.NodeID{"n1", "n2", "N-3", "n4"}, "n2 n4 n_3 operators"},
		{"again", []cluster.NodeID{"n1", "n2", "N-3", "n4"}, "n2 n4 n_3 operators"},
		{"former ones go, the operator's stays, and the one in use", []cluster.NodeID{"n1"}, "n2 operators"},
	} {
		must(t, primary.EnsureSlots(within(t), step.nodes))
		if got := primary.slotNames(); got != step.want {
			t.Errorf("%s: slots %q, want %q", step.name, got, step.want)
		}
	}
	// A standby has slots too, and moves them.
	must(t, s.EnsureSlots(within(t), []cluster.NodeID{"n1", "n2", "n3"}))
	if got := s.slotNames(); got != "n1 n3" {
		t.Errorf("standby's slots %q", got)
	}
	primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
	s.catchUp(primary)
	to := s.lsn("SELECT pg_last_wal_replay_lsn()::text")
	for range 2 {
		must(t, s.AdvanceSlots(within(t), map[cluster.NodeID]cluster.LSN{"n3": to, "absent": to}))
	}
	if got := s.lsn("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'n3'"); got != to {
		t.Errorf("slot at %v, want %v", got, to)
	}
	must(t, s.AdvanceSlots(within(t), map[cluster.NodeID]cluster.LSN{"n3": 1 << 40})) // beyond the end: as far as it goes
	if got := s.lsn("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'n3'"); got < to || got > to+1<<20 {
		t.Errorf("slot at %v, replayed to about %v", got, to)
	}
	must(t, s.EnsureSlots(within(t), nil))
	if got := s.slotNames(); got != "" {
		t.Errorf("standby's slots %q", got)
	}
	// The one that was in use goes when its user has gone.
	must(t, s.Stop(within(t), StopFast, time.Minute))
	eventually(t, 30*time.Second, "the former member's slot goes", func() bool {
		must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n1"}))
		return primary.slotNames() == "operators"
	})
	// A logical slot of a member's name is not ours to touch.
	primary.opt.Parameters["wal_level"] = "logical"
	must(t, primary.Stop(within(t), StopFast, time.Minute))
	primary.startPrimary(1)
	primary.sql("SELECT pg_create_logical_replication_slot('n5', 'pgoutput')")
	if err := primary.EnsureSlots(within(t), []cluster.NodeID{"n5"}); err == nil {
		t.Error("a logical slot was taken for a member's")
	}
	must(t, primary.EnsureSlots(within(t), nil))
	if got := primary.slotNames(); got != "n5 operators" {
		t.Errorf("slots %q", got)
	}
}

// A slot that a standby with hot_standby_feedback used on a former primary keeps no xmin there when that one is a standby
// itself; on the primary it stays as it is, also while its user is away.
func TestSlotsOfAStandbyPinNothing(t *testing.T) {
	if !onRealPostgres(t) {
		return
	}
	primary, standbys := newCluster(t, 1)
	s := standbys[0]
	must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n2"}))
	s.sql("ALTER SYSTEM SET hot_standby_feedback = on")
	s.sql("SELECT pg_reload_conf()")
	pinned := func() bool {
		return primary.value("SELECT (xmin IS NOT NULL)::text FROM pg_replication_slots WHERE slot_name = 'n2'") == "true"
	}
	eventually(t, 30*time.Second, "the standby's feedback", pinned)
	must(t, s.Stop(within(t), StopFast, time.Minute))
	eventually(t, 30*time.Second, "its slot is free", func() bool {
		return primary.value("SELECT active::text FROM pg_replication_slots WHERE slot_name = 'n2'") == "false"
	})
	must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n2"}))
	if !pinned() {
		t.Error("the primary forgot what its standby still needs")
	}
	must(t, primary.Stop(within(t), StopFast, time.Minute))
	primary.startStandby(nil)
	if !pinned() {
		t.Fatal("PostgreSQL dropped the xmin by itself: nothing is shown by this test")
	}
	must(t, primary.EnsureSlots(within(t), []cluster.NodeID{"n2"}))
	if pinned() {
		t.Error("the slot of a standby pins an xmin")
	}
}
