package api

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"pgquorum/cluster"
)

// stateWord gives Patroni's word for a Postgres state. A Postgres that does not answer is "unknown"
// there; one that the guard has frozen (U6) has no word there, and ours.
func stateWord(s cluster.PostgresState) string {
	switch s {
	case cluster.PostgresRunning, cluster.PostgresStarting, cluster.PostgresStopping, cluster.PostgresStopped, cluster.PostgresFrozen:
		return string(s)
	}
	return "unknown"
}

// stateNumbers are the numbers of Patroni's patroni_postgres_state; they never change.
// Source: class PostgresqlState, patroni/postgresql/misc.py.
var stateNumbers = map[string]float64{"running": 5, "starting": 6, "stopping": 11, "stopped": 12}

func stateNumber(s cluster.PostgresState) float64 {
	if n, ok := stateNumbers[stateWord(s)]; ok {
		return n
	}
	return -1
}

// roleWord gives Patroni's word for a Postgres role.
func roleWord(pg *cluster.PostgresStatus) string {
	switch {
	case pg.Role == cluster.RolePrimary:
		return "primary"
	case pg.Data == cluster.DataAbsent || pg.Data == cluster.DataNotCluster:
		return "uninitialized"
	}
	return "replica"
}

// timeForms are the forms in which PostgreSQL and Go write a moment.
var timeForms = []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999 -0700 MST"}

func parseTime(s string) (time.Time, bool) {
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// patroniTime writes a moment as Patroni does, and leaves text that is none as it is.
func patroniTime(s string) string {
	if t, ok := parseTime(s); ok {
		return t.Format("2006-01-02 15:04:05.000000-07:00")
	}
	return s
}

// epoch gives seconds since 1970, 0 for no moment.
func epoch(s string) float64 {
	if t, ok := parseTime(s); ok {
		return float64(t.UnixMicro()) / 1e6
	}
	return 0
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
