package integration

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Outcome is what a client knows of an operation after its answer.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // it took effect between its call and its answer
	Failed  Outcome = "fail"    // it took no effect and never will
	Unknown Outcome = "unknown" // it may have taken effect at any time after its call, or may yet, or never
)

// Call is what all operations have in common. Times count from the beginning of the run.
type Call struct {
	ID       int64         `json:"id"`
	Client   string        `json:"client"`
	Node     string        `json:"node"`               // that the session stood to
	Timeline uint32        `json:"timeline,omitempty"` // that the node wrote to; 0: it did not get to say
	Start    time.Duration `json:"start"`
	End      time.Duration `json:"end"`
	Outcome  Outcome       `json:"outcome"`
	Err      string        `json:"err,omitempty"`
}

// finalClient is the name under which the run itself reads what is left when all clients have stopped.
const finalClient = "final"

// on notes the timeline, as presentTimeline gives it.
func (c *Call) on(timeline string) {
	if number, err := strconv.ParseUint(timeline, 16, 32); err == nil { // else it stays unknown, which is a violation
		c.Timeline = uint32(number)
	}
}

func (c Call) String() string {
	return fmt.Sprintf("%d by %s to %s at %.3f-%.3f s, %s", c.ID, c.Client, c.Node, c.Start.Seconds(), c.End.Seconds(), c.Outcome)
}

func (c Call) call() Call { return c }

// operation is one of any workload.
type operation interface {
	call() Call
	reads() bool // it changes nothing
}

// outcomeOf says what an error of the statement that commits leaves known. Before that statement was sent, nothing can
// have been committed, whatever the error.
//
// An error at level ERROR is sent by a backend that has rolled back and lives on: nothing after the commit record is an
// ERROR. FATAL, a lost connection and a client's own deadline say nothing: the commit record may be on disk. Neither does
// pgconn.SafeToRetry: pgx 5.12 says so of a connection that it lost while it read the answer to a COMMIT ("conn closed").
// Source: RecordTransactionCommit, src/backend/access/transam/xact.c: a critical section makes any error a PANIC.
func outcomeOf(err error, committing bool) Outcome {
	var server *pgconn.PgError
	switch {
	case err == nil:
		return OK
	case !committing:
		return Failed
	case errors.As(err, &server) && server.Severity == "ERROR":
		return Failed
	}
	return Unknown
}

// ChaosOps are all operations of a run, by workload.
type ChaosOps struct {
	mu        sync.Mutex
	Inserts   []InsertOp   `json:"inserts"`
	Txns      []Txn        `json:"txns"`
	Bank      []BankOp     `json:"bank"`
	Registers []RegisterOp `json:"registers"`
}

// InsertOp puts one number into a set.
type InsertOp struct{ Call }

func (InsertOp) reads() bool { return false }

// record keeps one operation.
func record[T any](o *ChaosOps, list *[]T, op T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*list = append(*list, op)
}

// calls gives the calls of each workload.
func (o *ChaosOps) calls() map[string][]Call {
	o.mu.Lock()
	defer o.mu.Unlock()
	return map[string][]Call{
		"set":       callsOf(o.Inserts),
		"append":    callsOf(o.Txns),
		"bank":      callsOf(o.Bank),
		"registers": callsOf(o.Registers),
	}
}

func callsOf[T operation](ops []T) []Call {
	calls := make([]Call, len(ops))
	for i, op := range ops {
		calls[i] = op.call()
	}
	return calls
}

// Violation is something that must not be.
type Violation struct {
	Check string        `json:"check"`
	At    time.Duration `json:"at"` // about when; 0: not at one moment
	Text  string        `json:"text"`
}

func (v Violation) String() string { return v.Check + ": " + v.Text }
