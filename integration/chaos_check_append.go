package integration

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Txn is one serializable transaction on lists: each step appends one number, unique in its list, or reads a list.
type Txn struct {
	Call
	Steps []ListStep `json:"steps"`
}

func (t Txn) reads() bool {
	return !slices.ContainsFunc(t.Steps, func(s ListStep) bool { return s.Append })
}

// ListStep is one step: Value was appended, or List was read.
type ListStep struct {
	Key    int     `json:"key"`
	Append bool    `json:"append,omitempty"`
	Value  int64   `json:"value,omitempty"`
	List   []int64 `json:"list,omitempty"`
}

func (t Txn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "transaction %s:", t.Call)
	for _, s := range t.Steps {
		if s.Append {
			fmt.Fprintf(&b, " append(%d, %d)", s.Key, s.Value)
		} else {
			fmt.Fprintf(&b, " read(%d) = %v", s.Key, s.List)
		}
	}
	return b.String()
}

// CheckAppend holds a history of list transactions against strict serializability, as Elle does: a list that was read
// shows the order of its writers, so that the dependencies between transactions are known and a cycle of them proves
// that no order explains what the clients saw.
//
// Found are: aborted reads (G1a), intermediate reads (G1b), values that nobody appended or that stand twice, reads that
// contradict their own transaction, lists of one key of which neither is the other's beginning, appends that were
// acknowledged and are not there later, and cycles (G0, G1c, G-single, G2), also those that need the order of time.
// Source: Kingsbury, Alvaro, Elle: Inferring Isolation Anomalies from Experimental Observations, VLDB 2020.
func CheckAppend(txns []Txn) []Violation {
	c := appendCheck{txns: txns, writers: map[element]int{}, longest: map[int][]int64{}, told: map[string]bool{}}
	c.index()
	for i := range txns {
		if txns[i].Outcome == OK {
			c.reads(&txns[i])
		}
	}
	c.order()
	c.lost()
	for _, cycle := range c.graph().Cycles() {
		c.complain("append: "+cycle.name, txns[cycle.edges[0].from].Start, "%s", c.tell(cycle))
	}
	return c.found
}

// element is one value in one list.
type element struct {
	key   int
	value int64
}

type appendCheck struct {
	txns    []Txn
	writers map[element]int // the transaction that appended it
	longest map[int][]int64 // of the lists that were read, by key
	told    map[string]bool // what is seen again in every later read is told once
	found   []Violation
}

func (c *appendCheck) complain(check string, at time.Duration, format string, args ...any) {
	c.found = append(c.found, Violation{Check: check, At: at, Text: fmt.Sprintf(format, args...)})
}

// complainOf is complain for one element of a list.
func (c *appendCheck) complainOf(e element, check string, at time.Duration, format string, args ...any) {
	id := fmt.Sprint(check, e)
	if c.told[id] {
		return
	}
	c.told[id] = true
	c.complain(check, at, format, args...)
}

func (c *appendCheck) index() {
	for i, t := range c.txns {
		for _, s := range t.Steps {
			if s.Append {
				c.writers[element{s.Key, s.Value}] = i
			}
		}
	}
}

// reads looks at each list that one transaction read.
func (c *appendCheck) reads(t *Txn) {
	for i, s := range t.Steps {
		if s.Append {
			continue
		}
		if own, ok := internal(t.Steps[:i], s); !ok {
			c.complain("append: internal", t.Start, "read(%d) = %v after its own steps, which make it end with %v: %s", s.Key, s.List, own, t)
		}
		c.elements(t, s)
		if len(s.List) > len(c.longest[s.Key]) {
			c.longest[s.Key] = s.List
		}
	}
}

// internal says whether a read agrees with the same transaction's earlier steps, and how the list must end or, after a
// read, what it must be.
func internal(before []ListStep, read ListStep) (want []int64, ok bool) {
	whole := false
	for _, s := range before {
		switch {
		case s.Key != read.Key:
		case s.Append:
			want = append(slices.Clone(want), s.Value)
		default:
			want, whole = s.List, true
		}
	}
	if whole {
		return want, slices.Equal(want, read.List)
	}
	return want, len(read.List) >= len(want) && slices.Equal(want, read.List[len(read.List)-len(want):])
}

// elements looks at each value of a list that was read.
func (c *appendCheck) elements(t *Txn, s ListStep) {
	seen := map[int64]bool{}
	for i, v := range s.List {
		writer, known := c.writers[element{s.Key, v}]
		switch {
		case seen[v]:
			c.complainOf(element{s.Key, v}, "append: duplicate", t.Start, "%d stands twice in list %d: %s", v, s.Key, t)
		case !known:
			c.complainOf(element{s.Key, v}, "append: phantom", t.Start, "%d in list %d was appended by nobody: %s", v, s.Key, t)
		case c.txns[writer].Outcome == Failed:
			c.complainOf(element{s.Key, v}, "append: G1a", t.Start, "aborted read of %d in list %d: %s; written by %s", v, s.Key, t, c.txns[writer])
		case c.txns[writer].ID != t.ID:
			next, more := nextOwn(c.txns[writer], s.Key, v)
			if more && (i+1 == len(s.List) || s.List[i+1] != next) {
				c.complainOf(element{s.Key, v}, "append: G1b", t.Start, "intermediate read of %d in list %d, without %d of the same transaction: %s; written by %s",
					v, s.Key, next, t, c.txns[writer])
			}
		}
		seen[v] = true
	}
}

// nextOwn gives the value that the transaction itself appended after another one to the same list.
func nextOwn(t Txn, key int, value int64) (next int64, more bool) {
	seen := false
	for _, s := range t.Steps {
		if s.Append && s.Key == key {
			if seen {
				return s.Value, true
			}
			seen = s.Value == value
		}
	}
	return 0, false
}

// order checks that each list read is the beginning of the longest one.
func (c *appendCheck) order() {
	for i := range c.txns {
		t := &c.txns[i]
		for _, s := range t.Steps {
			if t.Outcome == OK && !s.Append && !prefix(s.List, c.longest[s.Key]) {
				c.complain("append: incompatible order", t.Start, "list %d was also read as %v: %s", s.Key, c.longest[s.Key], t)
			}
		}
	}
}

func prefix(short, long []int64) bool {
	return len(short) <= len(long) && slices.Equal(short, long[:len(short)])
}

// lost finds appends that were acknowledged before a read of their list began, and that no read shows.
func (c *appendCheck) lost() {
	lastRead := map[int]time.Duration{}
	for _, t := range c.txns {
		for _, s := range t.Steps {
			if t.Outcome == OK && !s.Append {
				lastRead[s.Key] = max(lastRead[s.Key], t.Start)
			}
		}
	}
	for _, t := range c.txns {
		for _, s := range t.Steps {
			if t.Outcome == OK && s.Append && t.End < lastRead[s.Key] && !slices.Contains(c.longest[s.Key], s.Value) {
				c.complain("append: lost append", t.End, "%d is not in list %d, read last at %.3f s as %v: %s",
					s.Value, s.Key, lastRead[s.Key].Seconds(), c.longest[s.Key], t)
			}
		}
	}
}

// graph gives the dependencies between the transactions that took effect: those acknowledged, and those of unknown
// outcome that somebody saw.
func (c *appendCheck) graph() *Graph {
	g := NewGraph(len(c.txns))
	committed := make([]bool, len(c.txns))
	for key, list := range c.longest {
		for i, v := range list {
			w, known := c.writers[element{key, v}]
			if !known {
				continue
			}
			committed[w] = true
			if i > 0 {
				if before, known := c.writers[element{key, list[i-1]}]; known {
					g.Add(before, w, depWW, element{key, v})
				}
			}
		}
	}
	var spans []span
	for i, t := range c.txns {
		switch {
		case t.Outcome == OK:
			spans = append(spans, span{i, t.Start, t.End})
			c.readEdges(g, i)
		case t.Outcome == Unknown && committed[i]:
			spans = append(spans, span{i, t.Start, forever})
		}
	}
	realTime(g, spans)
	return g
}

// readEdges adds, for each list read, whose append it saw last and whose it did not see.
func (c *appendCheck) readEdges(g *Graph, i int) {
	for _, s := range c.txns[i].Steps {
		longest := c.longest[s.Key]
		if s.Append || !prefix(s.List, longest) {
			continue
		}
		n := len(s.List)
		for n > 0 && c.wrote(i, s.Key, longest[n-1]) {
			n-- // its own appends are no dependency
		}
		if n > 0 {
			if w, known := c.writers[element{s.Key, longest[n-1]}]; known {
				g.Add(w, i, depWR, element{s.Key, longest[n-1]})
			}
		}
		if n < len(longest) {
			if w, known := c.writers[element{s.Key, longest[n]}]; known {
				g.Add(i, w, depRW, element{s.Key, longest[n]})
			}
		}
	}
}

func (c *appendCheck) wrote(i, key int, value int64) bool {
	w, known := c.writers[element{key, value}]
	return known && w == i
}

// tell puts a cycle into words.
func (c *appendCheck) tell(cycle Cycle) string {
	var b strings.Builder
	for _, e := range cycle.edges {
		from, to := c.txns[e.from], c.txns[e.to]
		fmt.Fprintf(&b, "\n  %s", from)
		switch e.kind {
		case depWW:
			fmt.Fprintf(&b, "\n    before %d, which appended %d to list %d right after it", to.ID, e.of.value, e.of.key)
		case depWR:
			fmt.Fprintf(&b, "\n    before %d, which read its append of %d to list %d", to.ID, e.of.value, e.of.key)
		case depRW:
			fmt.Fprintf(&b, "\n    before %d, whose append of %d to list %d it did not see", to.ID, e.of.value, e.of.key)
		default:
			fmt.Fprintf(&b, "\n    before %d, which began at %.3f s, after its answer", to.ID, to.Start.Seconds())
		}
	}
	return b.String()
}
