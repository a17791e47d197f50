package cluster

import (
	"fmt"
	"slices"
	"time"
)

// LeaseParams are the numbers of the lease that AcquireLeader records (L4): how long it lasts, how much of its end is
// kept for fencing, and the bound on the rate error of any two clocks.
type LeaseParams struct {
	TTL    time.Duration `json:"ttl"`     // the lease, from the sending of the heartbeats that prove it
	Fence  time.Duration `json:"fence"`   // F, the budget of the fence: it starts at E - F
	RhoPPM int64         `json:"rho_ppm"` // rho, in parts per million

	// Watchdog is wd: how long after it was fed last the holder's watchdog has surely reset its machine, by the watchdog's
	// own clock; 0: no taker relies on one. Left out of the log where it is 0, as every node before it wrote it.
	Watchdog time.Duration `json:"watchdog,omitempty"`
}

// DefaultRhoPPM is the default bound on clock-rate error: 1 %.
const DefaultRhoPPM = 10_000

// MaxFence is the longest default fence budget.
const MaxFence = 100 * time.Millisecond

// MaxTTL is the longest lease: far beyond use, and far from where the arithmetic of Wait would overflow.
const MaxTTL = time.Hour

// DefaultLease gives the lease that follows from a heartbeat timeout (L7): ttl 0.8 h, F = min(100 ms, ttl/4), rho 1 %.
func DefaultLease(heartbeat time.Duration) LeaseParams {
	ttl := heartbeat * 8 / 10
	return LeaseParams{TTL: ttl, Fence: min(MaxFence, ttl/4), RhoPPM: DefaultRhoPPM}
}

// Wait is W, the time after which a holder whose lease was proven by heartbeats that were sent before it began is surely
// fenced, on every clock within rho: span·(1+rho)/(1-rho), rounded up. The span is ttl, and where a watchdog is recorded
// the later one at which that has fired: the guard feeds it for the last time before E - F, which is ttl - F after the
// heartbeats were sent (docs/adr/0028-watchdog.md).
func (p LeaseParams) Wait() time.Duration {
	span := p.TTL
	if p.Watchdog > 0 {
		span = max(span, p.TTL-p.Fence+p.Watchdog)
	}
	num, den := int64(1_000_000+p.RhoPPM), int64(1_000_000-p.RhoPPM)
	return time.Duration((int64(span)*num + den - 1) / den)
}

// Timings are the durations of Raft that bound a lease.
type Timings struct {
	Heartbeat   time.Duration // heartbeat timeout h; the election timeout is the same
	LeaderLease time.Duration // Raft's own leader lease timeout
	Transport   time.Duration // timeout of one Raft call
}

// DefaultTimings gives the durations that follow from a heartbeat timeout (L7).
func DefaultTimings(heartbeat time.Duration) Timings {
	ttl := DefaultLease(heartbeat).TTL
	return Timings{Heartbeat: heartbeat, LeaderLease: heartbeat * 9 / 10, Transport: ttl * 4 / 10}
}

// Check refuses numbers under which the lease would not be safe (L7), naming them.
func (p LeaseParams) Check(t Timings) error {
	switch {
	case p.TTL <= 0 || p.Fence <= 0 || p.RhoPPM < 0 || p.RhoPPM >= 500_000:
		return fmt.Errorf("lease: want ttl > 0, fence > 0 and 0 <= rho < 50 %%, have ttl %v, fence %v, rho %d ppm", p.TTL, p.Fence, p.RhoPPM)
	case p.TTL > MaxTTL:
		return fmt.Errorf("lease: lease_ttl %v must not exceed %v", p.TTL, MaxTTL)
	case p.Watchdog < 0 || p.Watchdog > MaxWatchdog:
		return fmt.Errorf("lease: what is recorded of the watchdog, %v, must be 0 to %v", p.Watchdog, MaxWatchdog)
	case p.Fence >= p.TTL/2:
		return fmt.Errorf("lease: fence budget %v must be under half of lease_ttl %v", p.Fence, p.TTL)
	case p.TTL >= t.LeaderLease:
		return fmt.Errorf("lease: lease_ttl %v must be under the leader lease timeout %v", p.TTL, t.LeaderLease)
	case t.LeaderLease > t.Heartbeat:
		return fmt.Errorf("lease: leader lease timeout %v must not exceed heartbeat_timeout %v", t.LeaderLease, t.Heartbeat)
	case t.Transport >= p.TTL/2:
		return fmt.Errorf("lease: transport timeout %v must be under half of lease_ttl %v", t.Transport, p.TTL)
	}
	return nil
}

// Lease is a holder's permission to run a primary. It belongs to (Term, RaftTerm) and ends by itself at End (L2).
type Lease struct {
	Term     Term    `json:"term"`
	RaftTerm uint64  `json:"raft_term"`
	End      Instant `json:"end"` // E, on this machine's clock; zero: none
}

// FencePoint is E - F: from here on the guard fences and /primary is 503 (L5). Zero when there is no lease.
func (l Lease) FencePoint(p LeaseParams) Instant {
	if l.End.IsZero() {
		return 0
	}
	return l.End.Add(-p.Fence)
}

// Live says whether now is before the fence point.
func (l Lease) Live(p LeaseParams, now Instant) bool {
	return !l.End.IsZero() && now.Before(l.FencePoint(p))
}

// Quorum is q for n voters: more than half.
func Quorum(n int) int { return n/2 + 1 }

// LeaseEnd computes E by L1: ttl after the q-th largest of the send times of the newest counted answer of each other
// voter, with now for self if it votes. sent holds the other voters' send times; a voter missing from it has answered
// nothing. ok is false while fewer than q have answered. An empty configuration proves nothing.
func LeaseEnd(ttl time.Duration, now Instant, self NodeID, voters []NodeID, sent map[NodeID]Instant) (end Instant, ok bool) {
	times := make([]Instant, 0, len(voters))
	for _, v := range voters {
		if v == self {
			times = append(times, now)
		} else if t := sent[v]; !t.IsZero() {
			times = append(times, t)
		}
	}
	q := Quorum(len(voters))
	if len(voters) == 0 || len(times) < q {
		return 0, false
	}
	slices.Sort(times)
	return times[len(times)-q].Add(ttl), true
}

// Attest is a voter's statement of how long ago it last acknowledged a node's heartbeat (L3), with the Raft term that
// it had persisted before it looked (K5).
type Attest struct {
	Voter    NodeID        `json:"voter"`
	Holder   NodeID        `json:"holder"`
	RaftTerm uint64        `json:"raft_term"`
	Age      time.Duration `json:"age"`
}

// LeaseSurelyOver says whether attests show that the holder's lease has ended on every clock (K5): at least N-q+1
// voters other than the holder attest an age >= W, each with a persisted Raft term >= r. Each configuration in
// configs (the latest, and while it is uncommitted the one before, L6) must be satisfied.
func LeaseSurelyOver(w time.Duration, r uint64, holder NodeID, configs [][]NodeID, attests map[NodeID]Attest) bool {
	if len(configs) == 0 {
		return false
	}
	for _, voters := range configs {
		old := 0
		for _, v := range voters {
			a, ok := attests[v]
			if v != holder && ok && a.Holder == holder && a.RaftTerm >= r && a.Age >= w {
				old++
			}
		}
		if len(voters) == 0 || old < len(voters)-Quorum(len(voters))+1 {
			return false
		}
	}
	return true
}
