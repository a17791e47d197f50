package integration

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Fault is one fault as it was drawn. Whom it meets is drawn as a role, since who is primary then is not known: 0 is the
// primary, 1 and on are the standbys. So the same seed draws the same faults again, whatever the cluster makes of them.
type Fault struct {
	Kind   string        `json:"kind"`
	What   string        `json:"what,omitempty"` // the part of the node, or the shape of the partition
	Target int           `json:"target"`
	Peer   int           `json:"peer"` // of a link
	Length time.Duration `json:"length"`
	Amount int           `json:"amount,omitempty"` // ms of delay, percent of loss, seconds of a clock's jump
	Pick   float64       `json:"pick"`             // draws one of what is found then, such as a backend
}

// The kinds of faults.
const (
	faultKill        = "kill -9"
	faultPause       = "pause"
	faultCrash       = "host crash"
	faultCrashAll    = "all hosts crash"
	faultPartition   = "partition"
	faultSlow        = "slow wire"
	faultLossy       = "lossy wire"
	faultDiskHangs   = "disk hangs"
	faultDiskFull    = "disk full"
	faultReplay      = "replay paused"
	faultSwitchover  = "switchover"
	faultTerminate   = "agent restart"
	faultLoseData    = "data directory lost"
	faultLoseRaft    = "raft store lost"
	faultReplaced    = "host replaced" // both lost: an empty disk under the old name and address
	faultClockJumped = "clock jump"
)

// The parts of a node that are killed or paused.
const (
	partAgent         = "agent"
	partGuard         = "guard"
	partAgentAndGuard = "agent and guard"
	partPostmaster    = "postmaster"
	partPostgres      = "all of postgres"
	partBackend       = "one postgres process"
	partHost          = "the host"
)

// The shapes of a partition.
const (
	shapeFull     = "alone"             // nothing to and from it, clients included
	shapeNodes    = "from the nodes"    // clients still reach it: a split, where it is a minority
	shapeIn       = "nothing comes in"  // what it sends arrives
	shapeOut      = "nothing goes out"  // what is sent to it arrives
	shapeLink     = "one link"          // two nodes apart
	shapeLinkOne  = "one link, one way" // and one of them still hears the other
	shapeRing     = "ring"              // each hears its neighbours only; of three, each hears the next only
	shapeMinority = "majority/minority" // the smaller half, with the target in it, is apart from the larger
)

// drawn is a kind with its weight and what is drawn of it.
type drawn struct {
	kind   string
	weight int
	what   []string
	amount [2]int // from, to
	longer int    // how many times the usual length
}

var kinds = []drawn{
	{kind: faultKill, weight: 6, what: []string{partPostmaster, partAgent, partGuard, partBackend, partPostmaster, partBackend}},
	{kind: faultPause, weight: 5, what: []string{partAgent, partGuard, partAgentAndGuard, partPostgres, partPostmaster, partBackend, partHost, partHost}},
	{kind: faultCrash, weight: 4},
	{kind: faultCrashAll, weight: 1},
	{kind: faultPartition, weight: 7, what: []string{shapeFull, shapeFull, shapeNodes, shapeIn, shapeOut, shapeLink, shapeLinkOne, shapeRing, shapeMinority}},
	{kind: faultSlow, weight: 2, what: []string{"in", "out", "both"}, amount: [2]int{10, 600}},
	{kind: faultLossy, weight: 2, what: []string{"in", "out", "both"}, amount: [2]int{5, 50}},
	{kind: faultDiskHangs, weight: 2, longer: 2},
	{kind: faultDiskFull, weight: 2, longer: 2},
	{kind: faultReplay, weight: 1, longer: 2},
	{kind: faultSwitchover, weight: 4},
	{kind: faultTerminate, weight: 3},
	{kind: faultLoseData, weight: 1},
	{kind: faultLoseRaft, weight: 1},
	{kind: faultReplaced, weight: 1},
	{kind: faultClockJumped, weight: 2, amount: [2]int{-120, 120}},
}

// Step is one fault, or a pair of which the second begins inside the first's transition.
type Step struct {
	First    Fault         `json:"first"`
	Second   *Fault        `json:"second,omitempty"`
	OnChange bool          `json:"on_change,omitempty"` // the second begins when the primary changes, and After else
	After    time.Duration `json:"after,omitempty"`
	Converge bool          `json:"converge"` // wait for a whole cluster after it
	Rest     time.Duration `json:"rest"`     // then
}

// The lengths that are drawn, exponentially.
const (
	meanFault = 4 * time.Second
	minFault  = 200 * time.Millisecond
	maxFault  = 20 * time.Second
	meanRest  = 1500 * time.Millisecond
	maxRest   = 5 * time.Second
	maxAfter  = 2 * time.Second
)

// The chances that are drawn.
const (
	chancePair     = 0.4
	chanceOnChange = 0.4
	chanceConverge = 0.6
	chancePrimary  = 0.5
)

// Draw draws steps from a seed. Nothing of the run goes into it.
type Draw struct {
	rng   *rand.Rand
	nodes int
}

// NewDraw begins a draw for a cluster of so many nodes.
func NewDraw(seed uint64, nodes int) *Draw {
	return &Draw{rng: rand.New(rand.NewPCG(seed, 0)), nodes: nodes}
}

// loses says whether a node forgets with it what it has acknowledged: commits, or votes, entries and promises.
//
// In a step one host at most loses something, with the first fault or with the second of a pair, and the cluster is whole
// before the step and after it. So the cluster stays within what is promised, whatever the other fault is and whenever the
// loss comes, since what the other fault takes away is there again when it is over:
//
//   - Commits (P2). Before the step k is k_full, by one rule. k falls to 0 only with two data nodes (S5), and only the loss makes
//     one of three go. So what was acknowledged before the loss is on another node too: a rule is satisfied by its
//     primary (or a later one's) where a standby is lost, by all of its standbys where the primary is (C1), at the latest
//     when the other fault is over.
//   - Raft, of three nodes. The two stores that are left hold all that was committed, and whoever leads has the votes of
//     both. The lost votes are given by nobody again: the node comes back under a new uid, when those two have committed
//     its removal (docs/adr/0029). While the other fault keeps one of them away nothing is decided.
//
// Two losses are beyond it: one store of three commits no removal, and two data directories may be all that had a commit
// where k is 1. Nor may the next loss come before the cluster is whole: while a node is out, k may be 0.
func (f Fault) loses() bool {
	return f.Kind == faultLoseData || f.Kind == faultLoseRaft || f.Kind == faultReplaced
}

// loses says whether a host loses something in this step.
func (s Step) loses() bool { return s.First.loses() || s.Second != nil && s.Second.loses() }

// Next draws the next step.
func (d *Draw) Next() Step {
	s := Step{First: d.fault(true)}
	pair := d.rng.Float64() < chancePair
	second := d.fault(!s.First.loses())
	if pair {
		s.Second = &second
		s.OnChange = d.rng.Float64() < chanceOnChange
		s.After = time.Duration(d.rng.Float64() * float64(maxAfter))
	}
	s.Converge = d.rng.Float64() < chanceConverge || s.loses()
	s.Rest = d.exponential(meanRest, 0, maxRest)
	return s
}

func (d *Draw) exponential(mean, least, most time.Duration) time.Duration {
	return min(max(time.Duration(d.rng.ExpFloat64()*float64(mean)), least), most).Round(time.Millisecond)
}

// fault draws one; every draw takes the same numbers from the stream, whatever comes of it.
func (d *Draw) fault(mayLose bool) Fault {
	for {
		k := d.kind()
		f := Fault{Kind: k.kind, Length: d.exponential(meanFault*time.Duration(max(k.longer, 1)), minFault, maxFault), Pick: d.rng.Float64()}
		if d.rng.Float64() > chancePrimary {
			f.Target = 1 + d.rng.IntN(d.nodes-1)
		}
		f.Peer = (f.Target + 1 + d.rng.IntN(d.nodes-1)) % d.nodes
		if len(k.what) > 0 {
			f.What = k.what[d.rng.IntN(len(k.what))]
		}
		if k.amount != [2]int{} {
			f.Amount = k.amount[0] + d.rng.IntN(k.amount[1]-k.amount[0]+1)
		}
		if f.Kind == faultReplay && f.Target == 0 {
			f.Target, f.Peer = f.Peer, 0 // a primary replays nothing
		}
		if !f.loses() || mayLose {
			return f
		}
	}
}

func (d *Draw) kind() drawn {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	n := d.rng.IntN(sum)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("weights add up to less than their sum")
}

// String says what is done, to whom by role.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Kind)
	if f.What != "" {
		fmt.Fprintf(&b, " (%s)", f.What)
	}
	switch f.Kind {
	case faultSlow:
		fmt.Fprintf(&b, " %d ms", f.Amount)
	case faultLossy:
		fmt.Fprintf(&b, " %d %%", f.Amount)
	case faultClockJumped:
		fmt.Fprintf(&b, " by %+d s", f.Amount)
	}
	switch {
	case f.Kind == faultSwitchover && f.Target == 0:
		fmt.Fprintf(&b, " to %s", roleName(f.Peer))
	case f.Kind == faultSwitchover:
		fmt.Fprintf(&b, " to %s", roleName(f.Target))
	case f.Kind != faultCrashAll:
		fmt.Fprintf(&b, " of %s", roleName(f.Target))
	}
	if f.What == shapeLink || f.What == shapeLinkOne {
		fmt.Fprintf(&b, " and %s", roleName(f.Peer))
	}
	if !f.instant() {
		fmt.Fprintf(&b, ", %s", f.Length)
	}
	return b.String()
}

// instant says whether the fault is over when it has begun. Only an agent that was killed stays away.
func (f Fault) instant() bool {
	return f.Kind == faultSwitchover || f.Kind == faultKill && f.What != partAgent
}

func roleName(target int) string {
	if target == 0 {
		return "the primary"
	}
	return fmt.Sprintf("standby %d", target)
}
