package integration

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// finish reads what every node holds, once all have replayed it, and runs all checks.
func (r *chaosRun) finish(ctx context.Context) error {
	kept, err := r.readAll(ctx)
	if err != nil {
		r.violate(Violation{"final read", r.now(), err.Error()})
	}
	r.log.Events = r.lastEvents(ctx)
	r.stale = append(r.stale, unsettled(r.log.Events, r.began)...)
	for _, h := range r.hosts {
		h.mu.Lock()
		r.log.Exits = append(r.log.Exits, h.exits...)
		h.mu.Unlock()
	}
	for _, c := range r.checks(ctx, kept) {
		found, result := c.run()
		for _, v := range found {
			r.violate(v)
		}
		r.log.Checks = append(r.log.Checks, CheckResult{c.name, c.bound, result, len(found)})
	}
	r.log.Samples, _ = r.sampler.Samples()
	return nil
}

// readAll reads the primary's tables, adds them to the histories as reads that came after everything, and reads each
// standby's when it has replayed all that the primary had.
func (r *chaosRun) readAll(ctx context.Context) (kept []Kept, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	p, err := r.cluster.Primary(ctx)
	if err != nil {
		return nil, err
	}
	var end string
	if end, err = r.cluster.scan(ctx, p, "SELECT pg_current_wal_lsn()::text"); err != nil {
		return nil, err
	}
	for _, h := range append([]*Host{p}, r.cluster.Others(p)...) {
		if h != p {
			err := until(ctx, 50*time.Millisecond, func() error {
				behind, err := r.cluster.scan(ctx, h, "SELECT (pg_last_wal_replay_lsn() < '"+end+"')::text")
				if err == nil && behind != "false" {
					err = fmt.Errorf("%s: has not replayed %s", h.Name, end)
				}
				return err
			})
			if err != nil {
				return kept, err
			}
		}
		k := Kept{Node: h.Name, Primary: h == p}
		if err := r.readNode(ctx, h, &k); err != nil {
			return kept, err
		}
		kept = append(kept, k)
	}
	return kept, nil
}

func (r *chaosRun) readNode(ctx context.Context, h *Host, k *Kept) error {
	conn, err := connect(ctx, r.cluster.client, dsn("app", "", h.Addr, 5432))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if k.Inserts, err = readSet(ctx, conn, "SELECT id FROM writes"); err != nil {
		return err
	}
	if k.Ledger, err = readSet(ctx, conn, "SELECT id FROM ledger"); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT balance FROM accounts ORDER BY id")
	if err != nil {
		return err
	}
	if k.Balances, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return err
	}
	start := r.now()
	if k.Lists, err = readAllLists(ctx, conn); err != nil || !k.Primary {
		return err
	}
	ops := &r.load.Ops
	last := Txn{Call: Call{ID: r.load.ids.Add(1), Client: finalClient, Node: h.Name, Start: start, End: r.now(), Outcome: OK}}
	for key, list := range k.Lists {
		last.Steps = append(last.Steps, ListStep{Key: key, List: list})
	}
	record(ops, &ops.Txns, last)
	return r.readRegisters(ctx, conn, h)
}

func readSet(ctx context.Context, conn *pgx.Conn, query string) (map[int64]bool, error) {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	set := make(map[int64]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set, err
}

func readAllLists(ctx context.Context, conn *pgx.Conn) (map[int][]int64, error) {
	rows, err := conn.Query(ctx, "SELECT k, v FROM lists")
	if err != nil {
		return nil, err
	}
	lists := map[int][]int64{}
	var key int
	var text string
	_, err = pgx.ForEachRow(rows, []any{&key, &text}, func() (err error) {
		lists[key], err = parseList(text)
		return err
	})
	return lists, err
}

// readRegisters adds each used register's final value to the history, as a read.
func (r *chaosRun) readRegisters(ctx context.Context, conn *pgx.Conn, h *Host) error {
	ops := &r.load.Ops
	call := Call{Client: finalClient, Node: h.Name, Start: r.now(), Outcome: OK}
	rows, err := conn.Query(ctx, "SELECT k, v FROM registers WHERE k BETWEEN 1 AND $1", 1+len(ops.Registers)/registerOps)
	if err != nil {
		return err
	}
	var finals []RegisterOp
	op := RegisterOp{Kind: "read"}
	if _, err := pgx.ForEachRow(rows, []any{&op.Key, &op.Old}, func() error { finals = append(finals, op); return nil }); err != nil {
		return err
	}
	call.End = r.now()
	for _, op := range finals {
		op.Call, op.ID = call, r.load.ids.Add(1)
		record(ops, &ops.Registers, op)
	}
	return nil
}

// check is one check of the whole run.
type check struct {
	name, bound string
	run         func() (found []Violation, result string)
}

// searchTime bounds the search for orders of all registers.
const searchTime = 2 * time.Minute

func (r *chaosRun) checks(ctx context.Context, kept []Kept) []check {
	ops := &r.load.Ops
	return []check{
		{"nothing acknowledged is lost", "every acknowledged insert, transfer and append, read on the final primary and on each standby that has replayed it", func() ([]Violation, string) {
			return r.checkKept(kept)
		}},
		{"lists are strictly serializable", "no cycle of dependencies, also in the order of time; no aborted, intermediate or contradictory read", func() ([]Violation, string) {
			txns, left := provenReads(ops.Txns, r.stale)
			r.log.Excluded += left
			return CheckAppend(txns), fmt.Sprintf("%d transactions, %d reads left out", len(txns), left)
		}},
		{"the bank's sum", fmt.Sprintf("each read of all balances sums to %d, none is below 0", accounts*initialBalance), func() ([]Violation, string) {
			bank, left := provenReads(ops.Bank, r.stale)
			r.log.Excluded += left
			return CheckBank(bank, accounts*initialBalance), fmt.Sprintf("%d operations, %d reads left out", len(bank), left)
		}},
		{"registers are linearizable", "porcupine finds an order for each register", func() ([]Violation, string) {
			registers, left := provenReads(ops.Registers, r.stale)
			r.log.Excluded += left
			return CheckRegisters(registers, searchTime), fmt.Sprintf("%d operations on %d registers, %d reads left out", len(registers), 1+len(registers)/registerOps, left)
		}},
		{"one primary acknowledges", "each acknowledged operation names node and timeline: no two nodes on one timeline, none begun on an older one after a newer one's first (P1)", func() ([]Violation, string) {
			return CheckTimelines(ops, r.stale)
		}},
		{"one primary is shown", "/primary is 200 on one node in a term, and never on an older term's after a newer one's", func() ([]Violation, string) {
			_, yes := r.sampler.Samples()
			return CheckShown(yes), fmt.Sprintf("%d answers 200, asked every %s", len(yes), samplePeriod)
		}},
		{"terms", "all events of the run, read while it ran: none is missing, the nodes tell the same, and the acquisitions' terms are 1, 2, 3 and so on", func() ([]Violation, string) {
			found, result := CheckTerms(r.log.Events)
			return append(r.events.Found(), found...), result
		}},
		{"timelines", "each was made once, and the nodes tell the same", func() ([]Violation, string) { return r.checkHistory(ctx) }},
		{"converges", fmt.Sprintf("within %s of the last fault: one primary, all others stream, k = k_full, one rule", settleTime), func() ([]Violation, string) {
			return nil, r.convergence() // noted where it happened
		}},
		{"Raft's log is compacted", fmt.Sprintf("after %d entries, on each node: a snapshot is there, and the log begins after entry 1", chaosSnapshots), func() ([]Violation, string) {
			return r.checkCompaction(ctx)
		}},
		{"nothing leaks", usageBounds(len(r.hosts)), r.checkUsage},
		{"nothing grows", growthBounds, r.checkGrowth},
	}
}

func (r *chaosRun) checkKept(kept []Kept) (found []Violation, result string) {
	initial := make([]int64, accounts)
	for i := range initial {
		initial[i] = initialBalance
	}
	for _, k := range kept {
		found = append(found, CheckSet(r.load.Ops.Inserts, k)...)
		found = append(found, CheckLedger(r.load.Ops.Bank, initial, k)...)
		if !k.Primary {
			found = append(found, CheckLists(kept[0], k)...)
		}
		result += fmt.Sprintf("%s: %d rows, %d transfers, %d lists; ", k.Node, len(k.Inserts), len(k.Ledger), len(k.Lists))
	}
	if len(kept) < len(r.hosts) {
		return found, result + "not all nodes could be read"
	}
	return found, result + "all nodes read"
}

func (r *chaosRun) convergence() string {
	var longest time.Duration
	for _, c := range r.log.Converged {
		longest = max(longest, c.Took)
	}
	return fmt.Sprintf("%d times, the longest took %.1f s", len(r.log.Converged), longest.Seconds())
}
