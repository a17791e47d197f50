package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"pgquorum/cluster"
)

// idFile names the life of a data directory, in PGDATA (V5). It is written last, when the directory is complete.
const idFile = "pgquorum.id"

// ErrNotClaimable is returned for a directory that Claim may not make this node's own.
var ErrNotClaimable = errors.New("data directory cannot be claimed")

// dataFacts are what PGDATA holds.
type dataFacts struct {
	state       cluster.DataState
	detail      string
	incarnation cluster.Incarnation
	control     *ControlData // nil unless there is a cluster
}

// ExpectSystemID says which system identifier the cluster has; a directory with another one is foreign from then on.
// Empty: not known yet.
func (p *Postgres) ExpectSystemID(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.systemID = id
}

// DataState says what stands in PGDATA and why, in one line.
func (p *Postgres) DataState(ctx context.Context) (cluster.DataState, string) {
	f := p.dataFacts(ctx)
	return f.state, f.detail
}

// dataFacts looks at PGDATA's files. A rewind that did not end comes before all else: the files may look whole and are
// not (V5).
func (p *Postgres) dataFacts(ctx context.Context) dataFacts {
	return p.dataFactsBy(ctx, p.cachedControl)
}

// dataFactsBy is dataFacts with control data as control gives them.
func (p *Postgres) dataFactsBy(ctx context.Context, control func(context.Context) (*ControlData, error)) dataFacts {
	unreadable := func(err error) dataFacts {
		return dataFacts{state: cluster.DataUnreadable, detail: err.Error()}
	}
	if _, err := os.Stat(filepath.Join(p.opt.GuardDir, rewindFile)); err == nil {
		return dataFacts{state: cluster.DataRewinding, detail: "a rewind began and did not end"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return unreadable(err)
	}
	entries, err := os.ReadDir(p.opt.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dataFacts{state: cluster.DataAbsent, detail: "no directory"}
	case err != nil:
		return unreadable(err)
	case len(entries) == 0:
		return dataFacts{state: cluster.DataAbsent, detail: "empty directory"}
	}
	if _, err := os.Stat(filepath.Join(p.opt.DataDir, pgVersionFile)); errors.Is(err, fs.ErrNotExist) {
		return dataFacts{state: cluster.DataNotCluster, detail: "directory is not empty and has no " + pgVersionFile}
	} else if err != nil {
		return unreadable(err)
	}
	facts, err := control(ctx)
	if err != nil {
		return unreadable(err)
	}
	return p.ownership(facts)
}

// ownership says whose cluster it is.
func (p *Postgres) ownership(control *ControlData) dataFacts {
	p.mu.Lock()
	want := p.systemID
	p.mu.Unlock()
	if want != "" && control.SystemID != want {
		return dataFacts{state: cluster.DataForeign, control: control,
			detail: fmt.Sprintf("system identifier %s, the cluster's is %s", control.SystemID, want)}
	}
	var id cluster.Member
	err := readJSON(filepath.Join(p.opt.DataDir, idFile), &id)
	f := dataFacts{state: cluster.DataUnclaimed, control: control}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.detail = "no " + idFile
	case err != nil:
		f.detail = err.Error()
	case id.Node != p.opt.Self || id.Incarnation == "":
		f.detail = fmt.Sprintf("%s names %q, this node is %q", idFile, id.AppName(), p.opt.Self) // V5
	default:
		f.state, f.incarnation = cluster.DataOurs, id.Incarnation
		f.detail = ""
	}
	return f
}

// Claim makes an unclaimed cluster directory this node's own, as a new incarnation. The caller has compared the system
// identifier with the cluster's. A directory that is ours already keeps its incarnation: ErrNotClaimable.
func (p *Postgres) Claim(ctx context.Context, m cluster.Member) error {
	p.change.Lock()
	defer p.change.Unlock()
	f := p.dataFacts(ctx)
	if f.state != cluster.DataUnclaimed {
		return fmt.Errorf("%s: want it unclaimed, it is %s (%s): %w", p.opt.DataDir, f.state, f.detail, ErrNotClaimable)
	}
	if m.Node != p.opt.Self || m.Incarnation == "" {
		return fmt.Errorf("%s: claim by %q, this node is %q: %w", p.opt.DataDir, m.AppName(), p.opt.Self, ErrNotClaimable)
	}
	return writeDurable(filepath.Join(p.opt.DataDir, idFile), m)
}

// inodeOf tells two files of one name apart.
func inodeOf(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return ""
}
