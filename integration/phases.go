package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
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
	since  time.Duration         // on the history's clock: the fault, or when the take-over before this one was over
	until  time.Duration         // when they said it
	phases map[string]nodePhases // by node: those that are not as they were before
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

// notePhases asks the nodes for their phases: the first time before the fault, then after each take-over that clients
// have noticed. A node that does not answer has none, and a run whose phases are not known is as good without.
func (s *Stage) notePhases() {
	switch {
	case !reporting() || len(s.faults) == 0 && s.before != nil:
		return
	case len(s.faults) == 0:
		s.before = s.askPhases(s.Ctx)
		return
	}
	said := told{since: s.faults[0], phases: map[string]nodePhases{}}
	if n := len(s.told); n > 0 {
		said.since = s.told[n-1].until
	}
	if !tookOver(s.Load.History.Writes(), said.since) {
		return
	}
	ctx, cancel := context.WithTimeout(s.Ctx, toldTime)
	defer cancel()
	err := until(ctx, 20*time.Millisecond, func() (err error) {
		if said.events, err = s.timedEvents(ctx); err != nil {
			return err
		}
		if firstEvent(said.events, "promoted", s.Load.History.began.Add(said.since)) == nil {
			return errors.New("no promotion among the events")
		}
		return nil
	})
	if err != nil {
		s.Logf("no phases: %v", err)
		return
	}
	all := s.askPhases(s.Ctx)
	for node, p := range all {
		if !maps.Equal(p, s.before[node]) {
			said.phases[node] = p
		}
	}
	said.until = s.Load.History.Now()
	s.told, s.before = append(s.told, said), all
}

// toldTime bounds the wait for the event of a promotion: clients may write before Raft has it.
const toldTime = 3 * time.Second

// tookOver says whether clients had commits of another node after a fault than before it.
func tookOver(writes []Write, fault time.Duration) bool {
	var before Write
	for _, w := range writes {
		if w.Acked && w.Via == direct && w.End <= fault && w.End >= before.End {
			before = w
		}
	}
	return slices.ContainsFunc(writes, func(w Write) bool {
		return w.Acked && w.Via == direct && w.End > fault && w.Node != before.Node
	})
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

// timedEvents are the events as the node has them that knows the most.
func (c *Cluster) timedEvents(ctx context.Context) (most []timedEvent, err error) {
	for _, h := range c.Nodes() {
		var events []timedEvent
		if c.read(ctx, h, "/events", &events) != nil {
			continue // another one answers, or none, and then there are no events
		}
		if n := len(events); n > 0 && (len(most) == 0 || events[n-1].ID > most[len(most)-1].ID) {
			most = events
		}
	}
	return most, readTimes(most)
}

// readTimes gives the events their moments, from the text.
func readTimes(events []timedEvent) (err error) {
	for i, e := range events {
		if e.Text == "" {
			continue
		}
		if events[i].Time, err = time.Parse(time.RFC3339Nano, e.Text); err != nil {
			return fmt.Errorf("event %d: %w", e.ID, err)
		}
	}
	return nil
}

// takeOverPhases takes an outage apart: events say when, the nodes' phases how long before that. Nil where no other
// node took over. What a node no longer knows, since its agent died with the fault, is part of the next phase.
func takeOverPhases(said told, history *History) Phases {
	fault := said.since
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
