package integration

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// perFault is what a process may take more of with each fault that it has lived through, when the cluster is whole again.
// A line is laid through all such samples of all lives, and what is sure of its slope is held against the bound. So a leak
// shows whether lives are long or short, and what comes and goes with a fault is none.
//
// Where nothing leaks a process takes more for a while, since it goes on to open connections: from 22 to some 30 files
// with three nodes, most of them in its first faults.
var perFault = []struct {
	name  string
	life  func(Usage) int // 0: none
	value func(Usage) float64
	most  float64
}{
	{"files of the agent", agentLife, func(u Usage) float64 { return float64(u.AgentFDs) }, 0.4},
	{"goroutines", agentLife, func(u Usage) float64 { return float64(u.Goroutines) }, 0.7},
	{"MB of the agent", agentLife, func(u Usage) float64 { return megabytes(u.AgentRSS) }, 0.4},
	{"files of the guard", guardLife, func(u Usage) float64 { return float64(u.GuardFDs) }, 0.2},
	{"MB of the guard", guardLife, func(u Usage) float64 { return megabytes(u.GuardRSS) }, 0.2},
}

// Samples of a process that has seen fewer faults than this are left out: it opens most of its connections in them. Fewer
// samples than that say nothing.
const (
	youngFaults = 4
	leastPoints = 8
)

func agentLife(u Usage) int { return u.AgentPID }
func guardLife(u Usage) int { return u.GuardPID }

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// inTime is what a node's directories may hold more at any time of the run's last third than ever in its first, with what
// they fill up to anyway: max_wal_size and wal_keep_size are 16 segments; two snapshots with 1000 events have 2 MB at most.
var inTime = []struct {
	name         string
	value        func(Usage) float64
	anyway, more float64
}{
	{"WAL segments", func(u Usage) float64 { return float64(u.Segments) }, 16, 2},
	{"MB of Raft", func(u Usage) float64 { return megabytes(u.Raft) }, 0, 2},
}

const growthBounds = "whenever the cluster is whole, what is wanted at the end too; 0.4 files, 0.7 goroutines and 0.4 MB of an agent, 0.2 files and 0.2 MB of a guard for each fault that a process has lived through; " +
	"in the last third not always 2 WAL segments more than ever in the first (from 16 on), nor 2 MB of Raft"

// CheckGrowth holds the samples of a run against one another: what is taken more and more is leaking, however little it
// is yet. ends are when the faults ended.
func CheckGrowth(samples []Usage, ends []time.Duration, length time.Duration, nodes int) (found []Violation, result string) {
	var results []string
	for _, g := range perFault {
		rise, sure, n := riseOf(samples, ends, g.life, g.value)
		results = append(results, fmt.Sprintf("%+.2f %s a fault, sure of %+.2f (%d samples)", rise, g.name, sure, n))
		if sure > g.most {
			found = append(found, Violation{"growth", 0, fmt.Sprintf("%.2f %s more with each fault, at least %.2f; want at most %.2f", rise, g.name, sure, g.most)})
		}
	}
	looks, above := 0, 0
	for _, u := range samples {
		if u.Whole {
			found = append(found, CheckUsage(u, nodes)...)
			looks++
			if u.AgentFDs > usualAgentFDs(nodes) {
				above++
			}
		}
	}
	if may := 1 + looks/100; above > may {
		found = append(found, Violation{"leak", length, fmt.Sprintf("more than %d open files of the agent at %d of %d looks, want that at %d at most", usualAgentFDs(nodes), above, looks, may)})
	}
	return append(found, filling(samples, length)...), strings.Join(results, "; ")
}

// filling says which nodes' directories hold more and more, by inTime.
func filling(samples []Usage, length time.Duration) (found []Violation) {
	for _, g := range inTime {
		early, late := map[string]float64{}, map[string]float64{}
		for _, u := range samples {
			v := g.value(u)
			switch least, seen := late[u.Node]; {
			case !u.Whole:
			case u.At < length/3:
				early[u.Node] = max(early[u.Node], v)
			case u.At > 2*length/3 && (!seen || v < least):
				late[u.Node] = v
			}
		}
		for node, least := range late {
			if most := max(early[node], g.anyway) + g.more; least > most {
				found = append(found, Violation{"growth", length, fmt.Sprintf("%s: never under %.1f %s in the last third, want %.1f at some time", node, least, g.name, most)})
			}
		}
	}
	return found
}

// riseOf lays the line of least squares through what processes took, over the faults that each had lived through. sure is
// the slope less two standard errors; with too few samples nothing is sure.
func riseOf(samples []Usage, ends []time.Duration, life func(Usage) int, value func(Usage) float64) (rise, sure float64, n int) {
	type process struct {
		node string
		pid  int
	}
	endedBy := func(at time.Duration) int {
		passed, _ := slices.BinarySearch(ends, at)
		return passed
	}
	born := map[process]int{} // faults that had ended when it was seen first
	var xs, ys []float64
	for _, u := range samples {
		p := process{u.Node, life(u)}
		if p.pid == 0 || value(u) == 0 {
			continue
		}
		if _, seen := born[p]; !seen {
			born[p] = endedBy(u.At)
		}
		if lived := endedBy(u.At) - born[p]; u.Whole && lived >= youngFaults {
			xs, ys = append(xs, float64(lived)), append(ys, value(u))
		}
	}
	n = len(xs)
	mx, my := mean(xs), mean(ys)
	var sxx, sxy, rest float64
	for i := range xs {
		sxx += (xs[i] - mx) * (xs[i] - mx)
		sxy += (xs[i] - mx) * (ys[i] - my)
	}
	if n < leastPoints || sxx == 0 {
		return 0, 0, n
	}
	rise = sxy / sxx
	for i := range xs {
		off := ys[i] - my - rise*(xs[i]-mx)
		rest += off * off
	}
	return rise, rise - 2*math.Sqrt(rest/float64(n-2)/sxx), n
}

func mean(numbers []float64) (m float64) {
	for _, n := range numbers {
		m += n / float64(len(numbers))
	}
	return m
}

// checkGrowth is CheckGrowth for the run.
func (r *chaosRun) checkGrowth() (found []Violation, result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ends []time.Duration
	for _, b := range r.log.Bars {
		if b.Note == "" {
			ends = append(ends, b.End)
		}
	}
	slices.Sort(ends)
	samples := slices.SortedFunc(slices.Values(r.log.Leaks), func(a, b Usage) int { return int(a.At - b.At) })
	return CheckGrowth(samples, ends, r.opt.Length, len(r.hosts))
}
