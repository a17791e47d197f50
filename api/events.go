package api

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// getEvents answers the cluster's events in order: those after ?since= (an id, or a moment in RFC 3339), of ?node= and ?type=.
func (s *Server) getEvents(c *gin.Context) {
	if follow, _ := strconv.ParseBool(c.Query("follow")); follow {
		writeError(c, refuse(http.StatusNotImplemented,
			"follow: this version does not stream events; ask again with since= and the id of the last event"))
		return
	}
	after, err := sinceFilter(c.Query("since"))
	if err != nil {
		writeError(c, err)
		return
	}
	node, kind := cluster.NodeID(c.Query("node")), c.Query("type")
	events := []cluster.Event{}
	for _, e := range s.opt.Source.Snapshot().View.Events {
		if after(e) && (node == "" || e.Node == node) && (kind == "" || e.Type == kind) {
			events = append(events, e)
		}
	}
	c.JSON(http.StatusOK, events)
}

func sinceFilter(since string) (func(cluster.Event) bool, error) {
	if since == "" {
		return func(cluster.Event) bool { return true }, nil
	}
	if id, err := strconv.ParseUint(since, 10, 64); err == nil {
		return func(e cluster.Event) bool { return e.ID > id }, nil
	}
	from, ok := parseTime(since)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "since=%s: want the id of an event or a time such as 2026-01-31T12:00:00Z", since)
	}
	return func(e cluster.Event) bool {
		t, ok := parseTime(e.Time)
		return ok && t.After(from)
	}, nil
}
