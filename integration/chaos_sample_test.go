package integration

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two nodes shown as the primary must be found, and what a clean failover looks like must not.
func TestCheckShown(t *testing.T) {
	t.Parallel()
	yes := func(node string, term uint64, start, end int) Sample {
		return Sample{Node: node, Code: http.StatusOK, Term: term, Start: ms(start), End: ms(end)}
	}
	tests := []struct {
		name    string
		samples []Sample
		want    string
	}{
		{"one after another", []Sample{yes("n1", 1, 0, 1), yes("n1", 1, 2, 3), yes("n2", 2, 4, 5)}, ""},
		{"back and forth", []Sample{yes("n1", 1, 0, 1), yes("n2", 2, 4, 5), yes("n1", 3, 6, 7)}, ""},
		{"answers that cross", []Sample{yes("n2", 2, 4, 5), yes("n1", 1, 3, 6)}, ""},
		{"the same node's older answer", []Sample{yes("n1", 2, 4, 5), yes("n1", 1, 6, 7)}, ""},
		{"two in a term", []Sample{yes("n1", 1, 0, 1), yes("n2", 1, 4, 5)}, "primary: two in a term"},
		{"an older one after", []Sample{yes("n1", 1, 0, 1), yes("n2", 2, 4, 5), yes("n1", 1, 6, 7)}, "primary: an older one"},
	}
	for _, tt := range tests {
		if got := strings.Join(checksOf(CheckShown(tt.samples)), " "); got != tt.want {
			t.Errorf("%s: want %q, have %q", tt.name, tt.want, got)
		}
	}
}

// Only reads by the node whose guard was paused are left out, and only those that overlap the pause.
func TestProvenReads(t *testing.T) {
	t.Parallel()
	stale := []window{{"n1", ms(100), ms(200)}}
	op := func(node string, start, end int, amount int64) BankOp {
		c := call(1, start, end, OK)
		c.Node = node
		return BankOp{Call: c, Amount: amount}
	}
	ops := []BankOp{op("n1", 0, 99, 0), op("n1", 90, 110, 0), op("n1", 150, 160, 0), op("n1", 150, 160, 7), op("n2", 150, 160, 0), op("n1", 201, 210, 0)}
	proven, excluded := provenReads(ops, stale)
	if len(proven) != 4 || excluded != 2 || proven[1].Amount != 7 {
		t.Errorf("want two reads of n1 left out, have %d left out and %v", excluded, proven)
	}
}

// A node that is shown before its rule is settled has no proven reads until it is, or until another acquires the key.
func TestUnsettled(t *testing.T) {
	t.Parallel()
	began := time.Now()
	event := func(at int, kind, node string, term uint64) timedEvent {
		return timedEvent{Event: Event{Type: kind, Node: node, Term: term}, Time: began.Add(ms(at))}
	}
	got := unsettled([]timedEvent{
		event(1000, "leader_acquired", "n1", 1), event(3000, "shown_unsettled", "n1", 1), event(4000, "sync_rules_dropped", "n1", 1),
		event(5000, "leader_acquired", "n2", 2), event(7000, "shown_unsettled", "n2", 2), event(9000, "leader_acquired", "n1", 3),
		event(11_000, "shown_unsettled", "n1", 3),
	}, began)
	want := []window{{"n1", ms(2000), ms(5000)}, {"n2", ms(6000), ms(10_000)}, {"n1", ms(10_000), forever}}
	if !slices.Equal(got, want) {
		t.Errorf("want %v, have %v", want, got)
	}
}

// The role that is drawn is what clients would be told.
func TestSampleShown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		sample Sample
		want   string
	}{
		{Sample{}, "silent"},
		{Sample{Code: 200, Role: "primary", State: "running"}, "primary"},
		{Sample{Code: 503, Role: "primary", State: "running"}, "closed"},
		{Sample{Code: 503, Role: "replica", State: "running", Streams: true}, "standby"},
		{Sample{Code: 503, Role: "replica", State: "running"}, "detached"},
		{Sample{Code: 503, Role: "replica", State: "stopped"}, "down"},
	}
	for _, tt := range tests {
		if got := tt.sample.Shown(); got != tt.want {
			t.Errorf("%+v: want %s, have %s", tt.sample, tt.want, got)
		}
	}
}

// The sampler keeps each change, and not each answer.
func TestSamplerKeepsChanges(t *testing.T) {
	t.Parallel()
	s := NewSampler(func() time.Duration { return 0 })
	for i := range 10 {
		code := http.StatusOK
		if i == 7 {
			code = 0
		}
		s.note(Sample{Node: "n1", Code: code, Term: 1, Start: ms(i * 100), End: ms(i*100 + 1)})
	}
	kept, yes := s.Samples()
	if len(yes) != 9 || len(kept) != 4 { // at 0, 500, the change at 700 and the one back
		t.Errorf("want 9 answers 200 and 4 kept, have %d and %d", len(yes), len(kept))
	}
	if s.Serving() != "n1" || s.Primary() != "n1" || s.Term() != 1 {
		t.Errorf("want n1 in term 1, have %s, %s, %d", s.Serving(), s.Primary(), s.Term())
	}
}
