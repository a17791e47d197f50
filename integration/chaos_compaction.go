package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"time"
)

// chaosSnapshots is raft.snapshot_threshold of the chaos clusters. They write about 100 entries a minute, so that each node
// compacts its log in the first minutes, and one that was away for long is brought up by a snapshot.
const chaosSnapshots = 32

// compactTime bounds the wait for a node that has not compacted its log yet: Raft looks every 30 to 60 s.
const compactTime = 75 * time.Second

// compaction is what a node's log says of its present Raft store.
type compaction struct {
	fresh     bool   // the store began empty in a cluster that was there
	read      int64  // bytes of the log so far
	snapshots int    // written
	installed int    // got from a leader
	begins    uint64 // the entry with which the log begins; 0: not compacted
}

// another begins with an empty store: what the log says so far is of one that is lost.
func (c *compaction) another(log string) error {
	info, err := os.Stat(log)
	if err != nil {
		return err
	}
	*c = compaction{fresh: true, read: info.Size()}
	return nil
}

// follow reads what the log says since the last time, whole lines only.
func (c *compaction) follow(log string) error {
	f, err := os.Open(log)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(c.read, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.read += int64(len(line))
		c.line(line)
	}
}

// What Raft says, as the agent logs it.
// Source: takeSnapshot and compactLogsWithTrailing in snapshot.go, installSnapshot in raft.go, hashicorp/raft v1.8.0.
var (
	saysCompacting = regexp.MustCompile(`raft="compacting logs" from=\d+ to=(\d+)`)
	saysWritten    = regexp.MustCompile(`raft="snapshot complete up to" index=\d+`)
	saysInstalled  = regexp.MustCompile(`raft="Installed remote snapshot"`)
)

func (c *compaction) line(text string) {
	switch m := saysCompacting.FindStringSubmatch(text); {
	case m != nil:
		if to, err := strconv.ParseUint(m[1], 10, 64); err == nil { // it is all digits; one beyond 64 bits says nothing
			c.begins = to + 1
		}
	case saysWritten.MatchString(text):
		c.snapshots++
	case saysInstalled.MatchString(text):
		c.installed++
	}
}

// missing says what a node has not shown, with so many snapshots on its disk; nil: it has compacted its log. A store that
// began empty and got a snapshot has no entry before it.
func (c *compaction) missing(kept int) error {
	switch {
	case kept == 0:
		return errors.New("no snapshot of raft is kept")
	case c.snapshots+c.installed == 0:
		return errors.New("raft has neither written nor got a snapshot")
	case c.begins < 2 && !(c.fresh && c.installed > 0):
		return errors.New("raft's log begins with entry 1 still")
	}
	return nil
}

func (c *compaction) String() string {
	begins := "after a snapshot that it got"
	if c.begins > 0 {
		begins = fmt.Sprintf("with entry %d", c.begins)
	}
	return fmt.Sprintf("%d snapshots written, %d got, the log begins %s", c.snapshots, c.installed, begins)
}

// checkCompaction waits until every node has compacted its log.
func (r *chaosRun) checkCompaction(ctx context.Context) (found []Violation, result string) {
	ctx, cancel := context.WithTimeout(ctx, compactTime)
	defer cancel()
	for _, h := range r.hosts {
		var u Usage
		err := until(ctx, usageEvery/20, func() error {
			u = r.usage(ctx, h)
			return errors.Join(h.compaction.follow(h.Log()), h.compaction.missing(u.Snapshots))
		})
		if err != nil {
			found = append(found, Violation{"raft log", r.now(), fmt.Sprintf("%s, at index %d: %v", h.Name, u.Index, err)})
		}
		result += fmt.Sprintf("%s: %s, %d kept, index %d. ", h.Name, &h.compaction, u.Snapshots, u.Index)
	}
	return found, result
}
