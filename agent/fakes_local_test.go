package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pgquorum/cluster"
)

// fakeLocalGuard is one node's guard. It fences only what it has a lease for (docs/adr/0010).
type fakeLocalGuard struct {
	self   cluster.NodeID
	calls  *fakeCalls
	pg     *fakePostgres
	events chan GuardEvent

	mu      sync.Mutex
	leased  cluster.Term
	refused cluster.Term
	dog     cluster.WatchdogStatus
	frozen  cluster.Term
}

func (g *fakeLocalGuard) Status(ctx context.Context) (cluster.GuardStatus, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return cluster.GuardStatus{Alive: true, NoPrimary: g.refused, Watchdog: g.dog, Frozen: g.frozen}, nil
}

func (g *fakeLocalGuard) Lease(ctx context.Context, l cluster.Lease, _ cluster.LeaseParams) error {
	if err := g.calls.peek(ctx, g.self, "Lease"); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Term <= g.refused {
		return fmt.Errorf("no primary at term %d", l.Term)
	}
	g.leased = l.Term
	return nil
}

func (g *fakeLocalGuard) Fence(ctx context.Context, t cluster.Term) error {
	if err := g.calls.call(ctx, g.self, "Fence", t); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leased != 0 && g.leased <= t || g.frozen != 0 && g.frozen <= t {
		g.frozen = 0
		g.pg.edit(func(p *cluster.PostgresStatus) { p.State, p.Role = cluster.PostgresStopped, cluster.RoleNone })
		g.leased = 0
	}
	g.refused = max(g.refused, t)
	return nil
}

func (g *fakeLocalGuard) Thaw(ctx context.Context, from, t cluster.Term) error {
	if err := g.calls.call(ctx, g.self, "Thaw", from, t); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen != from || t != from+1 || g.leased != t {
		return fmt.Errorf("frozen in term %d, lease of term %d", g.frozen, g.leased)
	}
	g.frozen = 0
	return nil
}

func (g *fakeLocalGuard) Events() <-chan GuardEvent { return g.events }

func (g *fakeLocalGuard) Revive(ctx context.Context) error {
	return g.calls.call(ctx, g.self, "Revive")
}

// fakePostgres is one node's PostgreSQL and data directory.
type fakePostgres struct {
	self  cluster.NodeID
	calls *fakeCalls

	mu         sync.Mutex
	st         cluster.PostgresStatus
	pos        cluster.Position
	promised   cluster.Term
	end        cluster.LSN // of the shutdown checkpoint
	unclean    bool
	confirmed  []cluster.Member
	duplicates []string
	runs       int
	forks      []cluster.Fork
	refusal    string // of the WAL that it needs next

	promisesLost bool // KeepsLife says so
}

// edit changes what the next look sees.
func (p *fakePostgres) edit(f func(*cluster.PostgresStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.st)
}

// do notes a call and, if it is to succeed, does its work.
func (p *fakePostgres) do(ctx context.Context, work func(*cluster.PostgresStatus), name string, args ...any) error {
	if err := p.calls.call(ctx, p.self, name, args...); err != nil {
		return err
	}
	if work != nil {
		p.edit(work)
	}
	return nil
}

func (p *fakePostgres) Status(ctx context.Context) (cluster.PostgresStatus, error) {
	err := p.calls.peek(ctx, p.self, "Status")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.st, err
}

func (p *fakePostgres) Position(ctx context.Context) (cluster.Position, error) {
	err := p.do(ctx, nil, "Position")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pos, err
}

func (p *fakePostgres) SeenMax() (cluster.Timeline, error) { return 2, nil }

func (p *fakePostgres) ShutdownCheckpoint(ctx context.Context) (cluster.LSN, bool, error) {
	err := p.do(ctx, nil, "ShutdownCheckpoint")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end, !p.unclean, err
}

func (p *fakePostgres) LocalForks(ctx context.Context) ([]cluster.Fork, error) {
	err := p.do(ctx, nil, "LocalForks")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forks, err
}

func (p *fakePostgres) InitDB(ctx context.Context, m cluster.Member) (string, error) {
	return "7000", p.do(ctx, func(st *cluster.PostgresStatus) {
		becomes(m)(st)
		st.Timeline = 1
	}, "InitDB", m)
}

// becomes is the directory as m's life, stopped and in good order.
func becomes(m cluster.Member) func(*cluster.PostgresStatus) {
	return func(st *cluster.PostgresStatus) {
		*st = cluster.PostgresStatus{Data: cluster.DataOurs, SystemID: "7000", Incarnation: m.Incarnation,
			State: cluster.PostgresStopped, Timeline: st.Timeline, Clean: true}
	}
}

func (p *fakePostgres) Claim(ctx context.Context, m cluster.Member) error {
	return p.do(ctx, nil, "Claim", m)
}

func (p *fakePostgres) Start(ctx context.Context, s StartSpec) error {
	role := cluster.RoleStandby
	if s.Primary {
		role = cluster.RolePrimary
	}
	return p.do(ctx, func(st *cluster.PostgresStatus) {
		p.runs++
		st.State, st.Role, st.StartTime = cluster.PostgresRunning, role, fmt.Sprintf("run %d", p.runs)
	}, "Start", role, s.Term, s.Settings.Sync)
}

func (p *fakePostgres) Stop(ctx context.Context, deadline time.Duration) error {
	return p.do(ctx, func(st *cluster.PostgresStatus) { st.State, st.Role = cluster.PostgresStopped, cluster.RoleNone }, "Stop", deadline)
}

func (p *fakePostgres) Promote(ctx context.Context, t cluster.Term, allotted cluster.Timeline) error {
	return p.do(ctx, func(st *cluster.PostgresStatus) {
		p.forks = append(p.forks, cluster.Fork{Timeline: allotted, Parent: st.Timeline, LSN: p.pos.LSN})
		st.Role, st.Timeline, st.Current, p.pos.Timeline = cluster.RolePrimary, allotted, p.pos.LSN, allotted
	}, "Promote", t, allotted)
}

func (p *fakePostgres) Configure(ctx context.Context, s Settings) error {
	return p.do(ctx, nil, "Configure", s.Sync)
}

func (p *fakePostgres) EaseSource(context.Context) error { return nil }

func (p *fakePostgres) Follow(ctx context.Context, s *Source, _ cluster.Member) error {
	return p.do(ctx, func(st *cluster.PostgresStatus) {
		st.Source, st.SourceTerm, st.SourceTimeline, st.Streaming = s.Node, s.Term, s.Timeline, true
	}, "Follow", s.Node, s.Term, s.CatchUp)
}

func (p *fakePostgres) Cut(ctx context.Context) error {
	return p.do(ctx, func(st *cluster.PostgresStatus) {
		st.Source, st.SourceTerm, st.SourceTimeline, st.Streaming = "", 0, 0, false
	}, "Cut")
}

func (p *fakePostgres) Promise(ctx context.Context, t cluster.Term, _ cluster.Member) error {
	return p.do(ctx, func(*cluster.PostgresStatus) { p.promised = max(p.promised, t) }, "Promise", t)
}

func (p *fakePostgres) Promised() cluster.Term {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.promised
}

func (p *fakePostgres) EnsureSlots(ctx context.Context, _ []cluster.NodeID) error {
	return p.do(ctx, nil, "EnsureSlots")
}

func (p *fakePostgres) AdvanceSlots(ctx context.Context, _ map[cluster.NodeID]cluster.LSN) error {
	return p.do(ctx, nil, "AdvanceSlots")
}

func (p *fakePostgres) RemovedWAL(ctx context.Context, s Source, from cluster.Position) (string, error) {
	err := p.do(ctx, nil, "RemovedWAL", s.Node, s.Term, from)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusal, err
}

func (p *fakePostgres) CreateUsers(ctx context.Context) error { return p.do(ctx, nil, "CreateUsers") }
func (p *fakePostgres) Checkpoint(ctx context.Context) error  { return p.do(ctx, nil, "Checkpoint") }

func (p *fakePostgres) SetSyncNames(ctx context.Context, l SyncList) error {
	return p.do(ctx, nil, "SetSyncNames", l)
}

func (p *fakePostgres) ProveSyncNames(ctx context.Context, l SyncList) (cluster.LSN, error) {
	return 0, p.do(ctx, nil, "ProveSyncNames", l)
}

func (p *fakePostgres) Confirmed(ctx context.Context, _ cluster.Timeline, lsn cluster.LSN, _ []cluster.Member) ([]cluster.Member, []string, error) {
	err := p.do(ctx, nil, "Confirmed", lsn)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.confirmed, p.duplicates, err
}

func (p *fakePostgres) KeepsLife(cluster.Incarnation) bool { return !p.promisesLost }

func (p *fakePostgres) ExpectSystemID(id string) {
	_ = p.calls.call(context.Background(), p.self, "ExpectSystemID", id) // it has no outcome
}

func (p *fakePostgres) CrashRecover(ctx context.Context) error {
	return p.do(ctx, func(st *cluster.PostgresStatus) { st.Clean = true }, "CrashRecover")
}

func (p *fakePostgres) BaseBackup(ctx context.Context, s Source, m cluster.Member, progress func(done, total int64)) error {
	progress(3<<20, 7<<20)
	return p.do(ctx, becomes(m), "BaseBackup", s.Node, s.Addr, m)
}

func (p *fakePostgres) Rewind(ctx context.Context, s Source, fork cluster.Position, m cluster.Member, progress func(string)) error {
	progress("kept aside 2 WAL segments")
	return p.do(ctx, func(st *cluster.PostgresStatus) {
		becomes(m)(st)
		p.pos = fork
	}, "Rewind", s.Node, s.Addr, fork, m)
}
