package decide

import (
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// K4, ADR 0014: each reason for which a node refuses a promise. n3 is asked for term 4 in Raft term 8.
func TestK4MayPromise(t *testing.T) {
	for _, c := range []struct {
		name     string
		self     string
		edit     func(*Observation)
		term     cluster.Term
		raftTerm uint64
		why      string // a part; empty: it promises
	}{
		{"it may", "n3", func(*Observation) {}, 4, 8, ""},
		{"the same raft term", "n3", func(*Observation) {}, 4, 7, ""},
		{"an older raft term", "n3", func(*Observation) {}, 4, 6, "asked in raft term 6, this node is in 7"},
		{"the key's own term", "n3", func(*Observation) {}, 3, 8, "the key is in term 3 already"},
		{"an older term", "n3", func(*Observation) {}, 2, 8, "the key is in term 3 already"},
		{"promised the same term", "n3", func(o *Observation) { o.Promised = 4 }, 4, 8, ""},
		{"promised a higher term", "n3", func(o *Observation) { o.Promised = 5 }, 4, 8, "promised term 5 already"},
		{"data that is not touched", "n3", func(o *Observation) { o.Refused = "another system identifier" }, 4, 8, "another system identifier"},
		{"no data", "n3", editLocal(func(p *cluster.PostgresStatus) { *p = cluster.PostgresStatus{Data: cluster.DataAbsent} }), 4, 8, "data directory is absent"},
		{"a rewind broken off (V5)", "n3", editLocal(func(p *cluster.PostgresStatus) { *p = cluster.PostgresStatus{Data: cluster.DataRewinding} }), 4, 8, "data directory is rewinding"},
		{"postgres stopped", "n3", editLocal(stopped), 4, 8, ""},
		{"the holder under a live lease", "n1", func(*Observation) {}, 4, 8, "live lease of term 3"},
		{"the holder past its fence point", "n1", func(o *Observation) { o.Now = o.Lease.FencePoint(o.View.Key.Lease) }, 4, 8, ""},
		{"the holder without a lease", "n1", func(o *Observation) { o.LeaseState = LeaseNone }, 4, 8, ""},
		{"the holder that gave the key back", "n1", func(o *Observation) { o.View.Key.Released = true }, 4, 8, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := healthy(c.self)
			c.edit(o)
			why := MayPromise(o, c.term, c.raftTerm)
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("refused: %q, want %q", why, c.why)
			}
		})
	}
}

// A candidate's own word (C2, K6).
func TestCannotPromote(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*cluster.NodeStatus, *cluster.Tags)
		why  string
	}{
		{"it can", func(*cluster.NodeStatus, *cluster.Tags) {}, ""},
		{"stopping", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Stopping = true }, "its agent is stopping"},
		{"nofailover", func(_ *cluster.NodeStatus, g *cluster.Tags) { g.NoFailover = true }, "nofailover"},
		{"nosync does not matter", func(_ *cluster.NodeStatus, g *cluster.Tags) { g.NoSync = true }, ""},
		{"no data", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.Data = cluster.DataAbsent }, "data directory is absent"},
		{"unclaimed", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.Data = cluster.DataUnclaimed }, "data directory is unclaimed"},
		{"rewinding", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.Data = cluster.DataRewinding }, "data directory is rewinding"},
		{"stopped", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.State = cluster.PostgresStopped }, "postgres is stopped"},
		{"starting", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.State = cluster.PostgresStarting }, "postgres is starting"},
		{"hung", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.State = cluster.PostgresHung }, "postgres is hung"},
		{"a primary", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Postgres.Role = cluster.RolePrimary }, "no standby"},
		{"its promotion failed", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.PromoteAfter = 1500 * time.Millisecond }, "promotion failed: it is no candidate for 2s more"},
		{"no guard", func(s *cluster.NodeStatus, _ *cluster.Tags) { s.Guard.Alive = false }, "guard does not answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, tags := statusFor("n2"), cluster.Tags{}
			c.edit(&s, &tags)
			why := CannotPromote(s, tags)
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("says %q, want %q", why, c.why)
			}
		})
	}
}

// Data that is nobody's business here is never touched, and the operator is told why.
func TestRefusedData(t *testing.T) {
	for _, c := range []struct {
		name   string
		p      cluster.PostgresStatus
		system string
		why    []string // parts; none: it may be used
	}{
		{"ours", cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000"}, "7000", nil},
		{"ours, before the cluster has an identifier", cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000"}, "", nil},
		{"absent", cluster.PostgresStatus{Data: cluster.DataAbsent}, "7000", nil},
		{"unclaimed, of this cluster", cluster.PostgresStatus{Data: cluster.DataUnclaimed, SystemID: "7000"}, "7000", nil},
		{"rewinding", cluster.PostgresStatus{Data: cluster.DataRewinding}, "7000", nil},
		{"another system identifier", cluster.PostgresStatus{Data: cluster.DataUnclaimed, SystemID: "7001"}, "7000", []string{"7001", "7000", "nothing in it is touched"}},
		{"ours by its file, another system identifier", cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7001"}, "7000", []string{"7001", "nothing in it is touched"}},
		{"no cluster", cluster.PostgresStatus{Data: cluster.DataNotCluster, DataDetail: "lost+found"}, "7000", []string{"lost+found", "nothing in it is touched"}},
		{"foreign", cluster.PostgresStatus{Data: cluster.DataForeign, DataDetail: "the file names n9"}, "7000", []string{"the file names n9", "nothing in it is touched"}},
		{"unreadable", cluster.PostgresStatus{Data: cluster.DataUnreadable, DataDetail: "permission denied"}, "7000", []string{"permission denied"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			why := RefusedData(c.p, c.system)
			if (why == "") != (len(c.why) == 0) {
				t.Fatalf("says %q, want %q", why, c.why)
			}
			for _, part := range c.why {
				if !strings.Contains(why, part) {
					t.Errorf("%q does not say %q", why, part)
				}
			}
		})
	}
}
