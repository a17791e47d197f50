package decide

import (
	"time"

	"pgquorum/cluster"
)

// Observation is everything that a decision may depend on: plain values, gathered at one moment.
type Observation struct {
	Now     cluster.Instant
	Self    cluster.NodeID
	Node    cluster.Node // how this node should stand in the registry
	View    *cluster.View
	Raft    cluster.RaftStatus
	Voters  [][]cluster.NodeID // the configurations that count (L6)
	Members []cluster.NodeID   // the initial members of the node's file
	Barrier bool               // a Barrier of Raft.Term was applied here, as leader (K1)

	Lease      cluster.Lease // the newest E; zero Term: none
	LeaseState LeaseState
	Lapsed     Lapse           // the last lease that ran out in this process
	Answers    cluster.Instant // E as the answers of this Raft term give it now (L1), whether or not they count; zero: no quorum has answered
	SoftFence  bool            // a primary whose lease runs out is frozen, where the guard can (U6)

	Local    cluster.NodeStatus // this node's own status
	LookedAt cluster.Instant    // when the look at Postgres and its guard began that Local tells of
	Position cluster.Position   // last known end of valid WAL
	Promised cluster.Term
	Peers    map[cluster.NodeID]cluster.PeerView

	Began     cluster.Instant // when this agent began
	Heartbeat time.Duration
	Lease0    cluster.LeaseParams // what an acquisition by this node will record
	TakeOver  TakeOver
	Job       Job
	Retry     map[Action]cluster.Instant // not before, after failures
	Failures  map[Action]Failures
	Request   *Request
	UseRewind bool   // postgresql.use_pg_rewind
	Resume    bool   // a switchover did not come to pass: the same primary starts again (B1)
	Refused   string // why this node's data is not touched; empty: it may be

	Removed string // the source's refusal of the WAL that this node's data needs next; empty: none

	HolderHeard bool // the key's holder has answered a call of this node's Raft in the present Raft term

	Settled    bool                // the key is settled in this leader's Raft term (L6)
	Applicants []cluster.Applicant // who asks this node to be taken in

	DiskFenced      bool // the fence that Local.DiskFault asks for was ordered (B2)
	TransportClosed bool // Raft's transport is closed, for good (B2)

	ShortSince cluster.Instant // since when this node's disks are short of space; zero: they are not (B2)
	FullStops  int             // how often Postgres has ended here since then
	HoldsSince cluster.Instant // since when this node has held the key in its term; zero: it does not

	StandbyLackingSince cluster.Instant                    // holder: since when fewer than k of S can confirm; zero: they can
	DeniedSince         map[cluster.NodeID]cluster.Instant // holder: since when a node says that it does not stream from here, although its walsender has replies (S8)
	HeldSince           cluster.Instant                    // since when this node's data can follow nobody and counts in a rule; zero: not so
	StoppedSince        cluster.Instant                    // since when Postgres has been down; zero: it runs
	RuleProven          bool                               // the local list for the newest rule is in force
}

// LeaseState says where the holder's lease stands in this process (L2).
type LeaseState int

// The states of a lease.
const (
	LeaseNone  LeaseState = iota // not this node's, or ended: only a new acquisition helps
	LeaseFresh                   // acquired in this Raft term, no quorum of answers yet
	LeaseLive                    // before its fence point
)

// Lapse is a lease that ran out: nobody took it back.
type Lapse struct {
	Term cluster.Term // 0: none
	At   cluster.Instant
}

// Job is the one long action that may run beside the loop.
type Job struct {
	Action  Action // empty: none
	Reason  Reason
	Started cluster.Instant
}

// Request is an operator's switchover that this node has accepted.
type Request struct {
	cluster.SwitchoverRequest
	Reason  string
	Leaving bool // the agent is stopping: this node must not be chosen
}

// TakeOver is what a Raft leader has gathered for taking the key at Term in RaftTerm. Nothing in it outlives either,
// but promises, which are bound to Term alone (K6).
type TakeOver struct {
	RaftTerm   uint64
	Term       cluster.Term    // T+1
	Began      cluster.Instant // when this node began to gather
	BarrierAt  cluster.Instant
	Statuses   map[cluster.NodeID]cluster.NodeStatus // answers of this Raft term
	Silent     map[cluster.NodeID]string             // asked, no answer: why
	AskedAt    cluster.Instant                       // status; zero: not yet
	PromisedAt cluster.Instant                       // promises asked; zero: not yet
	RoundAt    cluster.Instant                       // the last round of promises ended; zero: none has
	Promises   map[cluster.NodeID]cluster.Promise
	Away       map[cluster.NodeID]Away // of those that promised
	NoPromise  map[cluster.NodeID]string
	Attests    map[cluster.NodeID]cluster.Attest
	FencedAt   cluster.Term    // the holder's guard has answered fenced for this term
	Came       bool            // leadership came with what a former leader had gathered (K6)
	Hops       int             // how often leadership was handed on for this acquisition, or tried to be
	CatchUps   int             // how many catch-ups have failed
	HandedAt   cluster.Instant // when that was last; zero: never
}

// leads says whether this node is Raft leader and has passed its Barrier.
func (o *Observation) leads() bool { return o.Raft.State == cluster.RaftLeader && o.Barrier }

// holds says whether the key names this node, unreleased, in the term of a live lease.
func (o *Observation) holds() bool {
	k := o.View.Key
	return k.Holder == o.Self && !k.Released && o.LeaseState == LeaseLive && o.Lease.Term == k.Term &&
		o.Lease.Live(k.Lease, o.Now)
}

// acquiring says whether this node acquired the key and waits for its first quorum of answers.
func (o *Observation) acquiring() bool {
	k := o.View.Key
	return k.Holder == o.Self && !k.Released && o.LeaseState == LeaseFresh && o.Lease.Term == k.Term
}

// me is this node's present life, as its own disk has it.
func (o *Observation) me() (cluster.Member, bool) {
	inc := o.Local.Postgres.Incarnation
	return cluster.Member{Node: o.Self, Incarnation: inc}, inc != ""
}

// retryAfter says when a failed action may be tried again; zero: now.
func (o *Observation) retryAfter(a Action) cluster.Instant {
	if t := o.Retry[a]; o.Now.Before(t) {
		return t
	}
	return 0
}
