package sim

import (
	"context"
	"errors"
	"sync"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// process is one life of an agent: what it does to its own machine goes through here, so that a frozen one does nothing
// and a dead one never does anything again.
type process struct {
	h     *Host
	dead  chan struct{}
	once  sync.Once
	stop  context.CancelFunc // of agent.Run
	ended chan struct{}      // closed when Run has ended
	done  chan struct{}      // closed when Run and Raft have ended
	node  *agent.Agent
	raft  Raft
}

// writes says whether what it writes still waits for a disk that hangs: what a process that ends had begun comes through then.
func (p *process) writes() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

var errDead = errors.New("process is dead")

func (p *process) alive() bool {
	select {
	case <-p.dead:
		return false
	default:
		return true
	}
}

// enter is the begin, and leave the end, of whatever an agent asks of its machine. A frozen process is stopped at either.
func (p *process) enter(ctx context.Context) error {
	if !p.h.thawed(serviceAgent, p.alive) {
		return errDead
	}
	return ctx.Err()
}

// leave is what a call gives back: a process that has died meanwhile learns nothing.
func (p *process) leave(err error) error {
	if !p.h.thawed(serviceAgent, p.alive) {
		return errDead
	}
	return err
}

// Raft is a node of package raftfsm as the simulation starts and stops it.
type Raft interface {
	agent.Consensus
	Close(ctx context.Context) error
}

// guardPort is the guard as an agent sees it.
type guardPort struct{ *process }

// answering waits while the guard is frozen: its socket takes the question and nobody answers.
func (p guardPort) answering(ctx context.Context) (*guard, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	g := p.h.guardNow()
	for {
		p.h.mu.Lock()
		frozen, gone, changed := p.h.frozen[serviceGuard], g.gone, p.h.changed
		p.h.mu.Unlock()
		switch {
		case gone:
			return nil, errGuardGone
		case !frozen:
			return g, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.dead:
			return nil, errDead
		case <-changed:
		}
	}
}

// Status implements agent.Guard.
func (p guardPort) Status(ctx context.Context) (cluster.GuardStatus, error) {
	g, err := p.answering(ctx)
	if err != nil {
		return cluster.GuardStatus{}, err
	}
	now := p.h.now()
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	s := cluster.GuardStatus{Alive: !g.gone, PID: 1, Term: g.lease.Term, NoPrimary: g.refused, Containment: "model"}
	if g.lease.Term != 0 {
		s.Remaining = g.lease.End.Sub(now)
	}
	if p.h.server != nil {
		s.Postmaster = 2
	}
	if g.frozen != nil {
		s.Frozen, s.FrozenLeft = g.frozen.term, g.frozen.until.Sub(now)
	}
	return s, nil
}

// Lease implements agent.Guard.
func (p guardPort) Lease(ctx context.Context, l cluster.Lease, params cluster.LeaseParams) error {
	g, err := p.answering(ctx)
	if err != nil {
		return err
	}
	return p.leave(g.setLease(l, params, p.h.world.softGrace()))
}

// Thaw implements agent.Guard.
func (p guardPort) Thaw(ctx context.Context, from, t cluster.Term) error {
	g, err := p.answering(ctx)
	if err != nil {
		return err
	}
	return p.leave(g.thaw(from, t))
}

// Fence implements agent.Guard.
func (p guardPort) Fence(ctx context.Context, t cluster.Term) error {
	g, err := p.answering(ctx)
	if err != nil {
		return err
	}
	outcome := make(chan error, 1)
	p.h.world.live(func() { outcome <- g.fence(t) })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-outcome:
		return p.leave(err)
	}
}

// Events implements agent.Guard.
func (p guardPort) Events() <-chan agent.GuardEvent { return p.h.events }

// Revive implements agent.Guard.
func (p guardPort) Revive(ctx context.Context) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	p.h.endOrphans()
	p.h.change(func() {
		if p.h.guard.gone {
			p.h.guard = newGuard(p.h)
		}
	})
	return p.leave(nil)
}

// diskPort is what the agent probes.
type diskPort struct{ *process }

// Places implements agent.Disk: a host has one disk.
func (p diskPort) Places() ([]agent.DiskPlace, error) {
	return []agent.DiskPlace{{Dir: "disk", Uses: []cluster.DiskUse{cluster.UseRaft, cluster.UseData, cluster.UseWAL}}}, nil
}

// Probe implements agent.Disk: it hangs as long as the disk does.
func (p diskPort) Probe(agent.DiskPlace) (free uint64, err error) {
	if !p.h.thawed(serviceDisk, p.alive) {
		return 0, errDead
	}
	return p.h.freeBytes(), p.enter(context.Background())
}
