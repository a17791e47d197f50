//go:build !wasip1

package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"pgquorum/cluster"
)

// ErrNoState is returned where a store holds nothing to recover from.
var ErrNoState = errors.New("the raft store is empty")

// Remains are what one node's store has of its cluster, while no agent has it open.
type Remains struct {
	View   *cluster.View // with every entry of the log applied, also those that were perhaps never committed
	Voters []cluster.NodeID
	Term   uint64 // Raft's

	BrokenOff bool // a recovery has begun on the store and not ended: it must be done again
}

// ReadRemains reads the store under raft.data_dir without changing what it says.
func ReadRemains(dir, scope string) (Remains, error) {
	s, err := openOffline(dir)
	if err != nil {
		return Remains{}, err
	}
	defer s.bolt.Close()
	f := newFSM(scope, nil)
	if err := s.replay(f); err != nil {
		return Remains{}, err
	}
	_, config := s.configs.latest()
	term, err := newStableStore(s.bolt, newAnswers())
	if err != nil {
		return Remains{}, err
	}
	id, _, err := readIdentity(dir)
	if err != nil {
		return Remains{}, err
	}
	return Remains{View: f.View(), Voters: voterIDs(config), Term: term.Term(), BrokenOff: id.Recovering}, nil
}

// RecoverAlone makes the store of raft.data_dir that of a cluster of one node (docs/adr/0029): c is applied to the state after
// every entry of the log, and Raft's configuration names c.Node at addr alone. The store as it was is kept, in a directory
// whose name it gives. No agent may have the store open.
func RecoverAlone(dir, scope, addr string, c cluster.Recover) (kept string, err error) {
	if kept, err = keepCopy(dir); err != nil {
		return "", err
	}
	s, err := openOffline(dir)
	if err != nil {
		return kept, err
	}
	defer func() { err = errors.Join(err, s.bolt.Close()) }()
	trial := &recovering{fsm: newFSM(scope, nil), cmd: c} // before anything is written
	if err := s.replay(trial.fsm); err != nil {
		return kept, err
	}
	if _, err := trial.Snapshot(); err != nil {
		return kept, fmt.Errorf("recover %s: %w", dir, err)
	}
	// Between the new snapshot and the end of the old log, others would be sent that log, without what c did to the state.
	if err := reidentify(dir, func(id *Identity) { id.Recovering = true }); err != nil {
		return kept, err
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(c.Node), hclog.NewNullLogger()
	_, trans := raft.NewInmemTransport(raft.ServerAddress(addr))
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(c.Node), Address: raft.ServerAddress(addr)}}}
	if err := raft.RecoverCluster(conf, &recovering{fsm: newFSM(scope, nil), cmd: c}, s.bolt, s.bolt, s.files, trans, alone); err != nil {
		return kept, fmt.Errorf("recover %s: %w", dir, err)
	}
	// From its first hello on the node is of the cluster that goes on, and refuses who is of the former one.
	return kept, reidentify(dir, func(id *Identity) {
		id.Cluster, id.Known, id.Founders, id.Recovering = c.ClusterID, nil, nil, false
	})
}

// reidentify changes the identity of dir, if there is one.
func reidentify(dir string, edit func(*Identity)) error {
	id, known, err := readIdentity(dir)
	if err != nil || !known {
		return err
	}
	edit(&id)
	return id.write(dir)
}

// recovering is the state machine whose snapshot has the operator's word applied.
type recovering struct {
	*fsm
	cmd cluster.Recover
}

// Snapshot gives the state that goes on.
func (r *recovering) Snapshot() (raft.FSMSnapshot, error) {
	next := *r.View()
	if out := apply(&next, r.cmd); out.refused != nil {
		return nil, out.refused
	}
	return &snapshot{view: &next}, nil
}

// offline is a store that no Raft runs on.
type offline struct {
	bolt    *raftboltdb.BoltStore
	files   *raft.FileSnapshotStore
	configs *configs
}

// openOffline looks at the whole store first, as Prepare does.
func openOffline(dir string) (*offline, error) {
	store := filepath.Join(dir, storeDir)
	used, err := inspect(store)
	if err != nil {
		return nil, err
	}
	if !used {
		return nil, fmt.Errorf("%s: %w", store, ErrNoState)
	}
	path := filepath.Join(store, logFile)
	s := &offline{}
	if s.bolt, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: time.Second}}); err != nil {
		return nil, fmt.Errorf("raft store %s: %w", path, err)
	}
	if s.files, err = raft.NewFileSnapshotStoreWithLogger(store, keptSnapshots, hclog.NewNullLogger()); err == nil {
		s.configs, _, _, err = loadConfigs(s.bolt, s.files)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raft store %s: %w", store, err), s.bolt.Close())
	}
	return s, nil
}

// replay brings a state machine to the end of the log.
func (s *offline) replay(f *fsm) (err error) {
	defer func() {
		if p := recover(); p != nil { // an entry of another version
			err = fmt.Errorf("raft log: %v", p)
		}
	}()
	snaps, err := s.files.List()
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	var from uint64
	if len(snaps) > 0 {
		_, r, err := s.files.Open(snaps[0].ID)
		if err != nil {
			return fmt.Errorf("raft snapshot %s: %w", snaps[0].ID, err)
		}
		if err := f.Restore(r); err != nil {
			return err
		}
		from = snaps[0].Index
	}
	last, err := s.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	for i := from + 1; i <= last; i++ {
		var l raft.Log
		if err := s.bolt.GetLog(i, &l); err != nil {
			return fmt.Errorf("raft log: entry %d: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			f.Apply(&l)
		}
	}
	return nil
}

// keepCopy copies the store of dir beside itself, with the node's identity in it.
func keepCopy(dir string) (kept string, err error) {
	store := filepath.Join(dir, storeDir)
	kept = fmt.Sprintf("%s.before-recover-%s", store, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.CopyFS(kept, os.DirFS(store)); err != nil {
		return "", fmt.Errorf("copy of %s: %w", store, err)
	}
	id, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(kept, identityFile), id, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("copy of %s: %w", identityFile, err)
	}
	if err := syncTree(kept); err != nil {
		return "", fmt.Errorf("copy of %s: %w", store, err)
	}
	return kept, syncDir(dir)
}

// syncTree makes all files and names under a directory durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path) // a file's fsync is the same call
	})
}

// Answering asks every member but this node, without a store or a listener, and says of each that answers and has a store how
// it stands to the cluster; one with an empty store only waits for whoever goes on. Only options of the channel are needed: Self, UID, Scope, Members and TLS.
func Answering(ctx context.Context, opt Options, view *cluster.View) map[cluster.NodeID]string {
	m := &mux{
		self: opt.Self, uid: opt.UID, scope: opt.Scope, clientTLS: opt.ClientTLS, dialTCP: dialer(opt), view: func() *cluster.View { return view },
		place: &place{self: opt.Self, uid: opt.UID}, names: &readmits{}, log: opt.Log, conns: map[*conn]struct{}{}, refusals: map[cluster.NodeID]string{}, began: time.Now(),
	}
	answers := map[cluster.NodeID]string{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(opt.Members)) {
		if name == opt.Self {
			continue
		}
		asked.Go(func() {
			a, err := m.ask(ctx, name, opt.Members[name], "")
			var refused *HelloError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.As(err, &refused):
				answers[name] = refused.Reason
			case err == nil && a.Standing == isMember:
				answers[name] = string(a.Standing)
			}
		})
	}
	asked.Wait()
	return answers
}
