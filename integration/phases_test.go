package integration

import (
	"maps"
	"math"
	"testing"
	"time"
)

// The parts of an outage add up, whatever the nodes still know of it.
func TestTakeOverPhases(t *testing.T) {
	t.Parallel()
	writes := []Write{
		{Via: direct, Acked: true, Node: "n1", End: ms(90)},
		{Via: direct, Acked: true, Node: "n2", End: ms(400)},
		{Via: direct, Acked: true, Node: "n2", End: ms(300)},
		{Via: haproxy, Acked: true, Node: "n2", End: ms(350)},
		{Via: direct, Node: "n1", End: ms(150)}, // its outcome is unknown
	}
	event := func(at time.Duration, kind, node string) timedEvent {
		return timedEvent{Event: Event{Type: kind, Node: node}, Time: time.Unix(100, 0).Add(at)}
	}
	promoted := event(ms(280), "promoted", "n2")
	n2 := nodePhases{"elected": 0, "acquired": ms(50), "promoted": ms(40), "settled": ms(70)}
	tests := []struct {
		name string
		said told
		want map[string]int // ms; nil: no take-over
	}{
		{"nothing known", told{}, nil},
		{"no promotion", told{phases: map[string]nodePhases{"n2": n2}}, nil},
		{"promoted before the fault", told{
			phases: map[string]nodePhases{"n2": n2}, events: []timedEvent{event(ms(50), "promoted", "n2")}}, nil},
		{"the new primary forgot", told{events: []timedEvent{promoted}}, nil},
		{"the old primary is silent", told{phases: map[string]nodePhases{"n2": n2}, events: []timedEvent{promoted}},
			map[string]int{"noticed": 0, "released": 0, "elected": 90, "chosen": 50, "promoted": 40, "commit": 20, "haproxy": 50}},
		{"the old primary hands over", told{
			phases: map[string]nodePhases{"n1": {"noticed": 0, "released": ms(25), "chosen": ms(30)}, "n2": n2},
			events: []timedEvent{event(ms(130), "leader_released", "n1"), promoted}},
			map[string]int{"noticed": 5, "released": 25, "elected": 30, "chosen": 80, "promoted": 40, "commit": 20, "haproxy": 50}},
		{"the old primary's agent forgot", told{
			phases: map[string]nodePhases{"n2": n2}, events: []timedEvent{event(ms(130), "leader_released", "n1"), promoted}},
			map[string]int{"noticed": 0, "released": 30, "elected": 60, "chosen": 50, "promoted": 40, "commit": 20, "haproxy": 50}},
		{"the first commit came before the agent saw the promotion", told{
			phases: map[string]nodePhases{"n2": n2}, events: []timedEvent{event(ms(310), "promoted", "n2")}},
			map[string]int{"noticed": 0, "released": 0, "elected": 120, "chosen": 50, "promoted": 30, "commit": 0, "haproxy": 50}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.said.since = ms(100)
			history := &History{began: time.Unix(100, 0), writes: writes}
			got := map[string]int{}
			for phase, seconds := range takeOverPhases(tt.said, history) {
				got[phase] = int(math.Round(seconds * 1000))
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("want %v, have %v", tt.want, got)
			}
		})
	}
}

func TestPhaseLine(t *testing.T) {
	t.Parallel()
	text := "# TYPE pgquorum_failover_seconds gauge\npgquorum_failover_seconds{name=\"n1\",phase=\"acquired\",scope=\"itest\"} 0.0123\n" +
		"pgquorum_term{name=\"n1\",scope=\"itest\"} 2\n"
	got := phaseLine.FindAllStringSubmatch(text, -1)
	if len(got) != 1 || got[0][1] != "acquired" || got[0][2] != "0.0123" {
		t.Errorf("have %q", got)
	}
}
