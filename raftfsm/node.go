package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// What a caller decides on. ErrUnknown is the only one after which the command may still take effect.
var (
	ErrNotLeader = errors.New("not the raft leader")
	ErrUnknown   = errors.New("outcome unknown")
	ErrIsLeader  = errors.New("this node is the raft leader")
	ErrClosed    = errors.New("raft node is closed")
)

// Node is this node's Raft: the replicated state machine, the lease's measure and the peer channel. All methods may be
// called from several goroutines.
type Node struct {
	opt       Options
	fsm       *fsm
	raft      *raft.Raft
	store     Store
	stable    *stableStore
	configs   *configs
	recall    *recall
	answers   *answers
	acks      *acks
	progress  *progress
	transfers transfers
	mux       *mux
	trans     *leaseTransport
	watch     *watcher
	place     *place
	asking    sync.WaitGroup

	barrierTerm atomic.Uint64
	settledTerm atomic.Uint64
	campaigned  atomic.Bool

	spreading *time.Timer // runs spread

	change       sync.Mutex // one membership change at a time
	hook         sync.Mutex // guards beforeChange
	beforeChange func(context.Context) error

	ending    chan struct{} // closed when Close begins
	closeOnce sync.Once
	closeDone chan struct{}
	closeErr  error
}

// How Raft's log is kept, and how soon followers learn of a commit.
const (
	logCacheEntries = 512

	defaultSnapshotThreshold = 4096
	snapshotInterval         = 30 * time.Second
	keptSnapshots            = 2

	// commitTimeout: an idle leader tells followers its commit index each 1 to 2 times this, and turns to a follower that
	// was away. After a command they learn of its commit sooner, by spread. LEASE.md has what it costs.
	commitTimeout = 400 * time.Millisecond

	// spreadPause is from the last of several commands, one after another, to the entry that spreads their commit.
	spreadPause = 20 * time.Millisecond
)

// Open starts Raft on DataDir/raft and listens. With an empty store the node first seeks its place, beside: it bootstraps
// with the initial members or asks to be taken in (see seekPlace). Open waits for neither, nor for a leader.
func Open(ctx context.Context, opt Options) (*Node, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	n := &Node{
		opt: opt, answers: newAnswers(), acks: newAcks(opt.Clock),
		progress: newProgress(), ending: make(chan struct{}), closeDone: make(chan struct{}),
	}
	n.fsm = newFSM(opt.Scope, n.applied)
	n.spreading = time.AfterFunc(time.Hour, n.spread)
	n.spreading.Stop()
	if err := n.open(ctx); err != nil {
		n.abandon()
		return nil, err
	}
	return n, nil
}

// applied is told of each change of the state, before anybody acts on it.
func (n *Node) applied() {
	if n.place != nil {
		n.mux.dropStrangers() // first: what follows may wait for a disk
		if err := n.place.learn(n.fsm.View()); err != nil {
			n.opt.Log.Error("identities not kept", "error", err)
		}
	}
	n.opt.Wake()
}

// givenAway is told when an entry is stored that gives a name to another uid: the former bearer is heard no more, and none
// of its answers counts any more as its successor's (L1).
func (n *Node) givenAway(name cluster.NodeID) {
	n.mux.dropStrangers()
	n.answers.forget(name)
	n.progress.forget(name)
}

// open does Open's work; what it has opened when it fails, abandon closes.
func (n *Node) open(ctx context.Context) error {
	dir := filepath.Join(n.opt.DataDir, storeDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("raft.data_dir: %w", err)
	}
	conf := n.raftConfig()
	var err error
	path := filepath.Join(dir, logFile)
	if n.store, err = n.opt.OpenStore(path); err != nil {
		return fmt.Errorf("raft store %s: %w (a timeout means that another agent has it open)", path, err)
	}
	if n.stable, err = newStableStore(n.store, n.answers); err != nil {
		return err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, conf.Logger)
	if err != nil {
		return fmt.Errorf("raft snapshots in %s: %w", dir, err)
	}
	var given *readmits
	if n.configs, given, n.recall, err = loadConfigs(n.store, files); err != nil {
		return err
	}
	logs, err := raft.NewLogCache(logCacheEntries, &logStore{LogStore: n.store, configs: n.configs, names: given, recall: n.recall})
	if err != nil {
		return fmt.Errorf("raft log cache: %w", err)
	}
	snaps := &snapshotStore{SnapshotStore: files, configs: n.configs}
	if n.place, err = openPlace(n.opt, logs, n.stable, snaps); err != nil {
		return err
	}
	if err := n.listen(ctx, conf, given); err != nil {
		return err
	}
	given.tell(n.givenAway)
	if n.raft, err = raft.NewRaft(conf, n.fsm, logs, n.stable, snaps, n.trans); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	n.fsm.recall.Store(n.recall) // what was restored until now is this node's own snapshot
	n.watch = watchLeadership(n.raft, n.opt)
	n.asking.Go(n.seekPlace)
	return ctx.Err()
}

// raftConfig gives Raft's own settings (L7).
func (n *Node) raftConfig() *raft.Config {
	t := cluster.DefaultTimings(n.opt.Heartbeat)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.opt.Self)
	conf.HeartbeatTimeout = t.Heartbeat
	conf.ElectionTimeout = t.Heartbeat
	conf.LeaderLeaseTimeout = t.LeaderLease
	conf.CommitTimeout = commitTimeout
	conf.SnapshotThreshold = uint64(n.opt.SnapshotThreshold)
	conf.SnapshotInterval = snapshotInterval
	conf.TrailingLogs = conf.SnapshotThreshold
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	conf.Logger = raftLogger(n.opt.Log)
	return conf
}

// listen opens the listener and the transport on it.
func (n *Node) listen(ctx context.Context, conf *raft.Config, given *readmits) error {
	var err error
	if n.mux, err = newMux(ctx, n.opt, n.fsm.View, n.place, given); err != nil {
		return err
	}
	if n.opt.Advertise == "" {
		n.opt.Advertise = n.mux.ln.Addr().String()
	}
	n.trans = &leaseTransport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Logger:          conf.Logger,
			Stream:          streams{n.mux.raftSide},
			MaxPool:         3,
			MaxRPCsInFlight: 1, // pipelining can wedge a follower until the leader restarts
			Timeout:         cluster.DefaultTimings(n.opt.Heartbeat).Transport,
		}),
		advertise: raft.ServerAddress(n.opt.Advertise),
		clock:     n.opt.Clock, stable: n.stable, answers: n.answers, acks: n.acks, progress: n.progress,
		onAnswer: n.opt.OnAnswer, before: n.opt.beforeAnswer, nameOf: n.nodeAt,
	}
	n.trans.start()
	return nil
}

// View gives the newest state of the FSM; never nil, never changed.
func (n *Node) View() *cluster.View { return n.fsm.View() }

// Status gives what this node sees of Raft, from memory.
func (n *Node) Status() cluster.RaftStatus {
	_, leader := n.raft.LeaderWithID()
	_, config := n.configs.latest()
	s := cluster.RaftStatus{
		Term:      n.stable.Term(),
		Leader:    cluster.NodeID(leader),
		Commit:    n.raft.CommitIndex(),
		Applied:   n.raft.AppliedIndex(),
		Voters:    voterIDs(config),
		Nonvoters: serverIDs(config, raft.Nonvoter),
		Waiting:   n.place.waiting(),
		Recalled:  n.recall.done(n.View().Index),
	}
	switch n.raft.State() {
	case raft.Leader:
		s.State, s.TransferStuck = cluster.RaftLeader, n.transfers.stuckFor(n.opt.Clock())
		return s
	case raft.Candidate:
		s.State = cluster.RaftCandidate
	case raft.Follower:
		s.State = cluster.RaftFollower
	default:
		s.State = cluster.RaftShutdown
	}
	heard := n.raft.LastContact()
	if heard.IsZero() {
		s.LastContact = n.opt.Clock().Sub(n.acks.opened)
	} else {
		s.LastContact = time.Since(heard)
	}
	return s
}

// addressOf gives a node's Raft address: of the latest configuration, else as registered, else of the initial members; empty:
// unknown.
func (n *Node) addressOf(node cluster.NodeID) string {
	_, config := n.configs.latest()
	for _, s := range config.Servers {
		if s.ID == raft.ServerID(node) {
			return string(s.Address)
		}
	}
	if addr := n.View().Nodes[node].RaftAddr; addr != "" { // as it was added last
		return addr
	}
	return n.opt.Members[node]
}

// nodeAt gives the node of the latest configuration with that address; empty: none.
func (n *Node) nodeAt(addr string) cluster.NodeID {
	_, config := n.configs.latest()
	for _, s := range config.Servers {
		if string(s.Address) == addr {
			return cluster.NodeID(s.ID)
		}
	}
	return ""
}
