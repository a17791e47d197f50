package pgctl

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"pgquorum/cluster"
)

// Left is what a node's data directory holds while nothing runs on it.
type Left struct {
	Data     cluster.DataState
	Detail   string         // why Data is what it is
	Member   cluster.Member // the life that the directory bears as this node's, also where its promises are lost (unclaimed)
	SystemID string
	Position cluster.Position // end of valid WAL
	Forks    []cluster.Fork   // on the way there, by its own history files, oldest first
}

// ReadLeft looks at a stopped Postgres's directory without a guard and without changing it. It is an error if a server
// runs there, and if a directory of this node's has no WAL whose end can be found.
func (p *Postgres) ReadLeft(ctx context.Context) (Left, error) {
	if pm, runs := p.postmaster(); runs {
		return Left{}, fmt.Errorf("%s: want no server there, postmaster %d runs", p.opt.DataDir, pm.pid)
	}
	f := p.dataFacts(ctx)
	l := Left{Data: f.state, Detail: f.detail}
	if f.control != nil {
		l.SystemID = f.control.SystemID
	}
	var id cluster.Member
	err := readJSON(filepath.Join(p.opt.DataDir, idFile), &id)
	if err != nil || id.Node != p.opt.Self || f.state != cluster.DataOurs && f.state != cluster.DataUnclaimed {
		return l, nil // Detail says what stands there instead
	}
	l.Member = id
	pos, err := p.scanPosition(ctx)
	if err != nil {
		return l, fmt.Errorf("%s: %w: %w", p.opt.DataDir, ErrPositionUnknown, err)
	}
	l.Position = pos
	if l.Forks, err = p.LocalForks(ctx); err != nil {
		return l, fmt.Errorf("%s: %w", p.opt.DataDir, err)
	}
	l.Forks = slices.DeleteFunc(l.Forks, func(f cluster.Fork) bool { return f.Timeline > pos.Timeline }) // of which there is no record yet
	return l, nil
}

// Adopt lets a life go on whose promises may be lost: for a cluster in which nobody is left to whom they could have been given.
func (p *Postgres) Adopt(m cluster.Member) error { return p.writeIdentity(p.opt.DataDir, m) }
