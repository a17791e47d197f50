package integration

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Usage is what a node takes at a moment. 0: not known then.
type Usage struct {
	Node       string        `json:"node"`
	At         time.Duration `json:"at"`
	Whole      bool          `json:"whole,omitempty"` // the cluster was: all is as at rest, but for the clients
	AgentPID   int           `json:"agent_pid"`
	GuardPID   int           `json:"guard_pid"`
	AgentRSS   int64         `json:"agent_rss"` // bytes
	GuardRSS   int64         `json:"guard_rss"`
	AgentFDs   int           `json:"agent_fds"`
	GuardFDs   int           `json:"guard_fds"`
	Goroutines int           `json:"goroutines"`
	Slots      int           `json:"slots"`
	WAL        int64         `json:"wal"`      // bytes in pg_wal
	Segments   int           `json:"segments"` // numbers of WAL segments there, each counted once
	Raft       int64         `json:"raft"`     // bytes of Raft's log and snapshots
	Index      uint64        `json:"index"`
	Snapshots  int           `json:"snapshots"`
}

const usageEvery = 10 * time.Second

// watchUsage measures each node now and then.
func (r *chaosRun) watchUsage(ctx context.Context) {
	ticker := time.NewTicker(usageEvery)
	defer ticker.Stop()
	for {
		for _, h := range r.hosts {
			r.noteUsage(r.usage(ctx, h))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *chaosRun) noteUsage(u Usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Leaks = append(r.log.Leaks, u)
}

func (r *chaosRun) usage(ctx context.Context, h *chaosHost) Usage {
	u := Usage{Node: h.Name, At: r.now()}
	h.mu.Lock()
	agent, _ := h.Agent() // what does not run takes nothing
	guard, _ := h.Guard()
	h.mu.Unlock()
	u.AgentPID, u.GuardPID = agent, guard
	u.AgentRSS, u.AgentFDs = taken(agent)
	u.GuardRSS, u.GuardFDs = taken(guard)
	u.WAL = bytesUnder(filepath.Join(h.Data(), "pg_wal"))
	u.Segments = segmentsIn(filepath.Join(h.Data(), "pg_wal"))
	u.Raft = bytesUnder(filepath.Join(h.Raft(), "raft"))
	found, _ := filepath.Glob(filepath.Join(h.Raft(), "raft", "snapshots", "*-*")) // the pattern is well formed
	u.Snapshots = len(found)
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if code, body, err := get(asked, h.http, h.Addr, "/metrics"); err == nil && code == http.StatusOK {
		u.Goroutines = int(metricOf(body, "go_goroutines"))
		u.Index = uint64(metricOf(body, "raft_commit_index"))
	}
	return u
}

// taken gives a process's resident bytes and open files; none when it is gone.
func taken(pid int) (rss int64, files int) {
	if pid == 0 {
		return 0, 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseInt(kilobytes, 10, 64)            // a process that ends has none
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // nor files
	return n << 10, len(open)
}

func bytesUnder(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what goes away meanwhile takes nothing
		if err != nil {
			return nil //nolint:nilerr // the same
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// segmentsIn counts the numbers of the segments, whatever their timelines: each timeline begins with a copy of the segment
// in which it left its parent, and PostgreSQL removes segments by number.
// Source: XLogFileName, src/include/access/xlog_internal.h: eight digits of the timeline, then the number.
func segmentsIn(dir string) int {
	entries, _ := os.ReadDir(dir) // what is not there has none
	numbers := map[string]bool{}
	for _, e := range entries {
		if name := e.Name(); len(name) == 24 {
			numbers[name[8:]] = true
		}
	}
	return len(numbers)
}

func metricOf(text []byte, name string) float64 {
	m := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	value, _ := strconv.ParseFloat(string(m[1]), 64) // Prometheus writes numbers
	return value
}

// wholeUsage measures each node of a cluster that has just become whole, slots included.
func (r *chaosRun) wholeUsage(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, h := range r.hosts {
		if u, err := r.usageWithSlots(ctx, h); err == nil { // else it is measured the next time
			u.Whole = true
			r.noteUsage(u)
		}
	}
}

func (r *chaosRun) usageWithSlots(ctx context.Context, h *chaosHost) (u Usage, err error) {
	u = r.usage(ctx, h)
	slots, err := r.cluster.scan(ctx, h.Host, "SELECT count(*)::text FROM pg_replication_slots")
	if err == nil {
		u.Slots, err = strconv.Atoi(slots)
	}
	return u, err
}

// The bounds are on what a node takes when the cluster is whole, at the end and during the run. Where nothing leaked an
// agent had at most 36 files and 61 goroutines there with three nodes (756 looks in an hour), 45 and 74 with five (in minutes), and 31 MB; a guard 16 files
// and 19 MB.
const (
	mostAgentRSS  = 60 << 20
	mostGuardRSS  = 32 << 20
	mostGuardFDs  = 24
	mostSegments  = 32
	mostRaft      = 16 << 20
	mostSnapshots = 3 // two are kept, beside one that is being written
)

// mostAgentFDs and mostGoroutines grow with the connections to other nodes. usualAgentFDs is what only one look in a hundred may
// exceed, and one more: of 756 looks in an hour one was above it.
func mostAgentFDs(nodes int) int   { return 18 + 8*nodes }
func usualAgentFDs(nodes int) int  { return 11 + 8*nodes }
func mostGoroutines(nodes int) int { return 45 + 8*nodes }

func usageBounds(nodes int) string {
	return fmt.Sprintf("agent %d MB, %d files, %d goroutines; guard %d MB, %d files; %d slots; %d WAL segments of 16 MB; Raft %d MB, %d snapshots",
		mostAgentRSS>>20, mostAgentFDs(nodes), mostGoroutines(nodes), mostGuardRSS>>20, mostGuardFDs, nodes-1, mostSegments, mostRaft>>20, mostSnapshots)
}

// checkUsage holds what each node takes at the end against the bounds.
func (r *chaosRun) checkUsage() (found []Violation, result string) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	for _, h := range r.hosts {
		u, err := r.usageWithSlots(ctx, h)
		if err != nil {
			found = append(found, Violation{"leak", u.At, err.Error()})
		}
		r.noteUsage(u)
		found = append(found, CheckUsage(u, len(r.hosts))...)
		result += fmt.Sprintf("%s: agent %d MB, %d files, %d goroutines; guard %d MB, %d files; %d slots; %d WAL segments, %d MB of all timelines; Raft %d KB, index %d, %d snapshots. ",
			u.Node, u.AgentRSS>>20, u.AgentFDs, u.Goroutines, u.GuardRSS>>20, u.GuardFDs, u.Slots, u.Segments, u.WAL>>20, u.Raft>>10, u.Index, u.Snapshots)
	}
	return found, result
}

// CheckUsage holds what a node takes against the bounds.
func CheckUsage(u Usage, nodes int) (found []Violation) {
	for _, b := range []struct {
		name       string
		have, most int64
	}{
		{"bytes of the agent", u.AgentRSS, mostAgentRSS}, {"bytes of the guard", u.GuardRSS, mostGuardRSS},
		{"open files of the agent", int64(u.AgentFDs), int64(mostAgentFDs(nodes))}, {"open files of the guard", int64(u.GuardFDs), mostGuardFDs},
		{"goroutines", int64(u.Goroutines), int64(mostGoroutines(nodes))}, {"slots", int64(u.Slots), int64(nodes - 1)},
		{"WAL segments", int64(u.Segments), mostSegments}, {"bytes of Raft", u.Raft, mostRaft}, {"Raft snapshots", int64(u.Snapshots), mostSnapshots},
	} {
		if b.have > b.most {
			found = append(found, Violation{"leak", u.At, fmt.Sprintf("%s: %d %s, want at most %d", u.Node, b.have, b.name, b.most)})
		}
	}
	return found
}
