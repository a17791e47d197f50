package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// Options are what a node's agent is made of. cmd wires them.
type Options struct {
	Self      cluster.NodeID
	Node      cluster.Node // how this node registers itself; its incarnation comes from the data directory
	Members   []cluster.NodeID
	Heartbeat time.Duration
	Lease     cluster.LeaseParams // what an acquisition of this node records, with its watchdog where that is required
	SoftFence bool                // raft.soft_fence (U6): Guard asks for it with each lease
	UseRewind bool                // postgresql.use_pg_rewind
	Dynamic   cluster.Dynamic     // the first dynamic config, used by the first claim only
	Raft      Consensus
	Guard     Guard
	Postgres  Postgres
	Disk      Disk               // nil: none is probed
	Limits    cluster.DiskLimits // of its probes; zero: the defaults
	Clock     cluster.Clock
	Log       *slog.Logger
}

// Agent is one node's loop.
type Agent struct {
	opt    Options
	raft   Consensus
	pg     Postgres
	log    *slog.Logger
	keeper *keeper
	peers  *peers
	watch  *localWatch
	disk   *diskWatch
	jobs   jobs

	wakeUp    chan struct{}
	upkeepNow chan struct{}
	snapshot  atomic.Pointer[cluster.Snapshot]

	configured Settings        // a standby's, as upkeep last applied them; upkeep's own
	dry        cluster.Instant // since when a standby has waited for WAL from its source; zero: it does not; upkeep's own

	lists  *semaphore.Weighted // of one: held while a standby's list is written, so that upkeep does not overtake a promotion (S3)
	orders *semaphore.Weighted // of one: held while a promise is made, or an order followed: another leader's order would move the WAL under it (V3)

	mu           sync.Mutex // guards what follows
	ledger       decide.TakeOver
	request      *pendingSwitchover
	inherited    *decide.Request // came with leadership: the candidate that was asked for
	retry        map[decide.Action]cluster.Instant
	failures     map[decide.Action]decide.Failures
	lacking      cluster.Instant                    // decide.Observation.StandbyLackingSince
	stopped      cluster.Instant                    // decide.Observation.StoppedSince
	held         heldMark                           // decide.Observation.HeldSince
	denied       map[cluster.NodeID]cluster.Instant // decide.Observation.DeniedSince; replaced, never changed
	resuming     cluster.Term                       // decide.Observation.Resume, in this term only: later ones have another primary
	proven       provenRule
	prepared     preparedList
	endEarly     context.CancelFunc // breaks off upkeep's proof of a list; nil: none runs
	checkpointed cluster.Term       // the last term whose promotion was followed by a checkpoint
	gate         decide.Gate
	shownTold    cluster.Term // the last term of which an event said that /primary was shown unsettled (S4)
	phases       phases
	wantsOut     cluster.Incarnation
	began        cluster.Instant // decide.Observation.Began; never changed
	removed      removedWAL
	away         map[cluster.NodeID]decide.Away // decide.TakeOver.Away
	streamed     bool                           // the standby streamed when the loop last looked
	served       bool                           // Postgres ran as a primary then
	phase        string
	settledIn    settledKey
	jobText      string // progress of the running job
	stopping     bool
	isolated     isolation
	diskSaid     string                        // the disk's problem that was logged last
	alarmed      map[string]cluster.DiskStatus // every disk as it was told last, by directory
	untold       []cluster.Event               // alarms that no leader has taken yet, oldest first
	telling      bool                          // somebody is about to
	short        cluster.Instant               // decide.Observation.ShortSince
	fullStops    int                           // decide.Observation.FullStops
	ranFull      bool                          // Postgres has run since it last ended on a disk without room
	holdsIn      cluster.Term                  // the key's term that holdsFrom is about
	holdsFrom    cluster.Instant               // decide.Observation.HoldsSince
	watchdogSaid cluster.WatchdogStatus        // the watchdog as it was told last
	hiding       bool                          // /primary is 503: the primary is on its way out
	said         decide.Decision               // the last one logged
	lastPromise  givenPromise                  // that this node gave, and that a catch-up has not outdated
}

// provenRule says which rule's list is known to be in force in which run of Postgres (S3).
type provenRule struct {
	id    uint64
	start string // postmaster start time
}

// preparedList is a list that was proven in a run of Postgres before it was promoted (S3).
type preparedList struct {
	list  SyncList
	start string
}

// heldMark is since when a node has been held by a rule, in one term of the key and as one life of its data.
type heldMark struct {
	term  cluster.Term
	life  cluster.Incarnation
	since cluster.Instant
}

// settledKey is the Raft term, and the key's, in which the key was found settled (L6).
type settledKey struct {
	raft uint64
	term cluster.Term
}

// New gives an agent. Run makes it live; until then Snapshot already answers.
func New(opt Options) *Agent {
	a := &Agent{
		opt: opt, raft: opt.Raft, pg: opt.Postgres, log: opt.Log,
		wakeUp:    make(chan struct{}, 1),
		upkeepNow: make(chan struct{}, 1),
		alarmed:   map[string]cluster.DiskStatus{},
		retry:     map[decide.Action]cluster.Instant{},
		failures:  map[decide.Action]decide.Failures{},
		phase:     "starting",
		began:     opt.Clock(),
		lists:     semaphore.NewWeighted(1),
		orders:    semaphore.NewWeighted(1),
	}
	a.keeper = newKeeper(opt.Self, opt.Raft, opt.Guard, opt.Clock, opt.Log, a.Wake)
	a.peers = newPeers(opt.Self, opt.Raft, opt.Heartbeat, opt.Clock, opt.Log, a.Wake)
	a.watch = newLocalWatch(opt.Postgres, opt.Guard, opt.Clock, a.Wake)
	a.disk = newDiskWatch(opt.Disk, opt.Limits, opt.Clock)
	a.publish(&decide.Observation{View: opt.Raft.View(), Raft: opt.Raft.Status()})
	return a
}

// Wake makes the loop go round. It does not block; Raft, the guard, the peers and the keeper call it.
func (a *Agent) Wake() {
	select {
	case a.wakeUp <- struct{}{}:
	default:
	}
}

// Answered is raftfsm's OnAnswer: a heartbeat answer was counted.
func (a *Agent) Answered() { a.keeper.answered() }

// Changed is raftfsm's Wake: the FSM or leadership changed.
func (a *Agent) Changed() {
	a.keeper.answered()
	select {
	case a.upkeepNow <- struct{}{}:
	default:
	}
	a.Wake()
}

// Run is the node's life until ctx ends. On the way out it hands the key over and stops Postgres (B1); Raft and the
// guard are the caller's to stop, in that order. After ErrRestart the guard is to be left as it is (B2).
func (a *Agent) Run(ctx context.Context) error {
	a.raft.SetBeforeChange(a.keeper.lower)
	a.resume(ctx)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	g.Go(func() error { a.keeper.run(life); return nil })
	g.Go(func() error { a.watch.run(life); return nil })
	g.Go(func() error { a.disk.run(life); return nil })
	g.Go(func() error { return a.minding(life) })
	g.Go(func() error { a.peers.poll(life); return nil })
	g.Go(func() error { return a.servePeers(life) })
	g.Go(func() error { a.listenToGuard(life); return nil })
	g.Go(func() error { a.upkeep(life); return nil })
	g.Go(func() error { a.tendMembers(life); return nil })
	g.Go(func() error { a.loop(life); return nil })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			a.leave(life)
		case <-life.Done():
		}
		end()
		return nil
	})
	err := g.Wait()
	a.jobs.wait()
	return err
}

// Snapshot is what the API shows, from memory.
func (a *Agent) Snapshot() *cluster.Snapshot { return a.snapshot.Load() }

// Lease is the newest lease, from memory.
func (a *Agent) Lease() cluster.Lease {
	l, state := a.keeper.current()
	if state != decide.LeaseLive {
		return cluster.Lease{}
	}
	return l
}

// Now is the present moment of the clock by which Lease ends.
func (a *Agent) Now() cluster.Instant { return a.opt.Clock() }

// GiveLeadership transfers Raft leadership to another voter, as a drill: an election is not a failover, the primary stays
// where it is, and leadership comes back to it (K3).
func (a *Agent) GiveLeadership(ctx context.Context) error {
	s := a.raft.Status()
	for _, n := range s.Voters {
		if n != a.opt.Self && s.State == cluster.RaftLeader {
			return a.leadTo(ctx, n)
		}
	}
	return fmt.Errorf("leadership not given away: this node is %s among voters %v", s.State, s.Voters)
}

// resume takes up a lease that the guard still holds (L9).
func (a *Agent) resume(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.opt.Heartbeat)
	defer cancel()
	s, err := a.opt.Guard.Status(ctx)
	if err != nil || s.Remaining <= 0 || s.Term == 0 {
		return
	}
	a.keeper.continues(s.Term, a.opt.Clock().Add(s.Remaining))
	a.log.Info("guard holds a live lease", "term", s.Term, "remaining", s.Remaining)
	go a.regain(context.WithoutCancel(ctx))
}

// regain asks for leadership at once, for the lease's sake (L9): a leader that there is, to look at this holder now, so
// that it hands back by K3; if none is heard of within a tenth of a heartbeat timeout, or the one that Raft names does
// not answer, this node stands for election itself, once.
func (a *Agent) regain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.opt.Heartbeat)
	defer cancel()
	tick := time.NewTicker(a.opt.Heartbeat / 50)
	defer tick.Stop()
	for tries := 0; tries < 5; tries++ {
		leader := a.raft.Status().Leader
		if leader == a.opt.Self {
			return
		}
		if leader != "" {
			if a.askLeader(ctx, leader) {
				return
			}
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if err := a.raft.Campaign(ctx); err != nil {
		a.log.Info("could not stand for election", "reason", err)
	}
}

// askLeader asks the leader that there is to look at this holder (L9, K3), and says whether it answered.
func (a *Agent) askLeader(ctx context.Context, leader cluster.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, a.peers.deadline())
	defer cancel()
	err := a.peers.call(ctx, leader, "/nudge", nudgeRequest{From: a.opt.Self}, nil)
	if err == nil {
		a.log.InfoContext(ctx, "asked the leader for leadership", "leader", leader)
		return true
	}
	a.log.InfoContext(ctx, "the leader did not answer", "leader", leader, "reason", err)
	var refused *peerError
	return errors.As(err, &refused) // it lives, and goes on with what it knows
}
