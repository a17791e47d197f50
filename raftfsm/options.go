package raftfsm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"pgquorum/cluster"
)

// Options say who this node is in Raft, where it listens and where its state stands.
type Options struct {
	Self  cluster.NodeID
	UID   cluster.UID // as Prepare gave it
	Scope string

	Listen    string                    // raft.listen, host:port
	Advertise string                    // raft.advertise; empty: the listener's own address
	DataDir   string                    // raft.data_dir: the log is DataDir/raft/raft.db, snapshots are beside it
	Members   map[cluster.NodeID]string // initial members, name -> raft address; used only while the store is empty

	// Heartbeat is h, heartbeat_timeout. The election timeout is the same; Raft's leader lease and the timeout of one
	// Raft call follow from it (cluster.DefaultTimings).
	Heartbeat time.Duration

	// SnapshotThreshold is raft.snapshot_threshold: after so many entries a snapshot is written and the log before the last
	// so many is removed; 0: 4096.
	SnapshotThreshold int

	ServerTLS, ClientTLS *tls.Config // both or neither

	Clock cluster.Clock
	Log   *slog.Logger

	Wake     func() // called on every change of the FSM and of leadership; must not block; may be nil
	OnAnswer func() // called after each counted heartbeat answer; must not block; may be nil

	// Listener and Dial replace TCP, for tests and the simulation. Both may be nil.
	Listener net.Listener
	Dial     func(ctx context.Context, addr string) (net.Conn, error)

	// OpenStore replaces the file raft.db, for the simulation: what it gives is what a former life left. May be nil.
	OpenStore func(path string) (Store, error)

	// beforeAnswer is called on a heartbeat's receiver after Raft handled it and before the stamp (tests of L1 and K5).
	beforeAnswer func(sender cluster.NodeID)
}

// check refuses options that cannot work, naming them, and fills in what may be left out.
func (o *Options) check() error {
	switch {
	case o.Self == "" || o.UID == "" || o.Scope == "":
		return fmt.Errorf("raft options: want a node name, uid and scope, have %q, %q, %q", o.Self, o.UID, o.Scope)
	case o.DataDir == "":
		return errors.New("raft options: want raft.data_dir, have none")
	case o.Listen == "" && o.Listener == nil:
		return errors.New("raft options: want raft.listen, have none")
	case o.Clock == nil || o.Log == nil:
		return errors.New("raft options: want a clock and a log, have none")
	case (o.ServerTLS == nil) != (o.ClientTLS == nil):
		return errors.New("raft options: want TLS for both directions or for neither, have one")
	case len(o.Members) > 0 && o.Members[o.Self] == "":
		return fmt.Errorf("raft options: raft.members does not name this node %q", o.Self)
	case o.SnapshotThreshold < 0:
		return fmt.Errorf("raft options: want a snapshot threshold of entries, have %d", o.SnapshotThreshold)
	}
	if err := cluster.DefaultLease(o.Heartbeat).Check(cluster.DefaultTimings(o.Heartbeat)); err != nil {
		return fmt.Errorf("raft options: heartbeat_timeout %v: %w", o.Heartbeat, err)
	}
	if o.SnapshotThreshold == 0 {
		o.SnapshotThreshold = defaultSnapshotThreshold
	}
	if o.Wake == nil {
		o.Wake = func() {}
	}
	if o.OnAnswer == nil {
		o.OnAnswer = func() {}
	}
	if o.OpenStore == nil {
		o.OpenStore = OpenBolt
	}
	if o.beforeAnswer == nil {
		o.beforeAnswer = func(cluster.NodeID) {}
	}
	return nil
}
