package pgctl

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"pgquorum/cluster"
)

// replyLimit is the age of a walsender's last reply up to which it counts as there: twice wal_receiver_status_interval,
// which pgquorum sets to 1 s (S8).
const replyLimit = 2 * time.Second

// Confirmed gives those of ms that have flushed WAL up to lsn of this primary's timeline t: the member's walsender streams through the member's own
// slot, has replied within 2 s, and is the only one of its name (S6, S8). duplicates are the application names of
// which there was a second walsender. Each one that is not on its member's own slot is ended, and its name confirms
// nothing this time, since PostgreSQL counted both: the caller raises an alarm and asks again.
func (p *Postgres) Confirmed(ctx context.Context, t cluster.Timeline, lsn cluster.LSN, ms []cluster.Member) (confirmed []cluster.Member, duplicates []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = p.withConn(ctx, func(conn *pgx.Conn) error {
		confirmed, duplicates = nil, nil
		senders, err := readSenders(ctx, conn)
		if err != nil {
			return err
		}
		p.sync.replies.fill(senders, p.opt.Clock())
		for _, m := range ms {
			own, others := splitSenders(senders, m, t)
			if len(others) > 0 {
				duplicates = append(duplicates, m.AppName(t))
				if err := endSenders(ctx, conn, others); err != nil {
					return err
				}
			} else if own != nil && own.confirms(lsn) {
				confirmed = append(confirmed, m)
			}
		}
		return nil
	})
	if err != nil {
		return nil, duplicates, fmt.Errorf("confirmed: %w", err)
	}
	return confirmed, duplicates, nil
}

// sender is one walsender, with the slot that it streams through.
type sender struct {
	pid     int32
	started time.Time // backend start, so that a reused pid is not taken for it
	appName string
	state   string
	slot    string // empty: none
	flushed cluster.LSN
	reply   *time.Time    // when the standby sent its last reply, by the standby's clock; nil: none yet
	seemed  time.Duration // now - reply by this server's clock, right only while both clocks agree
	age     time.Duration // since its last reply, as far as it can be told; negative: unknown
}

// confirms says whether this sender's standby has flushed up to lsn and is there.
func (s *sender) confirms(lsn cluster.LSN) bool {
	return s.state == "streaming" && s.flushed != 0 && s.flushed >= lsn && s.age >= 0 && s.age <= replyLimit
}

// counts says whether PostgreSQL counts this sender's confirmations (SyncRepGetCandidateStandbys). One that has only just
// connected does not, and has no slot yet either: it is no duplicate.
func (s *sender) counts() bool { return s.state == "streaming" || s.state == "stopping" }

// splitSenders picks the sender of m's name on timeline t on m's own slot, and every other one of that name that counts. PostgreSQL
// compares names without regard to case (pg_strcasecmp in SyncRepGetStandbyPriority), so a second writing counts as well.
func splitSenders(senders []sender, m cluster.Member, t cluster.Timeline) (own *sender, others []sender) {
	for i := range senders {
		s := &senders[i]
		switch {
		case !sameAppName(s.appName, m.AppName(t)):
		case s.slot == SlotName(m.Node): // a slot has one user at most
			own = s
		case s.counts():
			others = append(others, *s)
		}
	}
	return own, others
}

// sameAppName compares as PostgreSQL does: ASCII letters without case.
func sameAppName(a, b string) bool {
	lower := func(r byte) byte {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}
	return slices.EqualFunc([]byte(a), []byte(b), func(x, y byte) bool { return lower(x) == lower(y) })
}

// replyAges tells how old replies are without trusting the standbys' clocks: reply_time in pg_stat_replication is the
// standby's own, so only its changes say something for certain.
type replyAges struct {
	mu   sync.Mutex
	seen map[senderKey]replySeen
}

// senderKey is one walsender's life.
type senderKey struct {
	pid     int32
	started int64
}

// replySeen is a reply and when this process saw it first, or could tell that it was fresh.
type replySeen struct {
	reply time.Time
	at    cluster.Instant
	known bool // at is no earlier than the reply's coming and at most one look late
}

// fill sets the ages of all senders. A reply that differs from the one at the look before came since then. The first
// look at a sender has only the two clocks to go by: a reply that seems between 0 and replyLimit old is taken as that.
func (r *replyAges) fill(senders []sender, now cluster.Instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[senderKey]replySeen, len(senders))
	for i := range senders {
		s := &senders[i]
		s.age = -1
		if s.reply == nil {
			continue
		}
		key := senderKey{s.pid, s.started.UnixMicro()}
		before, had := r.seen[key]
		seen := before
		switch {
		case had && !before.reply.Equal(*s.reply):
			seen = replySeen{reply: *s.reply, at: now, known: true}
		case !had && s.seemed >= 0 && s.seemed <= replyLimit:
			seen = replySeen{reply: *s.reply, at: now.Add(-s.seemed), known: true}
		case !had:
			seen = replySeen{reply: *s.reply, at: now}
		}
		next[key] = seen
		if seen.known {
			s.age = now.Sub(seen.at)
		}
	}
	r.seen = next
}

// sendersQuery reads all walsenders with their physical slots, in one statement.
const sendersQuery = `
SELECT r.pid, r.backend_start, r.application_name, coalesce(r.state, ''), coalesce(s.slot_name::text, ''),
       coalesce(r.flush_lsn, '0/0')::text, r.reply_time,
       coalesce(extract(epoch FROM clock_timestamp() - r.reply_time), 0)::float8
FROM pg_stat_replication r
LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid AND s.slot_type = 'physical'`

// readSenders reads all walsenders; their ages are still to be filled in.
func readSenders(ctx context.Context, conn *pgx.Conn) ([]sender, error) {
	rows, err := conn.Query(ctx, sendersQuery)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sender, err error) {
		var flushed string
		var seemed float64
		if err := row.Scan(&s.pid, &s.started, &s.appName, &s.state, &s.slot, &flushed, &s.reply, &seemed); err != nil {
			return s, err
		}
		s.seemed = time.Duration(seemed * float64(time.Second))
		s.flushed, err = cluster.ParseLSN(flushed)
		return s, err
	})
}

// endSenders terminates walsenders, each only while its pid is still the same one.
func endSenders(ctx context.Context, conn *pgx.Conn, senders []sender) error {
	for _, s := range senders {
		const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE pid = $1 AND backend_start = $2`
		if _, err := conn.Exec(ctx, end, s.pid, s.started); err != nil {
			return fmt.Errorf("end second walsender %d of %s: %w", s.pid, s.appName, err)
		}
	}
	return nil
}
