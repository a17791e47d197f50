package integration

import (
	"slices"
	"testing"
	"time"
)

// ack is an acknowledged write: begun and answered at these milliseconds.
func ack(id int64, node string, timeline uint32, start, end int) Write {
	return Write{ID: id, Via: direct, Acked: true, Node: node, Timeline: timeline, Start: ms(start), End: ms(end)}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// P1: the checker must see every planted history of two primaries, and accept what a clean failover looks like.
func TestTwoPrimaries(t *testing.T) {
	unknown := ack(9, "n1", 1, 50, 60)
	unknown.Acked = false
	tests := []struct {
		name   string
		writes []Write
		want   int
	}{
		{"one node", []Write{ack(1, "n1", 1, 0, 5), ack(2, "n1", 1, 6, 9)}, 0},
		{"a clean failover", []Write{ack(1, "n1", 1, 0, 5), ack(2, "n2", 2, 10, 15)}, 0},
		{"answers that cross on the way", []Write{ack(1, "n1", 1, 0, 20), ack(2, "n2", 2, 10, 15)}, 0},
		{"a restart in place", []Write{ack(1, "n1", 1, 0, 5), ack(2, "n1", 1, 50, 55)}, 0},
		{"back and forth", []Write{ack(1, "n1", 1, 0, 5), ack(2, "n2", 2, 10, 15), ack(3, "n1", 3, 20, 25)}, 0},
		{"the old one answers too late to be known", []Write{ack(1, "n2", 2, 10, 15), unknown}, 0},
		{"one timeline, two nodes", []Write{ack(1, "n1", 2, 0, 5), ack(2, "n2", 2, 10, 15)}, 1},
		{"the old one still acknowledges", []Write{ack(1, "n2", 2, 10, 15), ack(2, "n1", 1, 16, 20)}, 1},
		{"side by side for a while", []Write{ack(1, "n2", 2, 10, 15), ack(2, "n1", 1, 16, 20), ack(3, "n2", 2, 18, 19), ack(4, "n1", 1, 30, 31)}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := TwoPrimaries(tt.writes); len(got) != tt.want {
				t.Errorf("proofs %q, want %d", got, tt.want)
			}
		})
	}
}

// P2: an acknowledged write that the table does not hold is lost; an unknown one may be there or not.
func TestLostAndPhantoms(t *testing.T) {
	unknown := Write{ID: 3}
	writes := []Write{ack(1, "n1", 1, 0, 5), ack(2, "n1", 1, 6, 9), unknown}
	tests := []struct {
		name          string
		held          map[int64]bool
		lost, phantom []int64
	}{
		{"all there", map[int64]bool{1: true, 2: true}, nil, nil},
		{"the unknown one too", map[int64]bool{1: true, 2: true, 3: true}, nil, nil},
		{"one lost", map[int64]bool{1: true}, []int64{2}, nil},
		{"all lost", nil, []int64{1, 2}, nil},
		{"one from nowhere", map[int64]bool{1: true, 2: true, 7: true}, nil, []int64{7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var lost []int64
			for _, w := range Lost(writes, tt.held) {
				lost = append(lost, w.ID)
			}
			if !slices.Equal(lost, tt.lost) {
				t.Errorf("lost %v, want %v", lost, tt.lost)
			}
			if got := Phantoms(writes, tt.held); !slices.Equal(got, tt.phantom) {
				t.Errorf("phantoms %v, want %v", got, tt.phantom)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	other := ack(8, "n1", 1, 14, 15)
	other.Via = haproxy
	unknown := Write{ID: 9, Via: direct, Start: ms(12), End: ms(13)}
	tests := []struct {
		name       string
		writes     []Write
		fault, end int
		want       int
	}{
		{"the gap around the fault", []Write{ack(1, "n1", 1, 0, 10), ack(2, "n2", 2, 30, 40), ack(3, "n2", 2, 41, 45)}, 20, 50, 30},
		{"a gap before the fault does not count", []Write{ack(1, "n1", 1, 0, 1), ack(2, "n1", 1, 0, 30), ack(3, "n2", 2, 31, 35)}, 32, 36, 5},
		{"a later gap does", []Write{ack(1, "n1", 1, 0, 10), ack(2, "n2", 2, 11, 12), ack(3, "n2", 2, 80, 82)}, 11, 83, 70},
		{"writes that never come back", []Write{ack(1, "n1", 1, 0, 10)}, 12, 100, 90},
		{"other ways and unknown outcomes do not end it", []Write{ack(1, "n1", 1, 0, 10), other, unknown, ack(3, "n2", 2, 19, 20)}, 11, 21, 10},
		{"answers in any order", []Write{ack(3, "n2", 2, 30, 40), ack(1, "n1", 1, 0, 10)}, 12, 41, 30},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Outage(tt.writes, direct, ms(tt.fault), ms(tt.end)); got != ms(tt.want) {
				t.Errorf("outage %s, want %s", got, ms(tt.want))
			}
		})
	}
}

func TestAckedBy(t *testing.T) {
	writes := []Write{ack(1, "n1", 1, 0, 5), ack(2, "n1", 1, 10, 15), ack(3, "n2", 2, 10, 15), {ID: 4, Node: "n1", Start: ms(11)}}
	if got := AckedBy(writes, "n1", ms(10)); len(got) != 1 || got[0].ID != 2 {
		t.Errorf("acknowledged by n1 since 10 ms: %v, want write 2 only", got)
	}
}

// swapped is an acknowledged exchange on register 0.
func swapped(newValue, old int64, start, end int) Swap {
	return Swap{New: newValue, Old: old, Start: ms(start), End: ms(end), Acked: true}
}

// P1, P2: histories that no single register can have made are refused.
func TestLinearizable(t *testing.T) {
	unknown := func(newValue int64, start int) Swap { return Swap{New: newValue, Start: ms(start), End: ms(start + 1)} }
	read := func(old int64, start, end int) Swap {
		return Swap{Old: old, Start: ms(start), End: ms(end), Acked: true, Read: true}
	}
	second := swapped(5, 0, 1, 2)
	second.Register = 1
	tests := []struct {
		name  string
		swaps []Swap
		ok    bool
	}{
		{"none", nil, true},
		{"a chain", []Swap{swapped(1, 0, 0, 5), swapped(2, 1, 6, 9), read(2, 10, 11)}, true},
		{"two registers", []Swap{swapped(1, 0, 0, 5), second, read(1, 10, 11)}, true},
		{"overlapping, in the other order", []Swap{swapped(1, 2, 0, 9), swapped(2, 0, 1, 8), read(1, 10, 11)}, true},
		{"an unknown one that happened", []Swap{swapped(1, 0, 0, 5), unknown(2, 6), swapped(3, 2, 8, 9), read(3, 10, 11)}, true},
		{"an unknown one that did not", []Swap{swapped(1, 0, 0, 5), unknown(2, 6), swapped(3, 1, 8, 9), read(3, 10, 11)}, true},
		{"an unknown one that happened late", []Swap{unknown(2, 1), swapped(1, 0, 3, 5), read(2, 10, 11)}, true},
		{"two unknown ones in a row, the second seen", []Swap{swapped(1, 0, 0, 5), unknown(2, 6), unknown(3, 7), swapped(4, 3, 20, 21), read(4, 22, 23)}, true},
		{"an unknown one seen before it was begun", []Swap{swapped(1, 2, 0, 5), unknown(2, 6), read(1, 10, 11)}, false},
		{"an unknown one seen twice", []Swap{unknown(2, 0), swapped(3, 2, 5, 6), swapped(4, 2, 7, 8), read(4, 10, 11)}, false},
		{"a lost swap", []Swap{swapped(1, 0, 0, 5), swapped(2, 0, 6, 9), read(2, 10, 11)}, false},
		{"a swap lost at the end", []Swap{swapped(1, 0, 0, 5), swapped(2, 1, 6, 9), read(1, 10, 11)}, false},
		{"two primaries", []Swap{swapped(1, 0, 0, 5), swapped(2, 1, 6, 9), swapped(3, 1, 6, 9), read(3, 10, 11)}, false},
		{"a value from the future", []Swap{swapped(1, 2, 0, 5), swapped(2, 0, 6, 9), read(2, 10, 11)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Linearizable(tt.swaps); (err == nil) != tt.ok {
				t.Errorf("error %v, want linearizable: %v", err, tt.ok)
			}
		})
	}
}

// A long outage leaves hundreds of swaps with an unknown outcome, and the check must still end.
func TestLinearizableWithManyUnknown(t *testing.T) {
	var swaps []Swap
	last := int64(0)
	for i := range int64(2000) {
		start := int(10 * i)
		swaps = append(swaps, Swap{New: 100_000 + i, Start: ms(start), End: ms(start + 5)})
		if i%7 == 0 { // this one happened
			last = 100_000 + i
		}
		swaps = append(swaps, swapped(i+1, last, start+6, start+9))
		last = i + 1
	}
	if err := Linearizable(swaps); err != nil {
		t.Error(err)
	}
	swaps[999].Old++ // an answer in the middle
	if Linearizable(swaps) == nil {
		t.Error("one answer of 2000 changed: want no order that explains it")
	}
}

func TestReport(t *testing.T) {
	r := Report{Scenario: "TestX", Budgets: Budgets{Direct: 300 * time.Millisecond, HAProxy: 600 * time.Millisecond}}
	for _, d := range []int{100, 900, 200} { // one slow run of three is no regression
		r.Add(ms(d), ms(d+500))
	}
	if over := r.Over(); len(over) != 1 {
		t.Errorf("over budget: %q, want only haproxy, with a median of 0.7 s", over)
	}
	if got, want := r.String(), "TestX: 3 faults, write outage direct median 0.200 s max 0.900 s, haproxy median 0.700 s max 1.400 s"; got != want {
		t.Errorf("report %q, want %q", got, want)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of an even number: %v, want 2.5", got)
	}
}

func TestAdaptConfig(t *testing.T) {
	nodes := []*Host{{Name: "n1", Addr: "10.77.0.1"}, {Name: "n2", Addr: "10.77.0.2"}}
	sample := "global\n    stats socket /run/haproxy/admin.sock\nlisten w\n    bind *:5000\n    server n1 10.0.0.1:5432 check port 8008\n    server n2 pg2.example:5432 check port 8008\n"
	want := "global\n\nlisten w\n    bind *:5000\n    server n1 10.77.0.1:5432 check port 8008\n    server n2 10.77.0.2:5432 check port 8008\n"
	got, err := adaptConfig(sample, nodes)
	if err != nil || got != want {
		t.Errorf("adapted:\n%s\nerror %v, want:\n%s", got, err, want)
	}
	if _, err := adaptConfig("server n9 10.0.0.9:5432\n", nodes); err == nil {
		t.Error("a sample with other nodes: want an error")
	}
}
