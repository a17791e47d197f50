package integration

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// dependency is why one transaction stands before another in every order that explains what was seen.
type dependency uint8

// The dependencies, as bits.
const (
	depWW dependency = 1 << iota // it wrote what the other wrote over
	depWR                        // the other read what it wrote
	depRW                        // it read what the other wrote over
	depRT                        // it was answered before the other was called
)

// edge is one dependency and the list element that shows it.
type edge struct {
	from, to int
	kind     dependency
	of       element
}

// Graph holds the dependencies between n transactions.
type Graph struct {
	out   [][]edge
	spans map[int]span // of the transactions whose order in time counts
}

// NewGraph makes one without edges.
func NewGraph(n int) *Graph { return &Graph{out: make([][]edge, n), spans: map[int]span{}} }

// Add adds a dependency. One of a transaction on itself is none.
func (g *Graph) Add(from, to int, kind dependency, of element) {
	if from != to {
		g.out[from] = append(g.out[from], edge{from, to, kind, of})
	}
}

// span is when a transaction may have taken effect.
type span struct {
	txn        int
	start, end time.Duration
}

// forever is the end of a call that was never answered.
const forever = time.Duration(math.MaxInt64)

// realTime adds an edge from each answer to the calls after it, without those that follow from others: a call comes after
// the answers that no answered call came after. So there are at most as many edges a call as clients.
func realTime(g *Graph, spans []span) {
	type moment struct {
		at   time.Duration
		end  bool
		txn  int
		span int
	}
	var moments []moment
	for i, s := range spans {
		g.spans[s.txn] = s
		moments = append(moments, moment{s.start, false, s.txn, i})
		if s.end != forever {
			moments = append(moments, moment{s.end, true, s.txn, i})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		if a.end == b.end {
			return 0
		}
		if a.end {
			return 1 // at one moment, calls come before answers: they overlap
		}
		return -1
	})
	before := make([][]int, len(spans))
	var last []int // transactions that were answered, and after whose answer none was both called and answered
	for _, m := range moments {
		if !m.end {
			before[m.span] = slices.Clone(last)
			for _, t := range last {
				g.Add(t, m.txn, depRT, element{})
			}
			continue
		}
		last = slices.DeleteFunc(last, func(t int) bool { return slices.Contains(before[m.span], t) })
		last = append(last, m.txn)
	}
}

// Cycle is a ring of dependencies: each edge begins where the one before ends.
type Cycle struct {
	name  string
	edges []edge
}

// maxCycles keeps a report readable; one cycle is proof enough.
const maxCycles = 5

// Cycles gives the shortest cycle of each knot of dependencies, the plainest kinds first: those of writes alone, then
// with reads, then with the order of time.
func (g *Graph) Cycles() (cycles []Cycle) {
	told := make([]bool, len(g.out))
	for _, kinds := range []dependency{depWW, depWW | depWR, depWW | depWR | depRW, depWW | depWR | depRW | depRT} {
		for _, knot := range g.knots(kinds) {
			if len(cycles) == maxCycles {
				return cycles
			}
			if slices.ContainsFunc(knot, func(t int) bool { return told[t] }) {
				continue
			}
			for _, t := range knot {
				told[t] = true
			}
			edges := g.shortest(knot, kinds)
			if kinds&depRT != 0 {
				edges = g.shortcut(edges)
			}
			cycles = append(cycles, Cycle{nameOf(edges), edges})
		}
	}
	return cycles
}

// nameOf gives Adya's name.
func nameOf(edges []edge) string {
	var reads, rw int
	suffix := ""
	for _, e := range edges {
		switch e.kind {
		case depWR:
			reads++
		case depRW:
			rw++
		case depRT:
			suffix = "-realtime"
		}
	}
	switch {
	case rw > 1:
		return "G2" + suffix
	case rw == 1:
		return "G-single" + suffix
	case reads > 0:
		return "G1c" + suffix
	}
	return "G0" + suffix
}

// knots gives the strongly connected components of more than one transaction, by Tarjan's algorithm without recursion.
func (g *Graph) knots(kinds dependency) (knots [][]int) {
	n := len(g.out)
	number, low := make([]int, n), make([]int, n) // 0: not visited
	onStack := make([]bool, n)
	var stack []int
	type frame struct{ v, next int }
	count := 0
	for root := range n {
		if number[root] != 0 {
			continue
		}
		frames := []frame{{root, 0}}
		for len(frames) > 0 {
			f := &frames[len(frames)-1]
			v := f.v
			if f.next == 0 {
				count++
				number[v], low[v] = count, count
				stack, onStack[v] = append(stack, v), true
			}
			deeper := false
			for f.next < len(g.out[v]) && !deeper {
				e := g.out[v][f.next]
				f.next++
				switch {
				case e.kind&kinds == 0:
				case number[e.to] == 0:
					frames, deeper = append(frames, frame{e.to, 0}), true
				case onStack[e.to]:
					low[v] = min(low[v], number[e.to])
				}
			}
			if deeper {
				continue
			}
			if low[v] == number[v] {
				at := slices.Index(stack, v)
				if knot := slices.Clone(stack[at:]); len(knot) > 1 {
					knots = append(knots, knot)
				}
				for _, t := range stack[at:] {
					onStack[t] = false
				}
				stack = stack[:at]
			}
			frames = frames[:len(frames)-1]
			if len(frames) > 0 {
				up := frames[len(frames)-1].v
				low[up] = min(low[up], low[v])
			}
		}
	}
	return knots
}

// maxStarts bounds the search for the shortest cycle of a knot; any cycle of it is a proof.
const maxStarts = 200

// shortest gives the shortest cycle through one of a knot's transactions, by breadth-first search from each.
func (g *Graph) shortest(knot []int, kinds dependency) (best []edge) {
	inside := map[int]bool{}
	for _, t := range knot {
		inside[t] = true
	}
	for _, start := range knot[:min(len(knot), maxStarts)] {
		came := map[int]edge{}
		queue := []int{start}
		for len(queue) > 0 && came[start].kind == 0 {
			v := queue[0]
			queue = queue[1:]
			for _, e := range g.out[v] {
				if _, seen := came[e.to]; e.kind&kinds != 0 && inside[e.to] && !seen {
					came[e.to] = e
					queue = append(queue, e.to)
				}
			}
		}
		var cycle []edge
		for e := came[start]; ; e = came[e.from] {
			cycle = append(cycle, e)
			if e.from == start {
				break
			}
		}
		slices.Reverse(cycle)
		if best == nil || len(cycle) < len(best) {
			best = cycle
		}
	}
	return best
}

// shortcut replaces the way from a transaction to one that began after its answer by that reason alone: the edges of time
// that the reduction left out.
func (g *Graph) shortcut(cycle []edge) []edge {
	for length := len(cycle) - 1; length > 1; length-- { // edges replaced: at least one is left
		for at := range cycle {
			from, to := cycle[at].from, cycle[(at+length)%len(cycle)].from
			if g.spans[from].end < g.spans[to].start {
				shorter := []edge{{from: from, to: to, kind: depRT}}
				for i := at + length; i < at+len(cycle); i++ {
					shorter = append(shorter, cycle[i%len(cycle)])
				}
				return g.shortcut(shorter)
			}
		}
	}
	return cycle
}
