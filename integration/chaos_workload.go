package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The workloads' tables, beside those of every scenario: writes is the set, registers has one row more for each register.
const chaosSchema = `CREATE TABLE lists (k int PRIMARY KEY, v text NOT NULL);
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE ledger (id bigint PRIMARY KEY, source int NOT NULL, target int NOT NULL, amount bigint NOT NULL);
INSERT INTO accounts SELECT i, 100 FROM generate_series(0, 7) i;
INSERT INTO registers SELECT i, 0 FROM generate_series(1, 99999) i`

// What the workloads work on. Lists and registers are left for new ones after a while: a list would grow, and an order of
// a register's operations be hard to find.
const (
	accounts       = 8
	initialBalance = 100
	openLists      = 6
	listAppends    = 40
	registerOps    = 150
)

// StartChaosLoad makes the tables and starts the clients: some that find the primary, and one on each host that goes to
// its own node, whom no cut keeps from a former primary.
func (c *Cluster) StartChaosLoad(ctx context.Context, seed uint64, hosts []*chaosHost, sampler *Sampler, clients *sync.WaitGroup) (*ChaosLoad, error) {
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	p, err := c.Primary(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, c.client, dsn("app", "", p.Addr, 5432))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, chaosSchema); err != nil {
		return nil, err
	}
	l := &ChaosLoad{c: c, sampler: sampler, now: sampler.now}
	start := func(name string, h *Host, patience time.Duration, steps ...func(*chaosClient, context.Context, *session) bool) {
		cl := &chaosClient{name: name, from: c.client, http: c.http, stick: h, patience: patience, load: l,
			rng: rand.New(rand.NewPCG(seed, uint64(len(name))<<32|uint64(name[len(name)-1])))}
		if h != nil {
			cl.from, cl.http = h.ns, &http.Client{Transport: &http.Transport{DialContext: h.ns.Dial, DisableKeepAlives: true}}
		}
		clients.Go(func() {
			cl.work(ctx, func(ctx context.Context, s *session) bool { return steps[cl.rng.IntN(len(steps))](cl, ctx, s) })
		})
	}
	for i, patience := range []time.Duration{chaosPatience, chaosHurry, chaosHurry} {
		start(fmt.Sprintf("set-%d", i), nil, patience, (*chaosClient).insert)
		start(fmt.Sprintf("append-%d", i), nil, patience, (*chaosClient).lists)
		start(fmt.Sprintf("bank-%d", i), nil, patience, (*chaosClient).transfer, (*chaosClient).transfer, (*chaosClient).balances)
		start(fmt.Sprintf("register-%d", i), nil, patience, (*chaosClient).register)
	}
	for _, h := range hosts {
		start("inside-"+h.Name, h.Host, chaosHurry, (*chaosClient).insert, (*chaosClient).lists, (*chaosClient).transfer, (*chaosClient).balances, (*chaosClient).register)
	}
	return l, nil
}

// insert puts a number into the set.
func (cl *chaosClient) insert(ctx context.Context, s *session) bool {
	call, ctx, cancel := cl.begin(ctx, s)
	defer cancel()
	op := InsertOp{Call: call}
	var addr, timeline string
	err := s.QueryRow(ctx, insert, op.ID).Scan(&addr, &timeline)
	op.on(timeline)
	good := cl.end(&op.Call, err, true)
	record(&cl.load.Ops, &cl.load.Ops.Inserts, op)
	return good
}

// listKeys hands out the lists that are open for appends.
type listKeys struct {
	mu   sync.Mutex
	left map[int]int // appends
	next int
}

// key draws an open list; an append uses it up a little.
func (k *listKeys) key(rng *rand.Rand, appended bool) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left == nil {
		k.left = map[int]int{}
	}
	for len(k.left) < openLists {
		k.left[k.next] = listAppends
		k.next++
	}
	open := make([]int, 0, openLists)
	for key := range k.left {
		open = append(open, key)
	}
	slices.Sort(open)
	key := open[rng.IntN(len(open))]
	if appended {
		if k.left[key]--; k.left[key] == 0 {
			delete(k.left, key)
		}
	}
	return key
}

// lists runs a transaction of some reads and appends; one of three only reads.
func (cl *chaosClient) lists(ctx context.Context, s *session) bool {
	steps := make([]ListStep, 1+cl.rng.IntN(4))
	readOnly := cl.rng.IntN(3) == 0
	text := beginSerializable
	for i := range steps {
		step := &steps[i]
		step.Append = !readOnly && cl.rng.IntN(2) == 0
		step.Key = cl.load.lists.key(cl.rng, step.Append)
		if step.Append {
			step.Value = cl.load.ids.Add(1)
			text += fmt.Sprintf("; INSERT INTO lists VALUES (%d, '%d') ON CONFLICT (k) DO UPDATE SET v = lists.v || ' ' || excluded.v", step.Key, step.Value)
		} else {
			text += fmt.Sprintf("; SELECT v FROM lists WHERE k = %d", step.Key)
		}
	}
	call, ctx, cancel := cl.begin(ctx, s)
	defer cancel()
	op := Txn{Call: call, Steps: steps}
	results, committing, err := s.transaction(ctx, &op.Call, text)
	if err == nil {
		err = readLists(steps, results[1:])
	}
	good := cl.end(&op.Call, err, committing)
	record(&cl.load.Ops, &cl.load.Ops.Txns, op)
	return good
}

func readLists(steps []ListStep, results []*pgconn.Result) error {
	if len(results) != len(steps) {
		return fmt.Errorf("want %d results, have %d", len(steps), len(results))
	}
	for i, r := range results {
		if steps[i].Append || len(r.Rows) == 0 {
			continue
		}
		list, err := parseList(string(r.Rows[0][0]))
		if err != nil {
			return err
		}
		steps[i].List = list
	}
	return nil
}

func parseList(text string) (list []int64, err error) {
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// transfer moves money if there is enough, and notes it in the ledger.
func (cl *chaosClient) transfer(ctx context.Context, s *session) bool {
	call, ctx, cancel := cl.begin(ctx, s)
	defer cancel()
	from := cl.rng.IntN(accounts)
	op := BankOp{Call: call, From: from, To: (from + 1 + cl.rng.IntN(accounts-1)) % accounts, Amount: 1 + cl.rng.Int64N(20)}
	_, committing, err := s.transaction(ctx, &op.Call,
		fmt.Sprintf("%s; SELECT balance FROM accounts WHERE id IN (%d, %d)", beginSerializable, op.From, op.To),
		fmt.Sprintf(`UPDATE accounts SET balance = balance - %[3]d WHERE id = %[1]d; UPDATE accounts SET balance = balance + %[3]d WHERE id = %[2]d;
			INSERT INTO ledger VALUES (%[4]d, %[1]d, %[2]d, %[3]d)`, op.From, op.To, op.Amount, op.ID))
	good := cl.end(&op.Call, err, committing)
	record(&cl.load.Ops, &cl.load.Ops.Bank, op)
	return good
}

// balances reads all accounts, one after another, in one transaction.
func (cl *chaosClient) balances(ctx context.Context, s *session) bool {
	text := beginSerializable
	for i := range accounts {
		text += fmt.Sprintf("; SELECT balance FROM accounts WHERE id = %d", i)
	}
	call, ctx, cancel := cl.begin(ctx, s)
	defer cancel()
	op := BankOp{Call: call}
	results, committing, err := s.transaction(ctx, &op.Call, text)
	for i := 1; i < len(results) && err == nil; i++ {
		var n int64
		if len(results[i].Rows) != 1 {
			err = fmt.Errorf("account %d: want one row, have %d", i-1, len(results[i].Rows))
		} else if n, err = strconv.ParseInt(string(results[i].Rows[0][0]), 10, 64); err == nil {
			op.Balances = append(op.Balances, n)
		}
	}
	good := cl.end(&op.Call, err, committing)
	record(&cl.load.Ops, &cl.load.Ops.Bank, op)
	return good
}

// replace gives the old value and stores the new one over the one that is wanted; the row lock makes it atomic.
const replace = `WITH old AS (SELECT v FROM registers WHERE k = $1 FOR UPDATE)
UPDATE registers SET v = CASE WHEN old.v = $2 THEN $3 ELSE registers.v END FROM old WHERE k = $1 RETURNING old.v`

// register reads, writes or swaps the register that is in use now.
func (cl *chaosClient) register(ctx context.Context, s *session) bool {
	call, ctx, cancel := cl.begin(ctx, s)
	defer cancel()
	ops := &cl.load.Ops
	ops.mu.Lock()
	op := RegisterOp{Call: call, Key: 1 + len(ops.Registers)/registerOps}
	if n := len(ops.Registers); n > 0 && ops.Registers[n-1].Key == op.Key {
		op.Want = ops.Registers[n-1].Old
		if ops.Registers[n-1].Kind == "write" {
			op.Want = ops.Registers[n-1].New
		}
	}
	ops.mu.Unlock()
	var row pgx.Row
	switch cl.rng.IntN(3) {
	case 0:
		op.Kind, op.Want = "read", 0
		row = s.QueryRow(ctx, "SELECT v, "+presentTimeline+" FROM registers WHERE k = $1", op.Key)
	case 1:
		op.Kind, op.Want, op.New = "write", 0, op.ID
		row = s.QueryRow(ctx, exchange+", "+presentTimeline, op.Key, op.New)
	default:
		op.Kind, op.New = "cas", op.ID
		row = s.QueryRow(ctx, replace+", "+presentTimeline, op.Key, op.Want, op.New)
	}
	var timeline string
	err := row.Scan(&op.Old, &timeline)
	op.on(timeline)
	good := cl.end(&op.Call, err, true)
	record(ops, &ops.Registers, op)
	return good
}
