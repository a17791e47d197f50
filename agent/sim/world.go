package sim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// Options are what a world is made of.
type Options struct {
	Seed      uint64
	Nodes     int
	Heartbeat time.Duration
	Mode      cluster.SyncMode
	Strict    bool
	Watchdog  time.Duration // of every host, required; 0: none has one
	SoftFence bool          // U6
	OpenRaft  func(RaftOptions) (Raft, error)
	Log       io.Writer // the agents' logs; nil: none
}

// RaftOptions are what a node of package raftfsm needs; the simulation does not import it.
type RaftOptions struct {
	Self      cluster.NodeID
	UID       cluster.UID
	Forgot    bool // the store of a former life under another UID is lost: what there is of it goes before anything is opened
	Members   map[cluster.NodeID]string
	Heartbeat time.Duration
	Clock     cluster.Clock
	Log       *slog.Logger
	Listener  net.Listener
	Dial      func(ctx context.Context, addr string) (net.Conn, error)
	Wake      func()
	OnAnswer  func()
	Disk      func() // returns once the host's disk takes a write: it waits while the disk hangs
}

// World is a cluster and all that happens to it.
type World struct {
	Hosts []*Host

	opt     Options
	net     *Network
	began   time.Time
	history *history
	log     *slog.Logger
	running sync.WaitGroup
	flaps   sync.WaitGroup // faults that end by themselves

	mu      sync.Mutex
	rand    *rand.Rand
	last    int64
	faults  []string // the violations that were seen
	trace   []string // what was done to it, in words
	closing bool
	lost    bool // a node's data or votes were lost for ever
	away    bool // a disk is not mounted, and will be
	froze   int  // how often a primary was frozen
	thawed  int  // and how often one went on

	minority minority

	two bool // lookForTwo saw two at its last look; Watch's own
}

// NewWorld makes the hosts, all booted, their agents running.
func NewWorld(opt Options) (*World, error) {
	w := &World{opt: opt, began: time.Now(), history: newHistory(), rand: rand.New(rand.NewPCG(opt.Seed, 1))}
	out := opt.Log
	if out == nil {
		out = io.Discard
	}
	w.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: w.sinceBegin}))
	var names []cluster.NodeID
	for i := range opt.Nodes {
		names = append(names, cluster.NodeID(fmt.Sprintf("n%d", i+1)))
	}
	w.history.unsafe = opt.Mode == cluster.SyncOff
	w.net = NewNetwork(names...)
	w.net.rand = rand.New(rand.NewPCG(opt.Seed, 2))
	for _, n := range names {
		h := &Host{Name: n, world: w, events: make(chan agent.GuardEvent, 64), changed: make(chan struct{}), booted: time.Now(),
			frozen: map[service]bool{}, rate: 1 + float64(w.rand.Int64N(18_001)-9_000)/1e6}
		h.uid = cluster.UID(h.Name)
		h.disk.wal.forks = map[cluster.Timeline]cluster.Fork{}
		h.guard = newGuard(h)
		if opt.Watchdog > 0 {
			w.live(h.watchWatchdog)
		}
		w.Hosts = append(w.Hosts, h)
	}
	for _, h := range w.Hosts {
		if err := h.StartAgent(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// sinceBegin shows the world's time instead of the time of day.
func (w *World) sinceBegin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.String(slog.TimeKey, w.Time().String())
	}
	return a
}

// Time is how long the world has lasted.
func (w *World) Time() time.Duration { return time.Since(w.began) }

// live runs a part of the world, until it ends by itself or with what it belongs to.
func (w *World) live(f func()) { w.running.Go(f) }

// number is one that no other write, run or row has.
func (w *World) number() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	return w.last
}

// Did notes in words what was done to the world.
func (w *World) Did(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf("%9.3fs  ", w.Time().Seconds())+fmt.Sprintf(format, args...))
}

// violated notes that a promise was broken; what is seen again and again is noted once.
func (w *World) violated(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	again := slices.Contains(w.faults, text)
	if !again {
		w.faults = append(w.faults, text)
	}
	w.mu.Unlock()
	if !again {
		w.Did("VIOLATED: %s", text)
	}
}

// Violations are the promises that were broken.
func (w *World) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.faults...)
}

// Trace is what happened, a line each.
func (w *World) Trace() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.trace, "\n")
}

// Close ends everything and waits until nothing of it runs.
func (w *World) Close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	for _, h := range w.Hosts {
		h.thaw()
	}
	for _, h := range w.Hosts {
		h.KillAgent()
		h.guardNow().kill()
		h.endOrphans()
	}
	w.running.Wait()
	<-time.After(2 * tcpGivesUp) // what is on its way still arrives, or is given up
}

func (w *World) members() map[cluster.NodeID]string {
	m := map[cluster.NodeID]string{}
	for _, h := range w.Hosts {
		m[h.Name] = address(h.Name).String()
	}
	return m
}

// StartAgent starts the host's agent, once a former one has let go of Raft's store.
func (h *Host) StartAgent() error {
	h.mu.Lock()
	former, uid, forgot := h.agent, h.uid, h.forgot
	h.mu.Unlock()
	if former != nil {
		<-former.done
	}
	h.endOrphans()
	h.change(func() { // a guard that is gone is started again before anything else (U5)
		h.told = false
		if h.guard.gone {
			h.guard = newGuard(h)
		}
	})
	p := &process{h: h, dead: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{})}
	w := h.world
	log := w.log.With("name", h.Name)
	started := make(chan struct{})
	call := func(f func(*agent.Agent)) func() {
		return func() {
			select {
			case <-started:
				f(p.node)
			default:
			}
		}
	}
	r, err := w.opt.OpenRaft(RaftOptions{Self: h.Name, UID: uid, Forgot: forgot, Members: w.members(), Heartbeat: w.opt.Heartbeat, Clock: h.now, Log: log,
		Listener: w.net.Listen(h.Name, serviceAgent),
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return w.net.Dial(ctx, h.Name, cluster.NodeID(strings.TrimSuffix(addr, ":1")), serviceAgent)
		},
		Wake: call(func(a *agent.Agent) {
			w.named(h.Name, p.raft.View().Key)
			a.Changed()
		}),
		OnAnswer: call((*agent.Agent).Answered),
		Disk:     call(func(*agent.Agent) { h.thawed(serviceDisk, p.writes) }), // its start is not held up: who starts it ends the fault
	})
	if err != nil {
		return err
	}
	h.change(func() { h.forgot = false })
	p.raft = r
	p.node = agent.New(h.agentOptions(p, uid, log))
	close(started)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	h.change(func() { h.agent = p })
	w.live(func() { p.run(ctx) })
	return nil
}

func (h *Host) agentOptions(p *process, uid cluster.UID, log *slog.Logger) agent.Options {
	w := h.world
	var names []cluster.NodeID
	for _, o := range w.Hosts {
		names = append(names, o.Name)
	}
	lease := cluster.DefaultLease(w.opt.Heartbeat)
	recorded := lease
	recorded.Watchdog = w.opt.Watchdog
	return agent.Options{
		Self: h.Name, Members: names, Heartbeat: w.opt.Heartbeat, Lease: recorded, SoftFence: w.opt.SoftFence, UseRewind: true,
		Node: cluster.Node{Name: h.Name, UID: uid, RaftAddr: address(h.Name).String(), APIURL: "http://" + string(h.Name),
			PostgresAddr: string(h.Name) + ":5432", Tags: cluster.Tags{FailoverPriority: 1}, Version: cluster.Version},
		Dynamic: cluster.Dynamic{SynchronousMode: w.opt.Mode, SynchronousModeStrict: w.opt.Strict, SynchronousNodeCount: 1, MaximumLagOnFailover: 1 << 20,
			PrimaryStartTimeout: 30 * time.Second, PrimaryStopTimeout: 10 * time.Second, HeartbeatTimeout: w.opt.Heartbeat, Lease: lease},
		Raft: p.raft, Guard: guardPort{p}, Postgres: postgresPort{p}, Disk: diskPort{p}, Clock: h.now, Log: slog.New(promiseLog{log.Handler(), h}),
	}
}

// run is a process's life: Raft ends after the agent, or, when it was killed, with it.
func (p *process) run(ctx context.Context) {
	ended := make(chan error, 1)
	p.h.world.live(func() { ended <- p.node.Run(ctx) })
	again := false
	select {
	case err := <-ended:
		if again = err != nil && p.alive(); again {
			p.h.world.Did("%s: the agent ended: %v", p.h.Name, err)
		}
	case <-p.dead:
	}
	close(p.ended)
	p.h.change(func() {})
	closing, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := p.raft.Close(closing); err != nil && p.alive() {
		p.h.world.violated("%s: raft did not close: %v", p.h.Name, err)
	}
	p.once.Do(func() { close(p.dead) })
	close(p.done)
	if again {
		p.h.world.live(p.h.supervise)
	}
}

// supervise starts an agent that has ended with an error again, as a unit with Restart=on-failure does that nobody stops.
func (h *Host) supervise() {
	<-time.After(restartPause)
	h.mu.Lock()
	told := h.told
	h.mu.Unlock()
	if told {
		return
	}
	if err := h.startUnlessOff(); err != nil {
		h.world.violated("%s: the agent did not start again: %v", h.Name, err)
	}
}

const restartPause = 100 * time.Millisecond
