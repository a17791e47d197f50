package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// DynamicConfig is the answer of GET /config: the dynamic configuration in Patroni's shape, keys in alphabetical order.
type DynamicConfig struct {
	HeartbeatTimeout      string        `json:"heartbeat_timeout"`
	LeaseTTL              string        `json:"lease_ttl"`
	MaximumLagOnFailover  uint64        `json:"maximum_lag_on_failover"` // bytes
	Pause                 bool          `json:"pause,omitempty"`
	PostgreSQL            PostgresInDCS `json:"postgresql"`
	PrimaryStartTimeout   float64       `json:"primary_start_timeout"` // seconds
	PrimaryStopTimeout    float64       `json:"primary_stop_timeout"`  // seconds
	SynchronousMode       string        `json:"synchronous_mode"`
	SynchronousModeStrict bool          `json:"synchronous_mode_strict"`
	SynchronousNodeCount  int           `json:"synchronous_node_count"`
}

// PostgresInDCS is the part that goes into every node's PostgreSQL.
type PostgresInDCS struct {
	Parameters map[string]string `json:"parameters"`
	PgHBA      []string          `json:"pg_hba,omitempty"`
}

func (s *Server) getConfig(c *gin.Context) {
	c.JSON(http.StatusOK, dynamicConfig(s.opt.Source.Snapshot().View))
}

func dynamicConfig(v *cluster.View) DynamicConfig {
	d := v.Config
	parameters := d.Parameters
	if parameters == nil {
		parameters = map[string]string{}
	}
	return DynamicConfig{
		HeartbeatTimeout:      d.HeartbeatTimeout.String(),
		LeaseTTL:              d.Lease.TTL.String(),
		MaximumLagOnFailover:  d.MaximumLagOnFailover,
		Pause:                 v.Pause != nil,
		PostgreSQL:            PostgresInDCS{Parameters: parameters, PgHBA: d.PgHBA},
		PrimaryStartTimeout:   d.PrimaryStartTimeout.Seconds(),
		PrimaryStopTimeout:    d.PrimaryStopTimeout.Seconds(),
		SynchronousMode:       string(d.SynchronousMode),
		SynchronousModeStrict: d.SynchronousModeStrict,
		SynchronousNodeCount:  d.SynchronousNodeCount,
	}
}
