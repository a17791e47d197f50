package sim

import (
	"fmt"
	"maps"
	"slices"

	"pgquorum/cluster"
)

// record is one piece of WAL. No two writes of a world have the same number, so that WAL that only looks alike shows.
type record struct {
	End      cluster.LSN
	Timeline cluster.Timeline
	Number   int64
	Commit   int64 // the row that it commits; 0: none
}

// recordSize is what every record takes.
const recordSize = 0x100

// wal is what one data directory has: its records in order, and the history files that it knows.
type wal struct {
	records []record
	forks   map[cluster.Timeline]cluster.Fork
}

func (w *wal) clone() wal {
	return wal{records: slices.Clone(w.records), forks: maps.Clone(w.forks)}
}

// end is the position after the last record.
func (w *wal) end() cluster.Position {
	if len(w.records) == 0 {
		return cluster.Position{}
	}
	last := w.records[len(w.records)-1]
	return cluster.Position{Timeline: last.Timeline, LSN: last.End, Parent: w.forks[last.Timeline].Parent}
}

// index gives how many records end at or before lsn.
func index(lsn cluster.LSN) int { return int(lsn / recordSize) }

// append writes one record on a timeline.
func (w *wal) append(tli cluster.Timeline, number, commit int64) record {
	r := record{End: cluster.LSN(len(w.records)+1) * recordSize, Timeline: tli, Number: number, Commit: commit}
	w.records = append(w.records, r)
	return r
}

// switchTo begins a new timeline at the end.
func (w *wal) switchTo(tli cluster.Timeline) {
	at := w.end()
	w.forks[tli] = cluster.Fork{Timeline: tli, Parent: at.Timeline, LSN: at.LSN}
}

// history gives the forks that lead to the timeline of the last record, the oldest first.
func (w *wal) history() (list []cluster.Fork) {
	for t := w.end().Timeline; ; {
		f, ok := w.forks[t]
		if !ok {
			break
		}
		list = append(list, f)
		t = f.Parent
	}
	slices.Reverse(list)
	return list
}

// highest is the greatest timeline number among the history files and the records.
func (w *wal) highest() cluster.Timeline {
	top := w.end().Timeline
	for t := range w.forks {
		top = max(top, t)
	}
	return top
}

// last is the number of the last record; 0: there is none.
func (w *wal) last() int64 {
	if len(w.records) == 0 {
		return 0
	}
	return w.records[len(w.records)-1].Number
}

// segment is how much WAL is one file: a standby asks for the last that it has again, from its beginning on.
const segment = 16 * recordSize

// admits says whether a walsender streams to somebody whose WAL ends at p. Like PostgreSQL's it sees only the beginning of p's
// segment and the timeline; p itself may be beyond what this history has. Source: RequestXLogStreaming, walreceiverfuncs.c;
// StartReplication, walsender.c, PostgreSQL 15.
func (w *wal) admits(p cluster.Position) (beyond bool, err error) {
	start, end := p.LSN-p.LSN%segment, w.end()
	if start > end.LSN {
		return false, fmt.Errorf("requested starting point %s is ahead of %s", start, end.LSN)
	}
	if p.LSN == 0 || p.Timeline == end.Timeline {
		return w.serves(p) != nil, nil
	}
	for _, f := range w.history() {
		if f.Parent == p.Timeline && start <= f.LSN {
			return w.serves(p) != nil, nil
		}
	}
	return false, fmt.Errorf("requested starting point %s on timeline %d is not in this server's history", start, p.Timeline)
}

// serves says whether WAL that ends at p is the beginning of this one, by timeline and LSN alone.
func (w *wal) serves(p cluster.Position) error {
	end := w.end()
	if p.LSN > end.LSN {
		return fmt.Errorf("requested starting point %s is ahead of %s", p.LSN, end.LSN)
	}
	if p.LSN == 0 {
		return nil
	}
	tli := p.Timeline
	if at := w.records[index(p.LSN)-1].Timeline; at != tli {
		return fmt.Errorf("requested starting point %s on timeline %d is not in this server's history (timeline %d there)", p.LSN, tli, at)
	}
	return nil
}

// has says whether a record of the given number stands at its place.
func (w *wal) has(r record) bool {
	i := index(r.End)
	return i <= len(w.records) && i > 0 && w.records[i-1].Number == r.Number
}
