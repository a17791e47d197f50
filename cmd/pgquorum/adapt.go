package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
	"pgquorum/pgctl"
)

// The adapters join packages that do not know one another: each translates the agent's small interface into the
// concrete package's own words, and does nothing else.

// guardAdapter is the guard as the agent wants it: one that can be started again.
type guardAdapter struct {
	exe   string
	opt   pgctl.GuardOptions
	grace time.Duration // of a soft fence (U6); 0: none
	dog   pgctl.WatchdogSettings
	log   *slog.Logger
	use   func(*pgctl.Guard) // tells pgctl which guard to start Postgres through

	events chan agent.GuardEvent

	mu sync.Mutex
	g  *pgctl.Guard
}

// openGuard takes over the running guard, or starts one. Orphans of a guard that died while no agent watched are ended
// first (U5).
func openGuard(ctx context.Context, exe string, opt pgctl.GuardOptions, dog pgctl.WatchdogSettings, grace time.Duration, log *slog.Logger) (*guardAdapter, error) {
	a := &guardAdapter{exe: exe, opt: opt, dog: dog, grace: grace, log: log, use: func(*pgctl.Guard) {}, events: make(chan agent.GuardEvent, 16)}
	return a, a.Revive(ctx)
}

// Revive implements agent.Guard.
func (a *guardAdapter) Revive(ctx context.Context) error {
	g, err := pgctl.ConnectGuard(ctx, a.opt, a.log)
	if err == nil {
		a.log.InfoContext(ctx, "took over the running guard")
		a.adopt(ctx, g)
		return nil
	}
	if !errors.Is(err, pgctl.ErrNoGuard) { // it lives, and may hold a lease: nothing of its is touched (U1)
		return err
	}
	if err := pgctl.EndAll(ctx, a.opt); err != nil {
		return err
	}
	g, err = pgctl.SpawnGuard(ctx, a.exe, a.opt, a.log)
	if err != nil {
		return err
	}
	a.adopt(ctx, g)
	return nil
}

// adopt makes g the guard. One that does not take the watchdog's settings says in its status that it has none.
func (a *guardAdapter) adopt(ctx context.Context, g *pgctl.Guard) {
	if err := g.SetWatchdog(ctx, a.dog); err != nil {
		a.log.WarnContext(ctx, "guard without a watchdog", "mode", a.dog.Mode, "error", err)
	}
	a.mu.Lock()
	old := a.g
	g.SoftFence(a.grace)
	a.g = g
	a.mu.Unlock()
	if old != nil {
		old.Close()
	}
	a.use(g)
	go func() {
		for e := range g.Events() {
			a.events <- agent.GuardEvent{Kind: agent.GuardEventKind(e.Kind), Detail: e.Detail, At: e.At}
		}
	}()
}

func (a *guardAdapter) guard() *pgctl.Guard {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.g
}

// Status implements agent.Guard.
func (a *guardAdapter) Status(ctx context.Context) (cluster.GuardStatus, error) {
	return a.guard().Status(ctx)
}

// Lease implements agent.Guard.
func (a *guardAdapter) Lease(ctx context.Context, l cluster.Lease, p cluster.LeaseParams) error {
	return a.guard().Lease(ctx, l, p)
}

// Thaw implements agent.Guard.
func (a *guardAdapter) Thaw(ctx context.Context, from, t cluster.Term) error {
	return a.guard().Thaw(ctx, from, t)
}

// Fence implements agent.Guard.
func (a *guardAdapter) Fence(ctx context.Context, t cluster.Term) error {
	return a.guard().Fence(ctx, t)
}

// Events implements agent.Guard.
func (a *guardAdapter) Events() <-chan agent.GuardEvent { return a.events }

// quit ends the guard, once Postgres has stopped.
func (a *guardAdapter) quit(ctx context.Context) error {
	g := a.guard()
	defer g.Close()
	return g.Quit(ctx)
}

// postgresAdapter is the local Postgres as the agent wants it.
type postgresAdapter struct {
	*pgctl.Postgres
}

// Start implements agent.Runner.
func (p postgresAdapter) Start(ctx context.Context, s agent.StartSpec) error {
	spec := pgctl.StartSpec{Primary: s.Primary, Term: s.Term, Timeline: s.Timeline, Settings: settingsOf(s.Settings)}
	if s.Source != nil {
		src, err := sourceOf(*s.Source)
		if err != nil {
			return err
		}
		spec.Source = &src
	}
	return p.Postgres.Start(ctx, spec)
}

// Stop implements agent.Runner.
func (p postgresAdapter) Stop(ctx context.Context, deadline time.Duration) error {
	return p.Postgres.Stop(ctx, pgctl.StopFast, cmp.Or(deadline, noDeadline))
}

// noDeadline is primary_stop_timeout 0: no limit that anybody would wait for.
const noDeadline = 24 * time.Hour

// Promote implements agent.Runner.
func (p postgresAdapter) Promote(ctx context.Context, t cluster.Term, allotted cluster.Timeline) error {
	return p.Postgres.Promote(ctx, pgctl.PromoteSpec{Term: t, Timeline: allotted})
}

// Configure implements agent.Runner.
func (p postgresAdapter) Configure(ctx context.Context, s agent.Settings) error {
	return p.Postgres.ApplySettings(ctx, settingsOf(s))
}

// Follow implements agent.Follower.
func (p postgresAdapter) Follow(ctx context.Context, s *agent.Source, me cluster.Member) error {
	if s == nil {
		return p.Postgres.Follow(ctx, nil, me)
	}
	src, err := sourceOf(*s)
	if err != nil {
		return err
	}
	return p.Postgres.Follow(ctx, &src, me)
}

// RemovedWAL implements agent.Follower.
func (p postgresAdapter) RemovedWAL(ctx context.Context, s agent.Source, from cluster.Position) (string, error) {
	src, err := sourceOf(s)
	if err != nil {
		return "", err
	}
	return p.Postgres.RemovedWAL(ctx, src, from)
}

// SetSyncNames implements agent.Primary.
func (p postgresAdapter) SetSyncNames(ctx context.Context, l agent.SyncList) error {
	return p.Postgres.SetSyncNames(ctx, namesOf(l))
}

// ProveSyncNames implements agent.Primary.
func (p postgresAdapter) ProveSyncNames(ctx context.Context, l agent.SyncList) (cluster.LSN, error) {
	return p.Postgres.ProveSyncNames(ctx, namesOf(l))
}

// BaseBackup implements agent.Repairer.
func (p postgresAdapter) BaseBackup(ctx context.Context, s agent.Source, m cluster.Member, progress func(done, total int64)) error {
	src, err := sourceOf(s)
	if err != nil {
		return err
	}
	return p.Postgres.BaseBackup(ctx, src, m, progress)
}

// Rewind implements agent.Repairer.
func (p postgresAdapter) Rewind(ctx context.Context, s agent.Source, fork cluster.Position, m cluster.Member, progress func(string)) error {
	src, err := sourceOf(s)
	if err != nil {
		return err
	}
	return p.Postgres.Rewind(ctx, src, fork, m, progress)
}

func settingsOf(s agent.Settings) pgctl.Settings {
	return pgctl.Settings{Parameters: s.Dynamic.Parameters, PgHBA: s.Dynamic.PgHBA, SyncNames: namesOf(s.Sync), Me: s.Me}
}

func namesOf(l agent.SyncList) string {
	return pgctl.FormatSyncNames(l.Mode, l.K, l.Members, l.Timeline)
}

func sourceOf(s agent.Source) (pgctl.Source, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return pgctl.Source{}, fmt.Errorf("source %s: address %q: %w", s.Node, s.Addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return pgctl.Source{}, fmt.Errorf("source %s: port %q: %w", s.Node, port, err)
	}
	return pgctl.Source{Node: s.Node, Term: s.Term, Host: host, Port: int(n), CatchUp: s.CatchUp, Urgent: s.Urgent, Timeline: s.Timeline}, nil
}
