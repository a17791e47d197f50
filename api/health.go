package api

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// livenessLimit is how long the loop may take for one turn: as in Patroni a generous time, because what follows a
// failed liveness probe is the end of the agent. A stuck agent is no danger: the guard fences without it.
const livenessLimit = 30 * time.Second

// check is one health check: 200 when ok, else 503.
type check struct {
	path string
	ok   func(*probe) bool
	tags bool // tag_K=V must match too
	body bool // GET answers with the status JSON
}

// checks are the health checks of the REST contract.
var checks = []check{
	{path: "/", ok: servesPrimary, body: true},
	{path: "/primary", ok: servesPrimary, body: true},
	{path: "/read-write", ok: servesPrimary, body: true},
	{path: "/master", ok: servesPrimary, body: true},
	{path: "/leader", ok: holdsKey, body: true},
	{path: "/standby-leader", ok: leadsStandbyCluster, body: true},
	{path: "/standby_leader", ok: leadsStandbyCluster, body: true},
	{path: "/replica", ok: servesReplica, tags: true, body: true},
	{path: "/read-only", ok: any2(servesPrimary, servesReplica), tags: true, body: true},
	{path: "/sync", ok: isSync, tags: true, body: true},
	{path: "/synchronous", ok: isSync, tags: true, body: true},
	{path: "/quorum", ok: isQuorum, tags: true, body: true},
	{path: "/async", ok: isAsync, tags: true, body: true},
	{path: "/asynchronous", ok: isAsync, tags: true, body: true},
	{path: "/read-only-sync", ok: any2(servesPrimary, isSync), tags: true, body: true},
	{path: "/read-only-synchronous", ok: any2(servesPrimary, isSync), tags: true, body: true},
	{path: "/read-only-quorum", ok: any2(servesPrimary, isQuorum), tags: true, body: true},
	{path: "/health", ok: runs, tags: true, body: true},
	{path: "/liveness", ok: loopAlive},
	{path: "/readiness", ok: ready},
}

// probe is what one health check is judged on.
type probe struct {
	snap  *cluster.Snapshot
	lease cluster.Lease
	now   cluster.Instant
	lim   limits
}

// probe reads the moment last: a pause between the readings then ends the lease rather than lengthening it (L5).
func (s *Server) probe(r *http.Request) probe {
	p := probe{snap: s.opt.Source.Snapshot(), lim: noLimits}
	if r.URL.RawQuery != "" {
		p.lim = parseLimits(r.URL.Query())
	}
	p.lease = s.opt.Source.Lease()
	p.now = s.opt.Source.Now()
	return p
}

func (s *Server) healthHandler(chk *check) gin.HandlerFunc {
	return func(c *gin.Context) {
		p := s.probe(c.Request)
		s.answerHealth(c, p, chk.ok(&p) && (!chk.tags || p.tagsMatch()), chk.body)
	}
}

var jsonType = []string{"application/json"}

// answerHealth writes the code, and the status for a GET: HEAD and OPTIONS cost no JSON.
func (s *Server) answerHealth(c *gin.Context, p probe, ok, body bool) {
	code := http.StatusServiceUnavailable
	if ok {
		code = http.StatusOK
	}
	c.Status(code)
	if !body || c.Request.Method != http.MethodGet {
		return
	}
	c.Writer.Header()["Content-Type"] = jsonType
	if _, err := c.Writer.Write(s.statusJSON(p)); err != nil {
		c.Abort() // the client hung up: nobody is left to answer
	}
}

func any2(a, b func(*probe) bool) func(*probe) bool {
	return func(p *probe) bool { return a(p) || b(p) }
}

// servesPrimary is DESIGN's rule for /primary, at this very moment (L5).
func servesPrimary(p *probe) bool { return p.snap.ServesPrimary(p.lease, p.now) }

func holdsKey(p *probe) bool { return p.snap.HoldsKey(p.lease, p.now) }

// leadsStandbyCluster is never true: no command makes a standby cluster, so that no node can lead one.
func leadsStandbyCluster(*probe) bool { return false }

func runs(p *probe) bool { return p.snap.Local.Postgres.State == cluster.PostgresRunning }

// servesReplica is also false on a node that shuts down: new sessions would be cut in a moment.
func servesReplica(p *probe) bool {
	pg := &p.snap.Local.Postgres
	return !p.snap.Shutdown && pg.State == cluster.PostgresRunning && pg.Role == cluster.RoleStandby &&
		!p.node().Tags.NoLoadBalance &&
		(p.lim.state == "" || p.lim.state == replicationState(pg)) &&
		!p.lagging(pg.Replayed, p.lim.lag) && p.freshEnough()
}

func isSync(p *probe) bool   { return p.kind() == roleSyncStandby && servesReplica(p) }
func isQuorum(p *probe) bool { return p.kind() == roleQuorumStandby && servesReplica(p) }
func isAsync(p *probe) bool  { return p.kind() == roleReplica && servesReplica(p) }

func loopAlive(p *probe) bool {
	if p.snap.View.Pause != nil {
		return true
	}
	return !p.snap.LoopTurn.IsZero() && p.now.Sub(p.snap.LoopTurn) < livenessLimit
}

// ready: the lease holder, or a standby that streams and is within lag (by default maximum_lag_on_failover) of a
// primary whose position is known.
func ready(p *probe) bool {
	if holdsKey(p) {
		return true
	}
	pg := &p.snap.Local.Postgres
	if pg.State != cluster.PostgresRunning || pg.Role != cluster.RoleStandby || !pg.Streaming {
		return false
	}
	limit, have := p.snap.View.Config.MaximumLagOnFailover, pg.Replayed
	if p.lim.lagGiven {
		limit = p.lim.lag
	}
	if p.lim.write {
		have = pg.Received
	}
	return p.position() != 0 && !p.lagging(have, limit)
}
