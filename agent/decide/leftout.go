package decide

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgquorum/cluster"
)

// Away is how a node that promised cannot be had, and since when.
type Away struct {
	How   string
	Since cluster.Instant
}

// How a node is away.
const (
	awaySilent = "silent" // it did not answer when it was last asked
	awayDown   = "down"   // it answers, and its Postgres does not run
)

// AwayNow says how a node cannot be had now; empty: it can, or nobody has asked it yet.
func AwayNow(o *Observation, n cluster.NodeID) string {
	s, answered := statusOf(o, n)
	switch p := s.Postgres.State; {
	case silent(o, n):
		return awaySilent
	case answered && p != "" && p != cluster.PostgresRunning:
		return awayDown
	}
	return ""
}

// leftOut says whether a node that promised is not waited for any longer where the others suffice: it has been silent for a
// heartbeat timeout, or its Postgres down for primary_start_timeout.
func leftOut(o *Observation, n cluster.NodeID) bool {
	a, how := o.TakeOver.Away[n], AwayNow(o, n)
	if how == "" || a.How != how {
		return false
	}
	patience := o.Heartbeat
	if how == awayDown {
		patience = max(patience, o.View.Config.PrimaryStartTimeout)
	}
	return o.Now.Sub(a.Since) >= patience
}

// chosenAmong gives the promises that a choice is made with, and the choice. All in hand count as long as they leave a candidate.
// Where they leave none because a node that has most of the WAL is away, the others' do, if they satisfy every rule by
// themselves: as they would, had that node not promised. What it alone has was not acknowledged, or may be lost (mode off;
// ADR 0035). No more are left out than must be, those with most WAL first.
func chosenAmong(o *Observation) (map[cluster.NodeID]cluster.Promise, Choice) {
	q := inHand(o)
	all := among(o, q)
	if all.Missing == "" {
		return q, all
	}
	if _, missing := Satisfied(o.View, q); missing != "" { // fewer promises satisfy no more
		return q, all
	}
	away := slices.DeleteFunc(slices.Sorted(maps.Keys(q)), func(n cluster.NodeID) bool { return AwayNow(o, n) == "" })
	slices.SortStableFunc(away, func(a, b cluster.NodeID) int { return o.View.Forks.Compare(q[b].Position, q[a].Position) })
	rest, patient := maps.Clone(q), true
	for i, n := range away {
		delete(rest, n)
		patient = patient && leftOut(o, n)
		less := among(o, rest)
		switch {
		case less.Missing == "" && patient:
			return rest, less
		case less.Missing == "":
			return q, all
		case i == len(away)-1:
			all.Missing += fmt.Sprintf("; or, without %s: %s", strings.Join(namesOf(away), ", "), less.Missing)
		}
	}
	return q, all
}

func namesOf(nodes []cluster.NodeID) (names []string) {
	for _, n := range nodes {
		names = append(names, string(n))
	}
	return names
}
