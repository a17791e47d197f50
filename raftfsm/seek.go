package raftfsm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// The pauses between two rounds of questions: short at first, as all nodes of a new cluster start at about the same time.
const (
	firstAsk   = 50 * time.Millisecond
	longestAsk = time.Second
)

// seekPlace goes on until this node's store holds something: it bootstraps, or a leader has taken it in.
func (n *Node) seekPlace() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-n.ending:
			cancel()
		case <-stop:
		}
	}()
	applies := ""
	for pause := firstAsk; ctx.Err() == nil; pause = min(pause*3/2, longestAsk) {
		if n.hasPlace() {
			return
		}
		answers, silent := n.askAll(ctx, applies)
		v := judge(n.opt.Self, n.opt.UID, n.place.former(), n.opt.Members, answers, silent)
		if v.founders != nil && n.bootstrap(v.founders) {
			return
		}
		applies = ""
		if v.apply {
			applies = n.opt.Advertise
		}
		if v.waits != "" && n.place.tell(v.waits) {
			n.opt.Wake()
		}
		select {
		case <-ctx.Done():
		case <-n.place.wake:
		case <-time.After(pause):
		}
	}
}

// hasPlace says whether Raft has a configuration here, and keeps that it has.
func (n *Node) hasPlace() bool {
	if n.place.waiting() == "" {
		return true
	}
	if _, config := n.configs.latest(); len(config.Servers) == 0 {
		return false
	}
	if err := n.place.taken(); err != nil {
		n.opt.Log.Error("membership not recorded", "error", err)
		return false
	}
	n.opt.Log.Info("taken in as a member")
	n.opt.Wake()
	return true
}

// askAll asks every other initial member at once.
func (n *Node) askAll(ctx context.Context, apply string) (map[cluster.NodeID]helloAnswer, map[cluster.NodeID]error) {
	answers, silent := map[cluster.NodeID]helloAnswer{}, map[cluster.NodeID]error{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for name, addr := range n.opt.Members {
		if name == n.opt.Self {
			continue
		}
		asked.Go(func() {
			a, err := n.mux.ask(ctx, name, addr, apply)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[name] = err
				return
			}
			answers[name] = a
		})
	}
	asked.Wait()
	return answers, silent
}

// bootstrap writes the initial members' configuration into the empty store; every initial member writes the same. One
// that another has reached before, as a founder, has it from there.
func (n *Node) bootstrap(founders map[cluster.NodeID]cluster.UID) bool {
	if err := n.place.found(founders); err != nil {
		n.opt.Log.Error("no bootstrap", "error", err)
		return false
	}
	var c raft.Configuration
	for _, name := range slices.Sorted(maps.Keys(n.opt.Members)) {
		c.Servers = append(c.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(name), Address: raft.ServerAddress(n.opt.Members[name]),
		})
	}
	if err := n.raft.BootstrapCluster(c).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		n.opt.Log.Error("no bootstrap", "members", len(c.Servers), "error", err)
		return false
	}
	if err := n.place.taken(); err != nil {
		n.opt.Log.Error("membership not recorded", "error", err)
		return false
	}
	n.opt.Wake()
	return true
}
