package pgctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgquorum/cluster"
)

// slotsFile lists, under the guard's directory, the slots that are ours on this node.
const slotsFile = "slots.json"

// EnsureSlots makes a physical slot for each of nodes but this one, on a primary or a standby, and drops our slots of
// nodes that are no longer named. Slots keep their place on standbys too, so that a promoted one still has the WAL
// that its siblings need; AdvanceSlots moves them there.
//
// Ours are named exactly like members, so a name alone does not tell them from an operator's. Ours is what stands in
// slots.json: each name is entered there, durably, before its slot is made, and an existing physical slot of a present
// member's name (from Patroni, or made by hand for it) becomes ours too. Nothing else is ever dropped, and an active
// slot neither.
func (p *Postgres) EnsureSlots(ctx context.Context, nodes []cluster.NodeID) error {
	p.slots.Lock()
	defer p.slots.Unlock()

	want := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n != p.opt.Self {
			want = append(want, SlotName(n))
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	ours, err := p.readOurSlots()
	if err != nil {
		return err
	}
	if err := p.writeOurSlots(ours, union(ours, want)); err != nil {
		return err
	}
	conn, err := p.superuserConn(ctx)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	defer closeConn(ctx, conn)
	have, err := readSlots(ctx, conn)
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	for _, name := range want {
		if err := makeSlot(ctx, conn, name, have); err != nil {
			return fmt.Errorf("slot %s: %w", name, err)
		}
	}
	kept, err := dropFormer(ctx, conn, ours, want, have)
	if err != nil {
		return err
	}
	return p.writeOurSlots(union(ours, want), kept)
}

// slot is one row of pg_replication_slots.
type slot struct {
	physical bool
	active   bool
	restart  cluster.LSN // oldest WAL kept; 0: none
	lost     bool        // its WAL was removed: it can never be used again
	pins     bool        // on a standby: it keeps an xmin that a user it once had asked for, on a primary of then
}

// readSlots reads all slots by name.
func readSlots(ctx context.Context, conn *pgx.Conn) (map[string]slot, error) {
	rows, err := conn.Query(ctx, `SELECT slot_name::text, slot_type = 'physical', active,
		coalesce(restart_lsn, '0/0')::text, coalesce(wal_status = 'lost', false),
		pg_is_in_recovery() AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL) FROM pg_replication_slots WHERE NOT temporary`)
	if err != nil {
		return nil, err
	}
	have := map[string]slot{}
	var name, restart string
	var s slot
	_, err = pgx.ForEachRow(rows, []any{&name, &s.physical, &s.active, &restart, &s.lost, &s.pins}, func() (err error) {
		s.restart, err = cluster.ParseLSN(restart)
		have[name] = s
		return err
	})
	return have, err
}

// makeSlot makes a slot that keeps WAL from now on. One that exists stays, except a lost one, one that never kept any WAL
// and could not be advanced, and on a standby one that pins an xmin: with hot_standby_feedback that would keep vacuum
// from its work on the primary, for nobody. Those are made anew when nobody uses them.
func makeSlot(ctx context.Context, conn *pgx.Conn, name string, have map[string]slot) error {
	if s, ok := have[name]; ok {
		if !s.physical {
			return errors.New("a logical slot has the name that this member's needs; drop it or rename the node")
		}
		if s.active || (!s.lost && s.restart != 0 && !s.pins) {
			return nil
		}
		if err := dropSlot(ctx, conn, name); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", name)
	if isSQLState(err, "42710") { // duplicate_object: another made it meanwhile
		return nil
	}
	return err
}

// dropFormer drops those of ours that are not wanted any more and gives what is ours afterwards.
func dropFormer(ctx context.Context, conn *pgx.Conn, ours, want []string, have map[string]slot) (kept []string, err error) {
	kept = want
	for _, name := range ours {
		s, exists := have[name]
		switch {
		case slices.Contains(want, name), !exists, !s.physical:
			continue
		case s.active:
			kept = union(kept, []string{name}) // tried again when its user has gone
			continue
		}
		err := dropSlot(ctx, conn, name)
		if isSQLState(err, "55006") { // object_in_use: its user came back
			kept = union(kept, []string{name})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("slot %s of a former member: %w", name, err)
		}
	}
	return kept, nil
}

// dropSlot drops a slot; one that is gone already is fine.
func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
	if isSQLState(err, "42704") { // undefined_object
		return nil
	}
	return err
}

// AdvanceSlots moves the slots of the named nodes forward on a standby, so that they keep what each still needs and no
// more. A slot never moves back, nor past what this standby has replayed; one in use, missing or lost is left alone.
func (p *Postgres) AdvanceSlots(ctx context.Context, to map[cluster.NodeID]cluster.LSN) error {
	p.slots.Lock()
	defer p.slots.Unlock()

	err := p.withConn(ctx, func(conn *pgx.Conn) error { return advanceSlots(ctx, conn, to) })
	if err != nil {
		return fmt.Errorf("slots: %w", err)
	}
	return nil
}

func advanceSlots(ctx context.Context, conn *pgx.Conn, to map[cluster.NodeID]cluster.LSN) error {
	have, err := readSlots(ctx, conn)
	if err != nil {
		return err
	}
	var failed []error
	for node, lsn := range to {
		name := SlotName(node)
		s, ok := have[name]
		if !ok || !s.physical || s.active || s.lost || s.restart == 0 || lsn <= s.restart {
			continue
		}
		_, err := conn.Exec(ctx, "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", name, lsn.String())
		if err != nil && !isSQLState(err, "55006") { // object_in_use: its user came back
			failed = append(failed, fmt.Errorf("slot %s: advance to %s: %w", name, lsn, err))
		}
	}
	return errors.Join(failed...)
}

// readOurSlots reads slots.json.
func (p *Postgres) readOurSlots() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(p.opt.GuardDir, slotsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(b, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("slots: list of ours: %w", err)
	}
	return names, nil
}

// writeOurSlots replaces slots.json when it changes.
func (p *Postgres) writeOurSlots(before, after []string) error {
	if slices.Equal(before, after) {
		return nil
	}
	if err := os.MkdirAll(p.opt.GuardDir, 0o700); err != nil {
		return fmt.Errorf("slots: list of ours: %w", err)
	}
	return writeDurable(filepath.Join(p.opt.GuardDir, slotsFile), after)
}

// union joins two lists of names, sorted and without repetition.
func union(a, b []string) []string {
	u := slices.Concat(a, b)
	slices.Sort(u)
	return slices.Compact(u)
}

// isSQLState says whether err is the server's error of that code.
func isSQLState(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}
