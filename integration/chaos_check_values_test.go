package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func call(id int64, start, end int, o Outcome) Call {
	return Call{ID: id, Client: "c", Node: "n1", Start: ms(start), End: ms(end), Outcome: o}
}

// What is known of an operation whose answer was an error.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection reset")
	tests := []struct {
		name       string
		err        error
		committing bool
		want       Outcome
	}{
		{"an answer", nil, true, OK},
		{"lost before the commit was sent", lost, false, Failed},
		{"lost in the commit", lost, true, Unknown},
		{"closed while the answer to the commit was read", pgconn.ErrConnClosed, true, Unknown},
		{"refused by the server", &pgconn.PgError{Severity: "ERROR", Code: "40001"}, true, Failed},
		{"ended while it waited for a standby", &pgconn.PgError{Severity: "FATAL", Code: "57P01"}, true, Unknown},
	}
	for _, tt := range tests {
		if got := outcomeOf(tt.err, tt.committing); got != tt.want {
			t.Errorf("%s: want %s, have %s", tt.name, tt.want, got)
		}
	}
}

func TestCheckSet(t *testing.T) {
	t.Parallel()
	ops := []InsertOp{{Call: call(1, 0, 5, OK)}, {Call: call(2, 0, 5, Failed)}, {Call: call(3, 0, 5, Unknown)}}
	tests := []struct {
		name string
		held map[int64]bool
		want string
	}{
		{"the acknowledged one", map[int64]bool{1: true}, ""},
		{"the unknown one too", map[int64]bool{1: true, 3: true}, ""},
		{"lost", map[int64]bool{3: true}, "set: lost"},
		{"a failed one", map[int64]bool{1: true, 2: true}, "set: phantom"},
		{"from nowhere", map[int64]bool{1: true, 9: true}, "set: phantom"},
	}
	for _, tt := range tests {
		if got := strings.Join(checksOf(CheckSet(ops, Kept{Node: "n1", Inserts: tt.held})), " "); got != tt.want {
			t.Errorf("%s: want %q, have %q", tt.name, tt.want, got)
		}
	}
}

func TestCheckLists(t *testing.T) {
	t.Parallel()
	primary := Kept{Node: "n1", Lists: map[int][]int64{1: {1, 2}}}
	if found := CheckLists(primary, Kept{Node: "n2", Lists: map[int][]int64{1: {1, 2}}}); len(found) > 0 {
		t.Errorf("the same lists: %v", found)
	}
	if found := CheckLists(primary, Kept{Node: "n2", Lists: map[int][]int64{1: {1}}}); len(found) != 1 {
		t.Errorf("a shorter list on the standby: want one violation, have %v", found)
	}
}

func TestCheckBank(t *testing.T) {
	t.Parallel()
	read := func(o Outcome, balances ...int64) []BankOp {
		return []BankOp{{Call: call(1, 0, 5, o), Balances: balances}}
	}
	tests := []struct {
		name string
		ops  []BankOp
		want string
	}{
		{"the sum", read(OK, 5, 15), ""},
		{"half of a transfer", read(OK, 5, 14), "bank: total"},
		{"below zero", read(OK, -1, 21), "bank: total"},
		{"a read that failed", read(Failed, 5), ""},
	}
	for _, tt := range tests {
		if got := strings.Join(checksOf(CheckBank(tt.ops, 20)), " "); got != tt.want {
			t.Errorf("%s: want %q, have %q", tt.name, tt.want, got)
		}
	}
}

func TestCheckLedger(t *testing.T) {
	t.Parallel()
	transfer := func(id int64, o Outcome) BankOp { return BankOp{Call: call(id, 0, 5, o), From: 0, To: 1, Amount: 3} }
	ops := []BankOp{transfer(1, OK), transfer(2, Failed), transfer(3, Unknown)}
	tests := []struct {
		name     string
		balances []int64
		ledger   map[int64]bool
		want     string
	}{
		{"as acknowledged", []int64{7, 13}, map[int64]bool{1: true}, ""},
		{"the unknown one too", []int64{4, 16}, map[int64]bool{1: true, 3: true}, ""},
		{"lost", []int64{10, 10}, nil, "bank: lost transfer"},
		{"a failed one", []int64{4, 16}, map[int64]bool{1: true, 2: true}, "bank: phantom transfer"},
		{"balances without their ledger", []int64{4, 16}, map[int64]bool{1: true}, "bank: balances"},
	}
	for _, tt := range tests {
		kept := Kept{Node: "n1", Balances: tt.balances, Ledger: tt.ledger}
		if got := strings.Join(checksOf(CheckLedger(ops, []int64{10, 10}, kept)), " "); got != tt.want {
			t.Errorf("%s: want %q, have %q", tt.name, tt.want, got)
		}
	}
}

func TestCheckRegisters(t *testing.T) {
	t.Parallel()
	write := func(c Call, value, old int64) RegisterOp {
		return RegisterOp{Call: c, Kind: "write", New: value, Old: old}
	}
	cas := func(c Call, want, value, old int64) RegisterOp {
		return RegisterOp{Call: c, Kind: "cas", Want: want, New: value, Old: old}
	}
	read := func(c Call, old int64) RegisterOp { return RegisterOp{Call: c, Kind: "read", Old: old} }
	tests := []struct {
		name string
		ops  []RegisterOp
		want string
	}{
		{"one after another", []RegisterOp{write(call(1, 0, 5, OK), 1, 0), cas(call(2, 6, 9, OK), 1, 2, 1), read(call(3, 10, 11, OK), 2)}, ""},
		{"a swap that did not match", []RegisterOp{write(call(1, 0, 5, OK), 1, 0), cas(call(2, 6, 9, OK), 7, 2, 1), read(call(3, 10, 11, OK), 1)}, ""},
		{"unknown and never seen", []RegisterOp{write(call(1, 0, 5, Unknown), 1, 0), read(call(2, 6, 9, OK), 0)}, ""},
		{"unknown and seen later", []RegisterOp{write(call(1, 0, 5, Unknown), 1, 0), read(call(2, 6, 9, OK), 0), read(call(3, 10, 11, OK), 1)}, ""},
		{"unknown, and seen by an unknown swap only", []RegisterOp{write(call(1, 0, 5, Unknown), 1, 0), write(call(2, 0, 5, Unknown), 2, 0),
			cas(call(3, 6, 9, Unknown), 1, 3, 0), cas(call(4, 10, 12, Unknown), 3, 4, 0), read(call(5, 20, 21, OK), 4)}, ""},
		{"an unknown swap over what is not there", []RegisterOp{write(call(1, 0, 5, OK), 1, 0), cas(call(2, 6, 9, Unknown), 7, 2, 0), read(call(3, 20, 21, OK), 2)}, "registers: not linearizable"},
		{"a stale read", []RegisterOp{write(call(1, 0, 5, OK), 1, 0), read(call(2, 6, 9, OK), 0)}, "registers: not linearizable"},
		{"lost after it was seen", []RegisterOp{write(call(1, 0, 5, Unknown), 1, 0), read(call(2, 6, 9, OK), 1), read(call(3, 10, 11, OK), 0)}, "registers: not linearizable"},
		{"two swaps over one value", []RegisterOp{cas(call(1, 0, 5, OK), 0, 1, 0), cas(call(2, 0, 5, OK), 0, 2, 0)}, "registers: not linearizable"},
		{"a failed write is seen", []RegisterOp{write(call(1, 0, 5, Failed), 1, 0), read(call(2, 6, 9, OK), 1)}, "registers: not linearizable"},
		{"another register", []RegisterOp{write(call(1, 0, 5, OK), 1, 0), {Call: call(2, 6, 9, OK), Key: 2, Kind: "read"}}, ""},
	}
	for _, tt := range tests {
		if got := strings.Join(checksOf(CheckRegisters(tt.ops, 10*time.Second)), " "); got != tt.want {
			t.Errorf("%s: want %q, have %q", tt.name, tt.want, got)
		}
	}
}
