package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// eventsEvery is how often each node is asked for what it has not told yet. Nodes keep 1000 events, many minutes of a run.
const eventsEvery = 2 * time.Second

// eventLog collects the cluster's events from all nodes, each asked for those after the last one that it told.
type eventLog struct {
	mu     sync.Mutex
	events map[uint64]toldEvent
	last   map[string]uint64 // of each node
	found  []Violation       // where nodes contradict one another
}

// toldEvent is an event and who told it first.
type toldEvent struct {
	timedEvent
	by string
}

func newEventLog() *eventLog {
	return &eventLog{events: map[uint64]toldEvent{}, last: map[string]uint64{}}
}

// Watch asks one node until ctx ends. A node that does not answer is asked again.
func (l *eventLog) Watch(ctx context.Context, h *chaosHost) {
	ticker := time.NewTicker(eventsEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		_ = l.ask(ctx, h) // the others know the same events, and this one is asked again
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// ask gets what a node has not told yet.
func (l *eventLog) ask(ctx context.Context, h *chaosHost) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	l.mu.Lock()
	since := l.last[h.Name]
	l.mu.Unlock()
	code, body, err := get(ctx, h.http, h.Addr, fmt.Sprintf("/events?since=%d", since))
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s: GET /events: %d: %s", h.Name, code, body)
	}
	var told []timedEvent
	if err := errors.Join(json.Unmarshal(body, &told), readTimes(told)); err != nil {
		return fmt.Errorf("%s: GET /events: %w", h.Name, err)
	}
	l.note(h.Name, told)
	return nil
}

// note takes what a node told. Events are the replicated state: under one id all nodes have the same.
func (l *eventLog) note(node string, told []timedEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range told {
		l.last[node] = max(l.last[node], e.ID)
		was, known := l.events[e.ID]
		switch {
		case !known:
			l.events[e.ID] = toldEvent{e, node}
		case was.Event != e.Event || was.Text != e.Text:
			l.found = append(l.found, Violation{"events", 0,
				fmt.Sprintf("event %d: %s told %+v at %s, %s tells %+v at %s", e.ID, was.by, was.Event, was.Text, node, e.Event, e.Text)})
		}
	}
}

// Events gives all so far, in order.
func (l *eventLog) Events() (events []timedEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(l.events)) {
		events = append(events, l.events[id].timedEvent)
	}
	return events
}

// Found gives where nodes contradict one another.
func (l *eventLog) Found() []Violation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.found)
}

// lastEvents asks every node a last time and gives all events of the run.
func (r *chaosRun) lastEvents(ctx context.Context) []timedEvent {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, h := range r.hosts {
		if err := until(ctx, samplePeriod, func() error { return r.events.ask(ctx, h) }); err != nil {
			r.violate(Violation{"events", r.now(), err.Error()})
		}
	}
	return r.events.Events()
}

// CheckTerms holds all events of a run against what may be: none is missing, and each acquisition is of the term after the
// one before (K7), so that no term has two holders and none went unseen.
func CheckTerms(events []timedEvent) (found []Violation, result string) {
	complain := func(format string, args ...any) {
		found = append(found, Violation{"terms", 0, fmt.Sprintf(format, args...)})
	}
	acquired := 0
	var id uint64
	var last timedEvent
	for _, e := range events {
		if e.ID != id+1 {
			complain("want event %d next, have %d: what is between was told by no node", id+1, e.ID)
		}
		id = e.ID
		if e.Type != "leader_acquired" {
			continue
		}
		if acquired++; e.Term != last.Term+1 {
			complain("event %d: %s acquired term %d, after %s had acquired %d", e.ID, e.Node, e.Term, last.Node, last.Term)
		}
		last = e
	}
	if acquired == 0 {
		complain("nobody acquired any term among %d events", len(events))
	}
	return found, fmt.Sprintf("%d acquisitions among all %d events, last term %d", acquired, len(events), last.Term)
}

// checkHistory holds the timelines as each node tells them against what may be, and against one another.
func (r *chaosRun) checkHistory(ctx context.Context) (found []Violation, result string) {
	told := map[string][][]any{}
	for _, h := range r.hosts {
		var history [][]any
		if err := r.cluster.read(ctx, h.Host, "/history", &history); err != nil {
			found = append(found, Violation{"timelines", 0, err.Error()})
			continue
		}
		told[h.Name] = history
	}
	return append(found, CheckHistory(r.log.Nodes, told)...), fmt.Sprintf("%d timelines ended, told by %d nodes", len(told[r.log.Nodes[0]]), len(told))
}

// CheckHistory says where a node's history has a timeline twice, or differs from that of the first node.
func CheckHistory(nodes []string, told map[string][][]any) (found []Violation) {
	first := ""
	for _, node := range nodes {
		history, known := told[node]
		if !known {
			continue
		}
		seen := map[any]bool{}
		for _, line := range history {
			if len(line) == 0 || seen[line[0]] {
				found = append(found, Violation{"timelines", 0, fmt.Sprintf("%s: its history has a timeline twice, or a line without one: %v", node, line)})
				continue
			}
			seen[line[0]] = true
		}
		if text := fmt.Sprint(history); first == "" {
			first = text
		} else if text != first {
			found = append(found, Violation{"timelines", 0, fmt.Sprintf("%s tells another history: %s, and not %s", node, text, first)})
		}
	}
	return found
}
