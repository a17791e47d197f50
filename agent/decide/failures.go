package decide

import (
	"time"

	"pgquorum/cluster"
)

// The pauses between tries of one action: each is twice the one before.
const (
	FirstPause   = 50 * time.Millisecond
	LongestPause = 10 * time.Second
)

// MaxStarts is how often a restart in place, or a promotion, is tried before the key is given up.
const MaxStarts = 2

// PromotePause is how long a node whose promotions failed is no candidate, at least; it grows with each further failure.
// Without it, a cause that all nodes share, such as disks that fill, would make them take the key from each other many
// times a second until it is known.
const PromotePause = 2 * time.Second

// TakeOverPause is the longest that a step of a take-over rests: nobody writes meanwhile, and what made it fail may be mended.
const TakeOverPause = time.Second

// PauseAfter is how long an action that has failed is not tried again.
func PauseAfter(a Action, f Failures) time.Duration {
	n := f.InARow
	if a == StartPrimary || a == Promote && f.InTerm < MaxStarts { // the key is held: the next try is due soon, whatever happened in other terms
		n = f.InTerm
	}
	pause := min(FirstPause<<min(n-1, 8), LongestPause)
	switch a {
	case Barrier, AskStatus, AskPromises, HandBack, CatchUp, Transfer, Acquire:
		pause = min(pause, TakeOverPause)
	case Promote:
		if f.InTerm >= MaxStarts { // the node gives the key up: what failed is still there
			pause = max(pause, PromotePause)
		}
	}
	return pause
}

// NoCandidateFor is how long a node is no candidate for its promotions that failed, the next one not before at.
func NoCandidateFor(f Failures, at, now cluster.Instant) time.Duration {
	if f.InTerm < MaxStarts {
		return 0
	}
	return max(0, at.Sub(now))
}

// Failures is how often an action has failed: in a row, and of those in the newest term in which it did.
type Failures struct {
	InARow int
	Term   cluster.Term
	InTerm int
}

// Plus are the failures after one more, in a term.
func (f Failures) Plus(t cluster.Term) Failures {
	if f.Term != t {
		f.Term, f.InTerm = t, 0
	}
	f.InARow++
	f.InTerm++
	return f
}

// Failed is how often an action has failed in a row. A promotion and a start as primary have their own tries in each term:
// what failed in another may have been mended since.
func (o *Observation) Failed(a Action) int {
	f := o.Failures[a]
	switch {
	case a != Promote && a != StartPrimary:
		return f.InARow
	case f.Term != o.View.Key.Term:
		return 0
	}
	return f.InTerm
}
