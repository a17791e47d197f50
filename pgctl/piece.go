package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// pieceSuffix marks a segment that was set aside. PostgreSQL takes no notice of such names.
const pieceSuffix = ".piece"

// setPiecesAside renames the pieces of segments that would keep a standby, whose WAL ends at end, from starting.
//
// A WAL receiver streams a new timeline from the beginning of the segment in which it began, so that up to the fork that
// file repeats its parent's. When streaming breaks off before the fork, PostgreSQL prefers the piece to the parent's whole
// segment, cannot go on where the piece ends, and gives up: "according to history file, WAL location ... belongs to
// timeline ..., but previous recovered WAL file came from timeline ..." (WaitForWALToBecomeAvailable and XLogFileReadAnyTLI,
// xlogrecovery.c, PostgreSQL 15) [seen].
//
// A piece is set aside only if this node has no WAL of that timeline itself, and the parent's segments alone reach as far
// as everything does: then nothing is lost by it, and the standby streams the segment again.
func (p *Postgres) setPiecesAside(ctx context.Context, end cluster.LSN) error {
	c, err := p.lastControl(ctx)
	if err != nil {
		return err
	}
	w := p.walFiles(c)
	numbers, err := w.historyNumbers()
	if err != nil {
		return err
	}
	for _, tli := range numbers {
		h, err := w.readHistory(tli)
		if errors.Is(err, errPlaceholder) {
			continue
		}
		if err != nil {
			return err
		}
		fork := h.begin()
		if fork < end || uint64(fork)%w.segment == 0 || !w.has(tli, fork) {
			continue
		}
		if err := p.setAside(ctx, w, c, h, end); err != nil {
			return err
		}
	}
	return nil
}

// setAside renames the first segment of h's timeline, if its ancestors' segments have all that there is.
func (p *Postgres) setAside(ctx context.Context, w walFiles, c *ControlData, h history, end cluster.LSN) error {
	parent, err := w.readHistory(h.steps[len(h.steps)-1].tli)
	if err != nil {
		return err
	}
	alone, err := p.walEnd(ctx, w, parent, max(c.Checkpoint, c.MinRecovery))
	if err != nil {
		return err
	}
	name := w.name(h.tli, h.begin())
	if alone < end {
		p.opt.Log.WarnContext(ctx, "piece of a segment stays: it has WAL that its parent's segment lacks", "segment", name, "parent_end", alone.String(), "end", end.String())
		return nil
	}
	path := filepath.Join(w.dir, name)
	if err := os.Rename(path, path+pieceSuffix); err != nil {
		return fmt.Errorf("piece of a segment: %w", err)
	}
	p.opt.Log.InfoContext(ctx, "piece of a segment set aside: its timeline's own WAL is not here, and the parent's segment has the rest", "segment", name, "fork", h.begin().String(), "end", end.String())
	return syncDir(w.dir)
}
