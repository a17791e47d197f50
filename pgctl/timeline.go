package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pgquorum/cluster"
)

// history is a timeline's way from the first one, as its history file tells it.
type history struct {
	tli   cluster.Timeline
	steps []step // its ancestors, oldest first; empty for the first timeline and for a placeholder
}

// step says that WAL up to end is of timeline tli.
type step struct {
	tli cluster.Timeline
	end cluster.LSN
}

// errPlaceholder is returned for a history file without a parent, as F2 writes them.
var errPlaceholder = errors.New("placeholder, no timeline")

// historyName is the name of a timeline's history file.
func historyName(tli cluster.Timeline) string { return fmt.Sprintf("%08X.history", uint32(tli)) }

// readHistory reads a timeline's history. The first timeline has none and needs no file. A file without a parent gives
// errPlaceholder, a missing one fs.ErrNotExist.
func (w walFiles) readHistory(tli cluster.Timeline) (history, error) {
	h := history{tli: tli}
	if tli == 1 {
		return h, nil
	}
	path := filepath.Join(w.dir, historyName(tli))
	data, err := os.ReadFile(path)
	if err != nil {
		return h, fmt.Errorf("history of timeline %d: %w", tli, err)
	}
	h.steps, err = parseHistory(string(data))
	if err != nil {
		return h, fmt.Errorf("history of timeline %d: %w", tli, err)
	}
	if len(h.steps) == 0 {
		return h, fmt.Errorf("history of timeline %d: %w", tli, errPlaceholder)
	}
	if top := h.steps[len(h.steps)-1].tli; top >= tli {
		return h, fmt.Errorf("history of timeline %d: want older parents, have %d: %w", tli, top, cluster.ErrSyntax)
	}
	h.steps = withWAL(h.steps)
	return h, nil
}

// withWAL leaves out the timelines on the way of which there is no WAL. PostgreSQL names them where a standby was promoted
// that knew of a newer timeline and had nothing of it yet; it then gives as its end where recovery ended, which may even be
// before the place where it began [seen]. Source: StartupXLOG and rescanLatestTimeLine, PostgreSQL 15.
func withWAL(steps []step) []step {
	for i := len(steps) - 2; i >= 0; i-- {
		steps[i].end = min(steps[i].end, steps[i+1].end)
	}
	var begin cluster.LSN
	return slices.DeleteFunc(steps, func(s step) bool {
		empty := s.end == begin
		begin = s.end
		return empty
	})
}

// parseHistory reads the lines "parent, LSN at which it was left, reason" of a history file, oldest first.
// Source: readTimeLineHistory, src/backend/access/transam/timeline.c, PostgreSQL 15.
func parseHistory(text string) ([]step, error) {
	var steps []step
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			return nil, fmt.Errorf("line %q: want a timeline and an LSN: %w", line, cluster.ErrSyntax)
		}
		tli, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q: want a timeline number first: %w", line, cluster.ErrSyntax)
		}
		lsn, err := cluster.ParseLSN(words[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if n := len(steps); n > 0 && steps[n-1].tli >= cluster.Timeline(tli) {
			return nil, fmt.Errorf("line %q: want timelines in rising order: %w", line, cluster.ErrSyntax)
		}
		steps = append(steps, step{tli: cluster.Timeline(tli), end: lsn})
	}
	return steps, nil
}

// at gives the timeline on which WAL that ends at lsn was written (V4): WAL that ends exactly at a fork has nothing of
// the new timeline yet.
func (h history) at(lsn cluster.LSN) cluster.Timeline {
	for _, s := range h.steps {
		if lsn <= s.end {
			return s.tli
		}
	}
	return h.tli
}

// position is that of WAL that ends at lsn (V4).
func (h history) position(lsn cluster.LSN) cluster.Position {
	pos := cluster.Position{Timeline: h.at(lsn), LSN: lsn}
	for _, s := range h.steps {
		if s.tli < pos.Timeline {
			pos.Parent = s.tli
		}
	}
	return pos
}

// begin is where the timeline itself begins: the fork from its parent; 0 for the first.
func (h history) begin() cluster.LSN {
	if len(h.steps) == 0 {
		return 0
	}
	return h.steps[len(h.steps)-1].end
}

// leaves says where the way to h leaves timeline tli; ok is false when tli is no ancestor of h.
func (h history) leaves(tli cluster.Timeline) (cluster.LSN, bool) {
	for _, s := range h.steps {
		if s.tli == tli {
			return s.end, true
		}
	}
	return 0, false
}

// forks are the way's forks, oldest first (F1).
func (h history) forks() []cluster.Fork {
	forks := make([]cluster.Fork, 0, len(h.steps))
	for i, s := range h.steps {
		child := h.tli
		if i+1 < len(h.steps) {
			child = h.steps[i+1].tli
		}
		forks = append(forks, cluster.Fork{Timeline: child, Parent: s.tli, LSN: s.end})
	}
	return forks
}

// ownHistory is the way of the WAL on this disk: from the control file's newest timeline on to the newest one that is
// its descendant and of which there is WAL (V4). The control file alone lags: it names the last checkpoint's timeline.
// A history file alone proves nothing: the WAL receiver fetches those of its source before it asks for WAL, also when
// the source then refuses, because this node has gone past the fork.
func (w walFiles) ownHistory(c *ControlData) (history, error) {
	base := max(c.Timeline, c.MinRecoveryTL)
	own, err := w.readHistory(base)
	if err != nil {
		// A history file may be missing, such as in a clone; what is known is then that timeline alone.
		if !errors.Is(err, fs.ErrNotExist) {
			return own, err
		}
		own = history{tli: base}
	}
	numbers, err := w.historyNumbers()
	if err != nil {
		return own, err
	}
	for _, n := range slices.Backward(numbers) {
		if n <= base {
			break
		}
		h, err := w.readHistory(n)
		if errors.Is(err, errPlaceholder) {
			continue
		}
		if err != nil {
			return own, err
		}
		if _, descends := h.leaves(base); descends && w.has(n, h.begin()) {
			return h, nil
		}
	}
	return own, nil
}

// historyNumbers lists the timelines of which there is a history file, placeholders included, in order.
func (w walFiles) historyNumbers() ([]cluster.Timeline, error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, fmt.Errorf("history files: %w", err)
	}
	var list []cluster.Timeline
	for _, e := range entries {
		number, is := strings.CutSuffix(e.Name(), ".history")
		if !is || len(number) != 8 {
			continue
		}
		n, err := strconv.ParseUint(number, 16, 32)
		if err != nil {
			continue // not a history file's name
		}
		list = append(list, cluster.Timeline(n))
	}
	slices.Sort(list)
	return list, nil
}

// LocalForks gives the forks on the way to this node's timeline, as its history files tell them: what RecordFork needs.
func (p *Postgres) LocalForks(ctx context.Context) ([]cluster.Fork, error) {
	c, err := p.cachedControl(ctx)
	if err != nil {
		return nil, err
	}
	h, err := p.walFiles(c).ownHistory(c)
	if err != nil {
		return nil, err
	}
	return h.forks(), nil
}

// SeenMax is the highest timeline number that this disk knows of: among history files, placeholders included, and in
// the control file. No number up to it is free (F1).
func (p *Postgres) SeenMax() (cluster.Timeline, error) {
	c, err := p.cachedControl(context.Background())
	if err != nil {
		return 0, err
	}
	numbers, err := p.walFiles(c).historyNumbers()
	if err != nil {
		return 0, err
	}
	top := max(c.Timeline, c.MinRecoveryTL)
	if len(numbers) > 0 {
		top = max(top, numbers[len(numbers)-1])
	}
	return top, nil
}

// placeholderText is a history file's content that makes its number taken without making it a timeline (F2): a comment,
// no parent. A standby finds it, sees that it is no child of its own timeline, and streams on.
const placeholderText = "# pgquorum: this timeline number was allotted to another promotion; it has no parent here\n"

// addPlaceholders writes a placeholder for every number before the allotted one that has no history file (F2). Those after
// own make PostgreSQL promote to the allotted number: it takes the first after its own of which there is none. The others
// are for standbys: one that comes from an old timeline fetches the file of each number in between, and a clone has the
// newest alone. They are on disk once PostgreSQL has synced the directory for its own history file; an empty one would do.
// It refuses when a file of the allotted number is there already, since PostgreSQL would skip it.
// Source: findNewestTimeLine, timeline.c; WalRcvFetchTimeLineHistoryFiles, walreceiver.c, PostgreSQL 15.
func (w walFiles) addPlaceholders(own, allotted cluster.Timeline) error {
	if allotted <= own {
		return fmt.Errorf("timeline %d was allotted, but this node is on %d: %w", allotted, own, ErrWrongTimeline)
	}
	if _, err := os.Stat(filepath.Join(w.dir, historyName(allotted))); err == nil {
		return fmt.Errorf("timeline %d was allotted, but its history file is here: %w", allotted, ErrWrongTimeline)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("placeholders: %w", err)
	}
	for n := cluster.Timeline(2); n < allotted; n++ { // the first has no file
		if n == own { // it is real, even where its file is lost
			continue
		}
		path := filepath.Join(w.dir, historyName(n))
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.WriteFile(path, []byte(placeholderText), 0o600); err != nil {
			return fmt.Errorf("placeholders: %w", err)
		}
	}
	return nil
}

// dropPlaceholders removes the placeholders above the highest real timeline. A standby that starts with
// recovery_target_timeline=latest takes the newest number that it finds as its target before it looks whose child that
// is, and dies of one that is none ("requested timeline is not a child of this server's history"); a running standby
// only passes it by. Below the highest real one they stay: standbys of this node fetch each number in between.
// Source: validateRecoveryParameters and rescanLatestTimeLine, xlogrecovery.c, PostgreSQL 15.
func (w walFiles) dropPlaceholders() error {
	numbers, err := w.historyNumbers()
	if err != nil {
		return err
	}
	removed := false
	for _, n := range slices.Backward(numbers) {
		_, err := w.readHistory(n)
		if !errors.Is(err, errPlaceholder) {
			break
		}
		if err := os.Remove(filepath.Join(w.dir, historyName(n))); err != nil {
			return fmt.Errorf("placeholders: %w", err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return syncDir(w.dir)
}
