package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"pgquorum/api"
)

// story is what the demo tells, with the time since its begin.
type story struct {
	out     io.Writer
	unheard func() // called when nobody reads it
	began   time.Time
}

func newStory(out io.Writer, unheard func()) *story {
	return &story{out: out, unheard: unheard, began: time.Now()}
}

func (s *story) say(format string, args ...any) {
	s.print(fmt.Sprintf("%6.2fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...)))
}

func (s *story) print(text string) {
	if _, err := io.WriteString(s.out, text); err != nil {
		s.unheard()
	}
}

// head begins a chapter.
func (s *story) head(text string) {
	s.print("\n")
	s.say("%s", text)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// The parts of a take-over, in their order, as the old and as the new primary tell them.
var (
	phasesOfOld = []string{"noticed", "stopped", "released"}
	phasesOfNew = []string{"chosen", "acquired", "promoted", "settled"}
)

// sayPhases says what the outage was made of. A primary that started again in place tells all parts itself.
func (d *demo) sayPhases(s *sight, e *demoEvent) {
	if e.from == e.to {
		d.sayPhasesOf(e.to, s.status[e.to.name].PGQuorum.Phases, slices.Concat(phasesOfOld, phasesOfNew))
		return
	}
	d.sayPhasesOf(e.from, s.status[e.from.name].PGQuorum.Phases, phasesOfOld)
	d.sayPhasesOf(e.to, s.status[e.to.name].PGQuorum.Phases, phasesOfNew)
}

func (d *demo) sayPhasesOf(n *demoNode, phases []api.PhaseTime, names []string) {
	var parts []string
	for _, name := range names {
		for _, p := range phases {
			if p.Phase == name {
				parts = append(parts, fmt.Sprintf("%s %d ms", name, p.MS))
			}
		}
	}
	if len(parts) > 0 {
		d.story.say("  parts on %s: %s.", n.name, strings.Join(parts, ", "))
	}
}

// summary is the table at the end.
func (d *demo) summary(there map[int64]bool) {
	t := table{title: "Result", header: []string{""}, right: []bool{false}}
	for _, e := range d.events {
		t.header, t.right = append(t.header, e.name), append(t.right, true)
	}
	row := func(name string, cell func(*demoEvent) string) {
		cells := []string{name}
		for _, e := range d.events {
			cells = append(cells, cell(e))
		}
		t.rows = append(t.rows, cells)
	}
	r := d.load.record
	row("primary", func(e *demoEvent) string { return e.from.name + " -> " + e.to.name })
	for _, way := range d.ways() {
		row("write outage, "+way, func(e *demoEvent) string { return milliseconds(e.outage[way]) })
	}
	row("until all stream again", func(e *demoEvent) string { return milliseconds(e.ended.Sub(e.began)) })
	row("acknowledged rows", func(e *demoEvent) string { return fmt.Sprint(r.count(e.began, e.ended)) })
	row("lost rows", func(e *demoEvent) string { return fmt.Sprint(r.lost(there, e.began, e.ended)) })
	d.story.print("\n" + t.pretty())

	all, lost := r.count(time.Time{}, time.Now()), r.lost(there, time.Time{}, time.Now())
	d.story.print(fmt.Sprintf("In all: %d rows acknowledged, %d lost. %d more are there, whose writers got no answer.\n",
		all, lost, len(there)-(all-lost)))
}
