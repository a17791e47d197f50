package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"pgquorum/cluster"
)

// HistoryLine is one change of timeline: the one that ended, where, why, when, and who went on.
type HistoryLine struct {
	Timeline  uint32
	LSN       uint64
	Reason    string
	Time      string
	NewLeader string
}

// MarshalJSON writes Patroni's form: [timeline, lsn, reason, time, new leader].
func (h HistoryLine) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.Timeline, h.LSN, h.Reason, h.Time, h.NewLeader})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *HistoryLine) UnmarshalJSON(b []byte) error {
	fields := []any{&h.Timeline, &h.LSN, &h.Reason, &h.Time, &h.NewLeader}
	if err := json.Unmarshal(b, &fields); err != nil {
		return fmt.Errorf("history line %s: %w", b, err)
	}
	return nil
}

func (s *Server) getHistory(c *gin.Context) {
	c.JSON(http.StatusOK, history(s.opt.Source.Snapshot().View))
}

// history walks from the present timeline to the first, as a PostgreSQL history file does: a timeline that was
// allotted and never used, or given up, is no ancestor. A fork whose LSN is not recorded yet follows when it is.
func history(v *cluster.View) []HistoryLine {
	lines := []HistoryLine{}
	timeline := v.Key.Timeline
	for range v.Forks {
		f, known := v.Forks[timeline]
		if !known || f.Parent == 0 {
			break
		}
		if f.LSN != 0 {
			lines = append(lines, HistoryLine{uint32(f.Parent), uint64(f.LSN), f.Reason, f.Time, string(f.Node)})
		}
		timeline = f.Parent
	}
	slices.Reverse(lines)
	return lines
}
