package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"pgquorum/cluster"
)

// scanTimeout bounds the search for the end of WAL. A node that was off for long may have gigabytes to walk through.
const scanTimeout = 60 * time.Second

// errNoWAL is returned when the WAL to begin with is not on disk.
var errNoWAL = errors.New("WAL is not on disk")

// walEnd finds the end of valid WAL on disk (V3), from a place known to be valid: the beginning or the end of a record
// that was replayed or checkpointed. It walks along h, the node's own history: old timelines up to their forks, then
// the newest. The old file of the fork's own segment counts too: the new one is streamed from its beginning and may
// still lack what the old one has, and what the old one has was confirmed to the old primary.
func (p *Postgres) walEnd(ctx context.Context, w walFiles, h history, from cluster.LSN) (cluster.LSN, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	end, last, scanned := from, (*walRecord)(nil), false
	pieces := append(append([]step{}, h.steps...), step{tli: h.tli})
	for i, piece := range pieces {
		isLast := i+1 == len(pieces)
		if !isLast && end >= piece.end {
			continue
		}
		start := end
		if i > 0 {
			// The file that holds the fork belongs to both timelines; a record that crosses into it ends there.
			if border := w.segmentStart(pieces[i-1].end); start < border {
				if w.contiguousEnd(pieces[i-1].tli, start) < border {
					break // a hole before the fork
				}
				start = border
			}
		}
		upTo := w.contiguousEnd(piece.tli, start)
		if !isLast {
			upTo = min(upTo, piece.end)
		}
		if upTo <= start {
			continue // such as the old timeline's last segment, which a promotion renames to .partial
		}
		found, err := p.dumpWAL(ctx, w, piece.tli, start, upTo, last)
		if err != nil {
			return 0, err
		}
		scanned = true
		if found != nil {
			last = found
			end = max(end, w.end(*found))
		}
	}
	if !scanned && uint64(from)%w.segment != 0 {
		return 0, fmt.Errorf("end of WAL from %v: segment %s: %w", from, w.name(h.at(from), from), errNoWAL)
	}
	return end, nil
}

// dumpWAL runs pg_waldump from a valid place to the border upTo, and gives the last valid record, or nil if there is
// none. after is the record before, when one is known: the first one found must follow it.
//
// The border keeps pg_waldump off segments that are not there: it waits 5 s for a missing file.
// Source: WALDumpOpenSegment, src/bin/pg_waldump/pg_waldump.c, PostgreSQL 15.
func (p *Postgres) dumpWAL(ctx context.Context, w walFiles, tli cluster.Timeline, from, upTo cluster.LSN, after *walRecord) (*walRecord, error) {
	lines := &recordLines{files: w.reader(tli), last: after}
	defer lines.files.close()
	err := p.runCommand(ctx, command{
		program: "pg_waldump",
		args: []string{"--path=" + w.dir, "--timeline=" + strconv.FormatUint(uint64(tli), 10),
			"--start=" + from.String(), "--end=" + upTo.String()},
		stdout: lines,
	})
	// It ends with status 1 wherever WAL ends, since what follows is no valid record; that is what we are looking for.
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("end of WAL from %v: %w", from, err)
	}
	if lines.last == after {
		return nil, nil
	}
	return lines.last, nil
}

// recordLines reads pg_waldump's output, of which each record's line begins with "rmgr:". Only the head of a line is
// kept: a description may be megabytes long.
//
// A description may also hold what a user wrote (the prefix of pg_logical_emit_message), line breaks included. So a
// line counts only if it names its predecessor and agrees with the record's head in the segment file: no user can
// write those.
type recordLines struct {
	files *walReader
	last  *walRecord
	line  []byte
}

// maxRecordLine is more than the longest head of a line.
const maxRecordLine = 256

// Write takes output as it comes.
func (r *recordLines) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part, rest, whole := bytes.Cut(b, []byte{'\n'})
		r.line = append(r.line, part[:min(len(part), maxRecordLine-len(r.line))]...)
		if whole {
			r.take(string(r.line))
			r.line = r.line[:0]
		}
		b = rest
	}
	return n, nil
}

// take reads one whole line.
func (r *recordLines) take(line string) {
	rec, ok := parseRecordLine(line)
	if !ok || r.last != nil && rec.prev != r.last.lsn {
		return
	}
	head, err := r.files.header(rec.lsn)
	if err != nil || head.length != rec.length || head.prev != rec.prev {
		return
	}
	r.last = &head
}

// parseRecordLine reads the head of a record's line, such as
// "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/01500718, prev 0/015006D0, desc: ...".
// Source: XLogDumpDisplayRecord, src/bin/pg_waldump/pg_waldump.c, PostgreSQL 15.
func parseRecordLine(line string) (rec walRecord, ok bool) {
	if !strings.HasPrefix(line, "rmgr: ") {
		return rec, false
	}
	_, rest, ok1 := strings.Cut(line, "len (rec/tot):")
	lengths, rest, ok2 := strings.Cut(rest, ", tx:")
	_, total, ok3 := strings.Cut(lengths, "/")
	_, rest, ok4 := strings.Cut(rest, ", lsn: ")
	lsn, rest, ok5 := strings.Cut(rest, ", prev ")
	prev, _, ok6 := strings.Cut(rest, ", desc:")
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 {
		return rec, false
	}
	length, err := strconv.ParseUint(strings.TrimSpace(total), 10, 32)
	if err != nil {
		return rec, false
	}
	if rec.lsn, err = cluster.ParseLSN(lsn); err != nil {
		return rec, false
	}
	if rec.prev, err = cluster.ParseLSN(prev); err != nil {
		return rec, false
	}
	rec.length = length
	return rec, true
}
