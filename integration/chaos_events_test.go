package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// toldOf makes events as a node tells them; terms of 0 are no acquisitions.
func toldOf(first uint64, terms ...uint64) (events []timedEvent) {
	for i, term := range terms {
		e := Event{ID: first + uint64(i), Type: "leader_acquired", Node: "n1", Term: term}
		if term == 0 {
			e.Type = "promoted"
		}
		events = append(events, timedEvent{Event: e, Text: "2026-01-01T00:00:00Z"})
	}
	return events
}

// Terms that repeat, fall or are left out are found, and so is an event that nobody told.
func TestCheckTerms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		events []timedEvent
		want   string // of the violation; empty: none
	}{
		{"one after another", toldOf(1, 1, 0, 2, 3, 0), ""},
		{"one term twice", toldOf(1, 1, 2, 2), "acquired term 2, after n1 had acquired 2"},
		{"an older one", toldOf(1, 1, 2, 3, 2), "acquired term 2, after n1 had acquired 3"},
		{"one that nobody acquired", toldOf(1, 1, 2, 4), "acquired term 4, after n1 had acquired 2"},
		{"the beginning is not known", toldOf(5, 3, 4), "want event 1 next, have 5"},
		{"a hole", append(toldOf(1, 1, 2), toldOf(5, 3)...), "want event 3 next, have 5"},
		{"nothing", nil, "nobody acquired any term"},
	}
	for _, tt := range tests {
		found, result := CheckTerms(tt.events)
		switch {
		case tt.want == "" && len(found) > 0:
			t.Errorf("%s: %v, %s", tt.name, found, result)
		case tt.want != "" && (len(found) == 0 || !strings.Contains(found[0].Text, tt.want)):
			t.Errorf("%s: want %q, have %v, %s", tt.name, tt.want, found, result)
		}
	}
}

// forgetful answers like a node that keeps only the newest of its events.
type forgetful struct {
	all  []timedEvent
	kept int
}

func (f *forgetful) RoundTrip(req *http.Request) (*http.Response, error) {
	var since uint64
	if _, err := fmt.Sscan(req.URL.Query().Get("since"), &since); err != nil {
		return nil, err
	}
	told := []timedEvent{}
	for _, e := range f.all[max(0, len(f.all)-f.kept):] {
		if e.ID > since {
			told = append(told, e)
		}
	}
	text, err := json.Marshal(told)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(text))}, err
}

// Asked while the run goes on, nodes that keep few events have told all of them in the end; asked once, they have not. The
// same event told by another node is one.
func TestEventsAreAskedInTime(t *testing.T) {
	t.Parallel()
	all := toldOf(1, 1, 2, 3, 4, 5, 6, 7)
	host := func(name string) (*chaosHost, *forgetful) {
		f := &forgetful{kept: 3}
		return &chaosHost{Host: &Host{Name: name, Addr: name}, http: &http.Client{Transport: f}}, f
	}
	n1, one := host("n1")
	n2, two := host("n2")
	l, late := newEventLog(), newEventLog()
	for _, n := range []int{3, 3, 5, 7} {
		one.all, two.all = all[:n], all[:n-1] // n2 is behind
		for _, h := range []*chaosHost{n1, n2} {
			if err := l.ask(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
	}
	found, result := CheckTerms(l.Events())
	if found = append(found, l.Found()...); len(found) > 0 || len(l.Events()) != len(all) {
		t.Errorf("%v, %s", found, result)
	}
	if err := late.ask(t.Context(), n1); err != nil {
		t.Fatal(err)
	}
	if found, _ := CheckTerms(late.Events()); len(found) == 0 {
		t.Error("asked at the end only, and nothing is missing")
	}
}

// Two nodes whose states differ tell different events under one id.
func TestEventsDiffer(t *testing.T) {
	t.Parallel()
	l := newEventLog()
	l.note("n1", toldOf(1, 1, 2))
	l.note("n2", toldOf(1, 1, 3))
	if found := l.Found(); len(found) != 1 || !strings.Contains(found[0].Text, "event 2: n1 told") {
		t.Errorf("want one contradiction about event 2, have %v", found)
	}
}

func TestCheckHistory(t *testing.T) {
	t.Parallel()
	line := func(timeline int) []any { return []any{float64(timeline), 100.0, "why", "when", "n1"} }
	nodes := []string{"n1", "n2", "n3"}
	tests := []struct {
		name string
		told map[string][][]any
		want int
	}{
		{"the same", map[string][][]any{"n1": {line(1), line(2)}, "n2": {line(1), line(2)}}, 0},
		{"one that made a timeline twice", map[string][][]any{"n1": {line(1), line(1)}, "n2": {line(1), line(1)}}, 2},
		{"another history", map[string][][]any{"n1": {line(1), line(2)}, "n2": {line(1), line(2)}, "n3": {line(1), line(3)}}, 1},
		{"one line less", map[string][][]any{"n1": {line(1), line(2)}, "n2": {line(1)}}, 1},
	}
	for _, tt := range tests {
		if found := CheckHistory(nodes, tt.told); len(found) != tt.want {
			t.Errorf("%s: want %d violations, have %v", tt.name, tt.want, found)
		}
	}
}
