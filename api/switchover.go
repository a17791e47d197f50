package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// actionTimeout bounds a switchover beyond primary_stop_timeout, which the old primary may use in full.
const actionTimeout = 60 * time.Second

// switchoverBody is what a client sends. Member is Patroni's old word for the candidate.
type switchoverBody struct {
	Leader      cluster.NodeID `json:"leader"`
	Candidate   cluster.NodeID `json:"candidate"`
	Member      cluster.NodeID `json:"member"`
	ScheduledAt string         `json:"scheduled_at"`
	DryRun      bool           `json:"dry_run"`
}

func (s *Server) postSwitchover(c *gin.Context) error {
	body, err := readSwitchover(c)
	if err != nil {
		return err
	}
	view := s.opt.Source.Snapshot().View
	if err := s.checkSwitchover(body, view); err != nil {
		return err
	}
	req := cluster.SwitchoverRequest{Leader: body.Leader, Candidate: body.Candidate, DryRun: body.DryRun}
	limit := view.Config.PrimaryStopTimeout + actionTimeout
	if err := http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(limit + writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	// A client that goes away must not leave the cluster half-way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), limit)
	defer cancel()
	s.opt.Log.InfoContext(ctx, "switchover requested", "leader", req.Leader, "candidate", req.Candidate,
		"dry_run", req.DryRun, "from", c.Request.RemoteAddr)
	run := s.opt.Source.Switchover
	if req.DryRun {
		run = s.opt.Source.CheckSwitchover
	}
	res := run(ctx, req)
	if err := fromResult(res); err != nil {
		return err
	}
	if res.Leader != "" {
		c.Header(leaderHeader, string(res.Leader))
	}
	writeText(c, res.Code, res.Text)
	return nil
}

// leaderHeader names the new leader beside Patroni's text, for clients that must not read prose.
const leaderHeader = "X-Pgquorum-Leader"

func readSwitchover(c *gin.Context) (switchoverBody, error) {
	var body switchoverBody
	err := json.NewDecoder(c.Request.Body).Decode(&body)
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return body, err
	case err != nil:
		return body, refuse(http.StatusBadRequest,
			`switchover: want a JSON object such as {"leader": "n1", "candidate": "n2"}: %v; nothing was changed`, err)
	}
	if body.Candidate == "" {
		body.Candidate = body.Member
	}
	if v := c.Query("dry_run"); v != "" {
		dry, err := strconv.ParseBool(v)
		if err != nil {
			return body, refuse(http.StatusBadRequest, "switchover: dry_run=%s: want 1 or 0; nothing was changed", v)
		}
		body.DryRun = body.DryRun || dry
	}
	return body, nil
}

// checkSwitchover refuses what is wrong in itself, in Patroni's order; what depends on the cluster's state is the agent's to judge.
func (s *Server) checkSwitchover(b switchoverBody, view *cluster.View) error {
	switch {
	case b.Leader == "":
		return refuse(http.StatusBadRequest, "Switchover could be performed only from a specific leader: "+
			"the request names none, the present one is %s; name it; nothing was changed", orNone(view.Key.Holder))
	case b.ScheduledAt != "":
		return s.refuseSchedule(b.ScheduledAt, view)
	case view.Pause != nil && b.Candidate == "":
		return refuse(http.StatusBadRequest, "Switchover is possible only to a specific candidate in a paused state: "+
			"the request names none; name one, or resume first; nothing was changed")
	case b.Leader == b.Candidate:
		return refuse(http.StatusBadRequest, "Switchover target and source are the same: both are %s; name another candidate, or none; nothing was changed", b.Leader)
	}
	return nil
}

// refuseSchedule tells a wrong time from one that a later version could keep.
func (s *Server) refuseSchedule(text string, view *cluster.View) error {
	at, ok := parseTime(text)
	if !ok {
		if _, err := time.Parse("2006-01-02T15:04:05", text); err == nil {
			return refuse(http.StatusBadRequest, "Timezone information is mandatory for the scheduled switchover: scheduled_at is %s; nothing was changed", text)
		}
		return refuse(http.StatusUnprocessableEntity, "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601: scheduled_at is %q; nothing was changed", text)
	}
	if at.Before(s.wall()) {
		return refuse(http.StatusUnprocessableEntity, "Cannot schedule switchover in the past: scheduled_at is %s; nothing was changed", text)
	}
	return refuse(http.StatusNotImplemented, "scheduled switchovers are not supported by this version: asked for %s, nothing was scheduled, %s remains the leader; "+
		"send the request without scheduled_at at that time, for instance from cron or a systemd timer", text, orNone(view.Key.Holder))
}

// deleteSwitchover: nothing can be scheduled, so that there is never anything to delete.
func (s *Server) deleteSwitchover(*gin.Context) error {
	return refuse(http.StatusNotFound, "no switchover is scheduled")
}

func orNone(n cluster.NodeID) string {
	if n == "" {
		return "none"
	}
	return string(n)
}
