package integration

import (
	"strings"
	"testing"
)

// Whatever the workload, an acknowledgement by a second primary is found, and what a failover looks like is not.
func TestCheckTimelines(t *testing.T) {
	t.Parallel()
	on := func(node string, timeline uint32, start, end int) Call {
		c := call(int64(start), start, end, OK)
		c.Node, c.Timeline = node, timeline
		return c
	}
	type history func(ops *ChaosOps, c Call)
	insertOp := func(ops *ChaosOps, c Call) { ops.Inserts = append(ops.Inserts, InsertOp{c}) }
	kinds := map[string]history{
		"insert":    insertOp,
		"append":    func(ops *ChaosOps, c Call) { ops.Txns = append(ops.Txns, Txn{Call: c, Steps: []ListStep{add(1, 1)}}) },
		"list read": func(ops *ChaosOps, c Call) { ops.Txns = append(ops.Txns, Txn{Call: c, Steps: []ListStep{look(1)}}) },
		"transfer":  func(ops *ChaosOps, c Call) { ops.Bank = append(ops.Bank, BankOp{Call: c, Amount: 1}) },
		"bank read": func(ops *ChaosOps, c Call) { ops.Bank = append(ops.Bank, BankOp{Call: c}) },
		"swap":      func(ops *ChaosOps, c Call) { ops.Registers = append(ops.Registers, RegisterOp{Call: c, Kind: "cas"}) },
		"register":  func(ops *ChaosOps, c Call) { ops.Registers = append(ops.Registers, RegisterOp{Call: c, Kind: "read"}) },
	}
	anonymous, final, unknown := on("n1", 0, 20, 30), on("n1", 1, 20, 30), on("n1", 1, 20, 30)
	final.Client, unknown.Outcome = finalClient, Unknown
	tests := []struct {
		name  string
		calls []Call // the first is an insert, the others are of each kind in turn
		stale []window
		want  string
		reads string // what is wanted of a read; as want where empty
	}{
		{"one after another", []Call{on("n1", 1, 0, 10), on("n2", 2, 20, 30)}, nil, "", ""},
		{"at the same time", []Call{on("n2", 2, 0, 30), on("n1", 1, 20, 40)}, nil, "", ""},
		{"an older timeline after a newer one", []Call{on("n2", 2, 0, 10), on("n1", 1, 20, 30)}, nil, "P1", ""},
		{"the same, while the guard was paused", []Call{on("n2", 2, 0, 10), on("n1", 1, 20, 30)}, []window{{"n1", ms(0), ms(40)}}, "P1", "none"},
		{"two nodes on one timeline", []Call{on("n1", 1, 0, 10), on("n2", 1, 20, 30)}, nil, "P1", ""},
		{"on a timeline that nobody knows", []Call{on("n1", 1, 0, 10), anonymous}, nil, "P1: no timeline", ""},
		{"not acknowledged", []Call{on("n2", 2, 0, 10), unknown}, nil, "", ""},
		{"read by the run itself", []Call{on("n2", 2, 0, 10), final}, nil, "", ""},
	}
	for _, tt := range tests {
		for kind, put := range kinds {
			var ops ChaosOps
			insertOp(&ops, tt.calls[0])
			for _, c := range tt.calls[1:] {
				put(&ops, c)
			}
			want := tt.want
			if (kind == "register" || strings.HasSuffix(kind, " read")) && tt.reads == "none" {
				want = ""
			}
			found, result := CheckTimelines(&ops, tt.stale)
			if got := strings.Join(checksOf(found), " "); got != want {
				t.Errorf("%s, %s: want %q, have %q: %v, %s", tt.name, kind, want, got, found, result)
			}
		}
	}
}

// The timeline comes as PostgreSQL writes it in a WAL file's name.
func TestCallOn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{"00000001": 1, "000000A0": 160, "": 0, "no": 0} {
		var c Call
		if c.on(text); c.Timeline != want {
			t.Errorf("%q: want timeline %d, have %d", text, want, c.Timeline)
		}
	}
}
