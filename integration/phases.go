package integration

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"
)

// The parts of a write outage that a take-over made, in this order. They add up to the time from the last commit of the
// old primary (or from the fault, where that came later) to the first one of the new, but for the last part.
const (
	phaseNoticed  = "noticed"  // until the old primary's agent knew
	phaseReleased = "released" // Postgres stopped, fenced, the key given back
	phaseElected  = "elected"  // until the new primary's node led Raft; with an old one that is silent, the noticing too
	phaseChosen   = "chosen"   // statuses, promises, choice, and the key
	phasePromoted = "promoted" // until the new primary took writes
	phaseCommit   = "commit"   // until the first commit of a client that knows all nodes
	phaseHAProxy  = "haproxy"  // from there until the first commit through HAProxy; 0 when that came before
)

// Phases are the parts by name, in seconds.
type Phases map[string]float64

// nodePhases are what one node's /metrics says of the last take-over that it had a part in, by the agent's own names.
type nodePhases map[string]time.Duration

// told is what the nodes said after a take-over.
type told struct {
	phases map[string]nodePhases // by node: those that are not as they were before the fault
	events []timedEvent
}

// timedEvent is an event with its moment: the hosts are one machine, so that all have one wall clock.
type timedEvent struct {
	Event
	Time time.Time `json:"-"`
	Text string    `json:"time"` // empty where the command had none
}

// reporting says whether what was measured is kept, and so whether the nodes are asked for more than the checks need.
func reporting() bool { return os.Getenv("PGQUORUM_REPORT") == "1" }

// notePhases asks the nodes for their phases: the first time before the fault, then once after it. A node that does not
// answer has none.
func (s *Stage) notePhases() {
	s.Helper()
	if !reporting() || s.after != nil || s.fault == 0 && s.before != nil {
		return
	}
	all := s.askPhases(s.Ctx)
	if s.fault == 0 {
		s.before = all
		return
	}
	s.after = &told{phases: map[string]nodePhases{}}
	for node, p := range all {
		if !maps.Equal(p, s.before[node]) {
			s.after.phases[node] = p
		}
	}
	var err error
	if s.after.events, err = s.timedEvents(s.Ctx); err != nil {
		s.Logf("no phases: %v", err) // the run itself is as good without
	}
}

var phaseLine = regexp.MustCompile(`(?m)^pgquorum_failover_seconds\{[^}]*phase="([a-z_]+)"[^}]*\} (\S+)$`)

func (c *Cluster) askPhases(ctx context.Context) map[string]nodePhases {
	all := map[string]nodePhases{}
	for _, h := range c.Nodes() {
		code, text, err := c.call(ctx, http.MethodGet, h, "/metrics", nil)
		if err != nil || code != http.StatusOK {
			continue
		}
		all[h.Name] = nodePhases{}
		for _, m := range phaseLine.FindAllStringSubmatch(string(text), -1) {
			if seconds, err := strconv.ParseFloat(m[2], 64); err == nil {
				all[h.Name][m[1]] = time.Duration(seconds * float64(time.Second))
			}
		}
	}
	return all
}

func (c *Cluster) timedEvents(ctx context.Context) (events []timedEvent, err error) {
	p, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.read(ctx, p, "/events", &events); err != nil {
		return nil, err
	}
	for i, e := range events {
		if e.Text == "" {
			continue
		}
		if events[i].Time, err = time.Parse(time.RFC3339Nano, e.Text); err != nil {
			return nil, fmt.Errorf("event %d: %w", e.ID, err)
		}
	}
	return events, nil
}

// takeOverPhases takes an outage apart: events say when, the nodes' phases how long before that. Nil where no other
// node took over. What a node no longer knows, since its agent died with the fault, is part of the next phase.
func takeOverPhases(said *told, history *History, fault time.Duration) Phases {
	if said == nil || fault == 0 {
		return nil
	}
	on := func(e timedEvent) time.Duration { return e.Time.Sub(history.began) }
	promoted := firstEvent(said.events, "promoted", history.began.Add(fault))
	if promoted == nil {
		return nil
	}
	own := said.phases[promoted.Node]
	if _, known := own["promoted"]; !known {
		return nil
	}
	commit, old := firstCommits(history.Writes(), promoted.Node, fault)
	if _, ok := commit[direct]; !ok {
		return nil
	}
	begin := max(fault, old)
	noticed, released := begin, begin
	if e := firstEvent(said.events, "leader_released", history.began.Add(fault)); e != nil && e.Node != promoted.Node && on(*e) < on(*promoted) {
		released = on(*e)
		noticed = released - said.phases[e.Node]["released"] - said.phases[e.Node]["stopped"]
		if _, known := said.phases[e.Node]["noticed"]; !known {
			noticed = begin
		}
	}
	var chosen time.Duration // by the node that led Raft before and handed over
	for node, p := range said.phases {
		if node != promoted.Node {
			chosen = max(chosen, p["chosen"])
		}
	}
	acquired := on(*promoted) - own["promoted"]
	m := moments{last: begin, phases: Phases{}}
	m.until(phaseNoticed, noticed)
	m.until(phaseReleased, released)
	m.until(phaseElected, acquired-own["acquired"]-own["chosen"]-chosen)
	m.until(phaseChosen, acquired)
	m.until(phasePromoted, min(on(*promoted), commit[direct]))
	m.until(phaseCommit, commit[direct])
	if at, ok := commit[haproxy]; ok {
		m.until(phaseHAProxy, at)
	}
	return m.phases
}

// moments turns moments into parts: each begins where the one before ended, and none is less than nothing.
type moments struct {
	last   time.Duration
	phases Phases
}

func (m *moments) until(phase string, at time.Duration) {
	at = max(at, m.last)
	m.phases[phase] = (at - m.last).Seconds()
	m.last = at
}

func firstEvent(events []timedEvent, kind string, since time.Time) *timedEvent {
	for i := range events {
		if e := &events[i]; e.Type == kind && e.Time.After(since) {
			return e
		}
	}
	return nil
}

// firstCommits gives when each way's clients had their first commit of a node after a fault, and when the direct ones
// had the last one of another node before that.
func firstCommits(writes []Write, node string, fault time.Duration) (first map[string]time.Duration, last time.Duration) {
	first = map[string]time.Duration{}
	for _, w := range writes {
		if at, seen := first[w.Via]; w.Acked && w.Node == node && w.End > fault && (!seen || w.End < at) {
			first[w.Via] = w.End
		}
	}
	for _, w := range writes {
		if w.Acked && w.Via == direct && w.Node != node && w.End < first[direct] {
			last = max(last, w.End)
		}
	}
	return first, last
}
