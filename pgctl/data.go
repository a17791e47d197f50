package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	for _, path := range p.rewindMarkPaths() {
		if _, err := os.Stat(path); err == nil {
			return dataFacts{state: cluster.DataRewinding, detail: "a rewind began and did not end"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return unreadable(err)
		}
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
		f.detail = fmt.Sprintf("%s names %q, this node is %q", idFile, id.Life(), p.opt.Self) // V5
	default:
		if f.detail = p.lifeUnknown(id.Incarnation); f.detail == "" {
			f.state, f.incarnation = cluster.DataOurs, id.Incarnation
		}
	}
	return f
}

// Former says what tells that this node has been part of a cluster before: an identity in PGDATA, or what the guard's
// directory remembers; empty: nothing does.
func (p *Postgres) Former() string {
	var m cluster.Member
	if err := readJSON(filepath.Join(p.opt.DataDir, idFile), &m); err == nil {
		return fmt.Sprintf("%s bears the identity %s", p.opt.DataDir, m.Life())
	}
	for _, path := range []string{filepath.Join(p.opt.DataDir, idFile), filepath.Join(p.opt.GuardDir, livesFile), filepath.Join(p.opt.GuardDir, promiseFile)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) { // also one that cannot be looked at
			return path + " is there"
		}
	}
	return ""
}

// livesFile names the lives whose promises stand in the same directory, the guard's.
const livesFile = "lives.json"

// keptLives bounds the lives remembered.
const keptLives = 8

type lives struct {
	Lives []cluster.Incarnation `json:"lives"` // the oldest first
}

// lifeUnknown says why a life does not go on here; empty: it does. A promise stands in the guard's directory and what it
// binds is in PGDATA: a directory whose promises may have been kept elsewhere, and lost, is no incarnation (V1, V5).
func (p *Postgres) lifeUnknown(i cluster.Incarnation) string {
	var l lives
	err := readJSON(filepath.Join(p.opt.GuardDir, livesFile), &l)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err.Error()
	case !slices.Contains(l.Lives, i):
		return fmt.Sprintf("the promises of incarnation %s are not in %s: they may be lost, so it does not go on", i, p.opt.GuardDir)
	}
	return ""
}

// KeepsLife says whether the promises of a life stand here.
func (p *Postgres) KeepsLife(i cluster.Incarnation) bool { return p.lifeUnknown(i) == "" }

// writeIdentity gives dir the identity m. That its promises stand here comes first.
func (p *Postgres) writeIdentity(dir string, m cluster.Member) error {
	var l lives
	path := filepath.Join(p.opt.GuardDir, livesFile)
	if err := readJSON(path, &l); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !slices.Contains(l.Lives, m.Incarnation) {
		l.Lives = append(l.Lives, m.Incarnation)
		if err := os.MkdirAll(p.opt.GuardDir, 0o700); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := writeDurable(path, lives{l.Lives[max(0, len(l.Lives)-keptLives):]}); err != nil {
			return err
		}
	}
	return writeDurable(filepath.Join(dir, idFile), m)
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
		return fmt.Errorf("%s: claim by %q, this node is %q: %w", p.opt.DataDir, m.Life(), p.opt.Self, ErrNotClaimable)
	}
	return p.writeIdentity(p.opt.DataDir, m)
}

// inodeOf tells two files of one name apart.
func inodeOf(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return ""
}
