package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// The peer channel's calls: JSON over HTTP over connections whose hello has said who is who (docs/protocol.md section 11).

type promiseRequest struct {
	Term     cluster.Term   `json:"term"`
	RaftTerm uint64         `json:"raft_term"`
	From     cluster.NodeID `json:"from"`
}

type attestRequest struct {
	Holder cluster.NodeID `json:"holder"`
}

// nudgeRequest makes a node look at the others now. From is given by a key's holder that asks for leadership (L9).
type nudgeRequest struct {
	From cluster.NodeID `json:"from,omitempty"`
}

// followRequest tells a standby whom to stream from before its own copy of the FSM says so. CatchUp: by the taker's
// order of the promised term (V1, C2); else the key names Source at Term and Timeline already. Position is where Source's
// WAL ended when it promised, known but for an acquisition in place: who has other WAL, or more, does not follow (S6).
type followRequest struct {
	Term     cluster.Term     `json:"term"`
	RaftTerm uint64           `json:"raft_term"`
	Source   cluster.NodeID   `json:"source"`
	Addr     string           `json:"addr"`
	CatchUp  bool             `json:"catch_up"`
	Timeline cluster.Timeline `json:"timeline,omitempty"`
	Position cluster.Position `json:"position"`
}

// handoverRequest travels ahead of a transfer of leadership (K6): promises may be used again, attests may not.
type handoverRequest struct {
	Term     cluster.Term                       `json:"term"`
	Promises map[cluster.NodeID]cluster.Promise `json:"promises"`
	Hops     int                                `json:"hops"`
	Wanted   cluster.NodeID                     `json:"wanted,omitempty"` // the candidate that an operator asked for
	Reason   string                             `json:"reason"`
}

// peerError is a peer's refusal, in its words.
type peerError struct {
	Peer   cluster.NodeID
	Call   string
	Status int
	Text   string
}

func (e *peerError) Error() string { return fmt.Sprintf("%s on %s: %s", e.Call, e.Peer, e.Text) }

// maxPeerAnswer bounds what is read from a peer, in bytes.
const maxPeerAnswer = 1 << 20

// peers calls the other nodes and remembers what they last said.
type peers struct {
	self      cluster.NodeID
	raft      Consensus
	heartbeat time.Duration
	clock     cluster.Clock
	log       *slog.Logger
	wake      func()
	http      *http.Client
	nudge     chan struct{}

	mu   sync.Mutex
	last map[cluster.NodeID]cluster.PeerView
}

func newPeers(self cluster.NodeID, raft Consensus, heartbeat time.Duration, clock cluster.Clock, log *slog.Logger, wake func()) *peers {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return raft.DialPeer(ctx, cluster.NodeID(host))
	}
	return &peers{
		self: self, raft: raft, heartbeat: heartbeat, clock: clock, log: log, wake: wake,
		http:  &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}},
		nudge: make(chan struct{}, 1),
		last:  map[cluster.NodeID]cluster.PeerView{},
	}
}

// deadline is that of a status or promise call (docs/protocol.md section 11).
func (p *peers) deadline() time.Duration { return p.heartbeat / 4 }

// call sends in (nil: a GET) and reads the answer into out (nil: none wanted).
func (p *peers) call(ctx context.Context, to cluster.NodeID, path string, in, out any) error {
	method, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s to %s: %w", path, to, err)
		}
		method, body = http.MethodPost, bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+string(to)+":0"+path, body)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", path, to, err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", path, to, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerAnswer))
	if err != nil {
		return fmt.Errorf("%s to %s: %w", path, to, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &peerError{Peer: to, Call: path, Status: resp.StatusCode, Text: strings.TrimSpace(string(data))}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s to %s: %w", path, to, err)
	}
	return nil
}

// others are all nodes that Raft or the registry knows, but this one.
func (p *peers) others() []cluster.NodeID {
	seen := map[cluster.NodeID]bool{p.self: true}
	var names []cluster.NodeID
	status := p.raft.Status()
	for _, list := range [][]cluster.NodeID{status.Voters, status.Nonvoters, p.raft.View().Names()} {
		for _, n := range list {
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return names
}

// poll keeps last fresh: once a second, and at once when nudged.
func (p *peers) poll(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var wg sync.WaitGroup
		for _, n := range p.others() {
			wg.Go(func() { p.look(ctx, n, statusKnown) })
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.nudge:
		}
	}
}

// The two ways to ask for a status: what the peer last saw, within a second, or what it sees when it looks now.
const (
	statusKnown = "/status"
	statusFresh = "/status/fresh"
)

// look asks one peer for its status and remembers the answer.
func (p *peers) look(ctx context.Context, n cluster.NodeID, call string) (cluster.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, p.deadline())
	defer cancel()
	var s cluster.NodeStatus
	err := p.call(ctx, n, call, nil, &s)
	p.mu.Lock()
	before := p.last[n]
	after := before
	if err != nil {
		after.Err = err.Error()
	} else {
		after = cluster.PeerView{Status: s, At: p.clock()}
	}
	p.last[n] = after
	p.mu.Unlock()
	if notable(before, after) {
		p.wake()
	}
	return s, err
}

// notable says whether a decision may depend on the difference.
func notable(a, b cluster.PeerView) bool {
	x, y := a.Status, b.Status
	return (a.Err == "") != (b.Err == "") || x.Promised != y.Promised || x.WantsOut != y.WantsOut || x.CanPromote != y.CanPromote || (decide.Short(x) == "") != (decide.Short(y) == "") || x.Stopping != y.Stopping || x.Guard.Frozen != y.Guard.Frozen ||
		x.Postgres.State != y.Postgres.State || x.Postgres.Role != y.Postgres.Role || x.Postgres.Data != y.Postgres.Data ||
		x.Postgres.Incarnation != y.Postgres.Incarnation || x.Postgres.Streaming != y.Postgres.Streaming || x.Postgres.Source != y.Postgres.Source
}

// views copies what the peers last said.
func (p *peers) views() map[cluster.NodeID]cluster.PeerView {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[cluster.NodeID]cluster.PeerView, len(p.last))
	for n, v := range p.last {
		out[n] = v
	}
	return out
}

// all runs f for every other node, in parallel, and waits for all or for ctx.
func (p *peers) all(f func(n cluster.NodeID)) {
	var wg sync.WaitGroup
	for _, n := range p.others() {
		wg.Go(func() { f(n) })
	}
	wg.Wait()
}
