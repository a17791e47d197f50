package raftfsm

import (
	"sync"

	"github.com/hashicorp/raft"
)

// watcher wakes the agent at each change of leadership. It is the one consumer of Raft's LeaderCh, which keeps only
// the newest value: a loss and a new election may look like nothing. So what it sees is a reason to look again, never
// the state itself; the state is asked of Raft.
type watcher struct {
	raft     *raft.Raft
	observer *raft.Observer
	seen     chan raft.Observation
	done     chan struct{}
	work     sync.WaitGroup
}

// watchLeadership begins to watch: this node's own leadership, and who else leads.
func watchLeadership(r *raft.Raft, opt Options) *watcher {
	w := &watcher{raft: r, seen: make(chan raft.Observation, 1), done: make(chan struct{})}
	w.observer = raft.NewObserver(w.seen, false, func(o *raft.Observation) bool {
		_, leader := o.Data.(raft.LeaderObservation)
		_, state := o.Data.(raft.RaftState)
		return leader || state
	})
	r.RegisterObserver(w.observer)
	w.work.Go(func() { w.run(opt) })
	return w
}

func (w *watcher) run(opt Options) {
	var leader raft.ServerID
	for {
		select {
		case <-w.raft.LeaderCh():
		case <-w.seen:
		case <-w.done:
			return
		}
		if _, now := w.raft.LeaderWithID(); now != leader {
			leader = now
			opt.Log.Info("raft leader changed", "leader", string(leader), "raft_term", w.raft.CurrentTerm())
		}
		opt.Wake()
	}
}

// stop ends the watch.
func (w *watcher) stop() {
	w.raft.DeregisterObserver(w.observer)
	close(w.done)
	w.work.Wait()
}
