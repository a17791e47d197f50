package decide

import (
	"fmt"
	"time"

	"pgquorum/cluster"
)

// CannotPromote says why a node cannot be promoted now, as it sees itself; empty: it can.
func CannotPromote(s cluster.NodeStatus, tags cluster.Tags) string {
	p := s.Postgres
	switch {
	case s.Stopping:
		return "its agent is stopping"
	case s.DiskFault != "":
		return noWrite(s)
	case Full(s) != "":
		return "it has no room: " + Full(s)
	case s.PromoteAfter > 0:
		return fmt.Sprintf("its promotion failed: it is no candidate for %v more", (s.PromoteAfter + time.Second - 1).Truncate(time.Second))
	case tags.NoFailover:
		return "it is tagged nofailover"
	case p.Data != cluster.DataOurs:
		return fmt.Sprintf("its data directory is %s", p.Data)
	case p.State != cluster.PostgresRunning:
		return fmt.Sprintf("its postgres is %s", p.State)
	case p.Role != cluster.RoleStandby:
		return "its postgres is no standby"
	case !s.Guard.Alive:
		return "its guard does not answer"
	}
	return s.Guard.Watchdog.Missing() // in mode required no node without it is a candidate (section 11)
}

// RefusedData says why a data directory must be left untouched, for an operator; empty: it may be used.
func RefusedData(p cluster.PostgresStatus, systemID string) string {
	switch p.Data {
	case cluster.DataNotCluster:
		return "data directory is not empty and holds no PostgreSQL cluster: " + p.DataDetail + "; nothing in it is touched: move it away or correct postgresql.data_dir"
	case cluster.DataUnreadable:
		return "data directory cannot be read: " + p.DataDetail
	case cluster.DataForeign:
		return "data directory is not this node's: " + p.DataDetail + "; nothing in it is touched: move it away or correct postgresql.data_dir"
	}
	if systemID != "" && p.SystemID != "" && p.SystemID != systemID {
		return fmt.Sprintf("data directory has system identifier %s, this cluster has %s; nothing in it is touched: move it away or correct postgresql.data_dir", p.SystemID, systemID)
	}
	return ""
}
