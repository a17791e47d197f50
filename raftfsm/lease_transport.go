package raftfsm

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"pgquorum/cluster"
)

// leaseTransport is Raft's network transport, which also measures the lease on both sides: the sender counts answered
// heartbeats from before each was sent (L1), the receiver stamps each that it acknowledges (L3). It embeds the network
// transport so that pre-vote stays on. Addresses passed to the network transport name the node too ("n2\n10.0.0.2:7000"),
// so that a pooled connection belongs to the node that the hello has verified.
type leaseTransport struct {
	*raft.NetworkTransport
	advertise raft.ServerAddress
	clock     cluster.Clock
	stable    *stableStore
	answers   *answers
	acks      *acks
	progress  *progress
	onAnswer  func()
	before    func(sender cluster.NodeID)
	nameOf    func(addr string) cluster.NodeID

	rpcs   chan raft.RPC // what Raft consumes
	ending chan struct{}
	end    sync.Once
	pump   sync.WaitGroup
	shut   atomic.Bool
}

var (
	_ raft.Transport   = (*leaseTransport)(nil)
	_ raft.WithPreVote = (*leaseTransport)(nil)
	_ raft.WithClose   = (*leaseTransport)(nil)
)

// start begins to pass what peers send on to Raft.
func (t *leaseTransport) start() {
	t.rpcs, t.ending = make(chan raft.RPC), make(chan struct{})
	t.pump.Go(t.pass)
}

// Close closes the transport for good: no heartbeat goes out or is answered any more (B2).
func (t *leaseTransport) Close() error {
	var err error
	t.end.Do(func() {
		t.shut.Store(true)
		close(t.ending)
		err = t.NetworkTransport.Close()
		t.CloseStreams()
		t.pump.Wait()
	})
	return err
}

// LocalAddr is the address that peers know this node by.
func (t *leaseTransport) LocalAddr() raft.ServerAddress { return t.advertise }

// Consumer gives the calls of peers, without those that the heartbeat handler takes.
func (t *leaseTransport) Consumer() <-chan raft.RPC { return t.rpcs }

// isHeartbeat recognises a heartbeat as raft v1.8.0 does for its fast path (net_transport.go, handleCommand).
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// AppendEntries sends entries or a heartbeat. An answer to a heartbeat counts from before it was sent, if it says yes
// in the same Raft term (L1).
func (t *leaseTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.shut.Load() {
		return raft.ErrTransportShutdown
	}
	sent := t.clock()
	var answer raft.AppendEntriesResponse // Raft uses resp again and again; a decoder may leave what it finds no value for
	if err := t.NetworkTransport.AppendEntries(id, dialTarget(id, target), args, &answer); err != nil {
		return err
	}
	*resp = answer
	t.answered(cluster.NodeID(id), args, &answer, sent)
	return nil
}

// answered counts a peer's answer: a yes in the same Raft term (L1).
func (t *leaseTransport) answered(peer cluster.NodeID, args *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse, sent cluster.Instant) {
	t.progress.hear(peer, args.Term)
	if !answer.Success || answer.Term != args.Term {
		return
	}
	if !isHeartbeat(args) {
		t.progress.note(peer, args.Term, args.PrevLogEntry+uint64(len(args.Entries)))
	} else if t.answers.count(args.Term, peer, sent) {
		t.onAnswer()
	}
}

// RequestVote asks for a vote.
func (t *leaseTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.shut.Load() {
		return raft.ErrTransportShutdown
	}
	err := t.NetworkTransport.RequestVote(id, dialTarget(id, target), args, resp)
	if err == nil {
		t.progress.hear(cluster.NodeID(id), args.Term)
	}
	return err
}

// RequestPreVote asks whether a vote would be given.
func (t *leaseTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.shut.Load() {
		return raft.ErrTransportShutdown
	}
	return t.NetworkTransport.RequestPreVote(id, dialTarget(id, target), args, resp)
}

// InstallSnapshot sends a snapshot.
func (t *leaseTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.shut.Load() {
		return raft.ErrTransportShutdown
	}
	return t.NetworkTransport.InstallSnapshot(id, dialTarget(id, target), args, resp, data)
}

// TimeoutNow tells a node to start an election.
func (t *leaseTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if t.shut.Load() {
		return raft.ErrTransportShutdown
	}
	return t.NetworkTransport.TimeoutNow(id, dialTarget(id, target), args, resp)
}

// SetHeartbeatHandler takes Raft's handler for heartbeats, which answers them without the disk.
func (t *leaseTransport) SetHeartbeatHandler(handler func(raft.RPC)) {
	if handler == nil {
		t.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) { t.heartbeat(rpc, handler) })
}

// heartbeat handles a heartbeat on the fast path. Raft's handler answers before it returns, or not at all while it
// shuts down; then the sender gets no answer either.
func (t *leaseTransport) heartbeat(rpc raft.RPC, handler func(raft.RPC)) {
	args, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok {
		handler(rpc)
		return
	}
	end, ok := t.acks.begin()
	if !ok {
		return
	}
	defer end()
	answer := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answer
	if !t.stable.handle(args.Term, func() { handler(inner) }) {
		t.refuse(rpc)
		return
	}
	select {
	case r := <-answer:
		t.hand(args, rpc, r)
	default:
	}
}

// pass hands what peers send to Raft; heartbeats that come before Raft has set its handler are measured here (L3).
func (t *leaseTransport) pass() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if args, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && isHeartbeat(args) {
				t.passHeartbeat(args, rpc)
				continue
			}
			select {
			case t.rpcs <- rpc:
			case <-t.ending:
				return
			}
		case <-t.ending:
			return
		}
	}
}

// passHeartbeat hands a heartbeat to Raft's main loop and measures its answer.
func (t *leaseTransport) passHeartbeat(args *raft.AppendEntriesRequest, rpc raft.RPC) {
	end, ok := t.acks.begin()
	if !ok {
		return
	}
	if args.Term < t.stable.Term() {
		t.refuse(rpc)
		end()
		return
	}
	answer := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answer
	select {
	case t.rpcs <- inner:
	case <-t.ending:
		end()
		return
	}
	t.pump.Go(func() {
		defer end()
		select {
		case r := <-answer:
			t.hand(args, rpc, r)
		case <-t.ending:
		}
	})
}

// hand gives Raft's answer to the sender. Just before, a yes is stamped (L3).
func (t *leaseTransport) hand(args *raft.AppendEntriesRequest, rpc raft.RPC, r raft.RPCResponse) {
	sender := cluster.NodeID(args.ID)
	if sender == "" {
		sender = t.nameOf(string(args.Addr))
	}
	t.before(sender)
	if resp, ok := r.Response.(*raft.AppendEntriesResponse); ok && r.Error == nil && resp.Success {
		t.acks.stamp(sender)
	}
	rpc.Respond(r.Response, r.Error)
}

// refuse answers a heartbeat of a Raft term below the persisted one: no.
func (t *leaseTransport) refuse(rpc raft.RPC) {
	rpc.Respond(&raft.AppendEntriesResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
		Term:      t.stable.Term(),
	}, nil)
}

// inject gives Raft a call as if a peer had sent it, and waits for the answer.
func (t *leaseTransport) inject(ctx context.Context, command any) error {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.rpcs <- raft.RPC{Command: command, RespChan: answer}:
	case <-t.ending:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case r := <-answer:
		return r.Error
	case <-t.ending:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// targetSep stands between node and address in what the network transport takes for an address.
const targetSep = "\n"

func dialTarget(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + targetSep + string(addr))
}

// splitTarget gives the node that is asked for and its address.
func splitTarget(target raft.ServerAddress) (cluster.NodeID, string) {
	id, addr, _ := strings.Cut(string(target), targetSep)
	return cluster.NodeID(id), addr
}
