package integration

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// picture is the report's timeline: rectangles and words in pixels. Time goes to the right.
type picture struct {
	Width, Height int
	Labels        []label // of the rows, left of the picture
	Marks         []label // of the time
	Boxes         []box
	Lines         []line // violations, from top to bottom

	second float64 // pixels
	y      int
}

type label struct {
	X, Y int
	Text string
}

type box struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

type line struct {
	X     float64
	Title string
}

// The sizes of the picture, in pixels.
const (
	leastWidth = 1100
	perSecond  = 5 // at most; a long run is drawn finer
	mostWidth  = 20_000
	rowHeight  = 14
	barHeight  = 60
)

// draw makes the picture of a run.
func (r *chaosRun) draw() *picture {
	end := r.now().Seconds()
	width := min(max(leastWidth, int(end*perSecond)), mostWidth)
	p := &picture{Width: width, second: float64(width) / end, y: 20}
	p.marks(end)
	p.terms(r)
	for _, name := range r.log.Nodes {
		p.node(r, name)
	}
	p.row("whole again")
	for _, c := range r.log.Converged {
		class := "whole"
		if c.Err != "" {
			class = "bad"
		}
		p.add(c.Since, c.Since+c.Took, class, fmt.Sprintf("%.1f s %s", c.Took.Seconds(), c.Err))
	}
	p.y += rowHeight
	if r.load != nil {
		p.acked(r)
	}
	for _, v := range r.log.Violations {
		if v.At > 0 {
			p.Lines = append(p.Lines, line{v.At.Seconds() * p.second, v.String()})
		}
	}
	p.Height = p.y + 10
	return p
}

func (p *picture) marks(end float64) {
	step := 10.0
	for step*p.second < 60 {
		step *= 2
	}
	for at := 0.0; at < end; at += step {
		p.Marks = append(p.Marks, label{int(at * p.second), 12, fmt.Sprintf("%.0f s", at)})
	}
}

// row begins a row.
func (p *picture) row(text string) {
	p.y += rowHeight
	p.Labels = append(p.Labels, label{0, p.y + rowHeight - 4, text})
}

func (p *picture) add(from, to time.Duration, class, title string) {
	x := from.Seconds() * p.second
	p.Boxes = append(p.Boxes, box{X: x, Y: float64(p.y), W: max(to.Seconds()*p.second-x, 2), H: rowHeight - 2, Class: class, Title: title})
}

// terms draws who held the leader key, as the agents' own history tells it.
func (p *picture) terms(r *chaosRun) {
	p.row("leader key")
	var from timedEvent
	note := func(until time.Duration) {
		if from.Node != "" {
			at := max(from.Time.Sub(r.began), 0)
			p.add(at, until, nodeClass(r.log.Nodes, from.Node), fmt.Sprintf("%s, term %d: %s", from.Node, from.Term, from.Detail))
		}
	}
	for _, e := range r.log.Events {
		if e.Type == "leader_acquired" {
			note(e.Time.Sub(r.began))
			from = e
		}
	}
	note(r.now())
	p.y += rowHeight / 2
}

// nodeClass is the colour of a node.
func nodeClass(nodes []string, name string) string {
	return fmt.Sprintf("node%d", slices.Index(nodes, name))
}

// node draws what befell one node and what it was.
func (p *picture) node(r *chaosRun, name string) {
	p.row(name + " faults")
	p.faults(r, name)
	p.row(name + " role")
	p.states(r, name, Sample.Shown)
	p.row(name + " lease")
	p.states(r, name, func(s Sample) string {
		if s.LeaseMS > 0 {
			return "lease"
		}
		return ""
	})
	p.y += rowHeight / 2
}

// faults draws bars; those that overlap go into rows of their own.
func (p *picture) faults(r *chaosRun, name string) {
	bars := slices.Clone(r.log.Bars)
	slices.SortFunc(bars, func(a, b Bar) int { return cmp.Compare(a.Start, b.Start) })
	var ends []time.Duration
	top := p.y
	for _, b := range bars {
		if !slices.Contains(b.Hosts, name) || b.Note != "" {
			continue
		}
		row := slices.IndexFunc(ends, func(end time.Duration) bool { return end <= b.Start })
		if row < 0 {
			row = len(ends)
			ends = append(ends, 0)
		}
		ends[row] = b.End
		p.y = top + row*rowHeight
		p.add(b.Start, b.End, "fault "+strings.NewReplacer(" ", "-").Replace(b.Kind), fmt.Sprintf("%s: %.1f-%.1f s", b.Fault, b.Start.Seconds(), b.End.Seconds()))
	}
	p.y = top + max(len(ends)-1, 0)*rowHeight
}

// states draws what the samples of a node show, each until the next that shows something else; empty is not drawn.
func (p *picture) states(r *chaosRun, name string, shown func(Sample) string) {
	var from Sample
	last := ""
	note := func(until time.Duration) {
		if last != "" {
			p.add(from.Start, until, last, fmt.Sprintf("%s, %.1f-%.1f s, term %d, timeline %d: %s", last, from.Start.Seconds(), until.Seconds(), from.Term, from.Timeline, from.Phase))
		}
	}
	for _, s := range r.log.Samples {
		if s.Node == name && shown(s) != last {
			note(s.Start)
			from, last = s, shown(s)
		}
	}
	note(r.now())
}

// acked draws how many operations each node acknowledged in each second, one node's on top of another's.
func (p *picture) acked(r *chaosRun) {
	counts := map[string][]int{}
	seconds, most := int(r.now().Seconds())+1, 1
	for _, calls := range r.load.Ops.calls() {
		for _, c := range calls {
			if c.Outcome != OK || c.Client == finalClient {
				continue
			}
			if counts[c.Node] == nil {
				counts[c.Node] = make([]int, seconds)
			}
			counts[c.Node][min(int(c.End.Seconds()), seconds-1)]++
		}
	}
	for i := range seconds {
		sum := 0
		for _, c := range counts {
			sum += c[i]
		}
		most = max(most, sum)
	}
	p.y += rowHeight
	p.Labels = append(p.Labels, label{0, p.y + rowHeight, "acknowledged a second"}, label{0, p.y + 2*rowHeight, fmt.Sprintf("(at most %d)", most)})
	bottom := float64(p.y + barHeight)
	for i := range seconds {
		y := bottom
		for _, name := range r.log.Nodes {
			if counts[name] == nil || counts[name][i] == 0 {
				continue
			}
			h := float64(counts[name][i]) / float64(most) * barHeight
			y -= h
			p.Boxes = append(p.Boxes, box{float64(i) * p.second, y, max(p.second, 0.5), h, nodeClass(r.log.Nodes, name), fmt.Sprintf("%s: %d at %d s", name, counts[name][i], i)})
		}
	}
	p.y += barHeight
}
