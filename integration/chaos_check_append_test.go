package integration

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// txn is an acknowledged transaction between two moments in ms.
func txn(id int64, start, end int, steps ...ListStep) Txn {
	return Txn{Call: Call{ID: id, Client: "c", Node: "n1", Start: ms(start), End: ms(end), Outcome: OK}, Steps: steps}
}

func ended(t Txn, o Outcome) Txn {
	t.Outcome = o
	return t
}

func add(key int, value int64) ListStep      { return ListStep{Key: key, Append: true, Value: value} }
func look(key int, values ...int64) ListStep { return ListStep{Key: key, List: values} }
func checksOf(found []Violation) (got []string) {
	for _, v := range found {
		got = append(got, v.Check)
	}
	slices.Sort(got)
	return slices.Compact(got)
}

// Each history holds one anomaly, or none, and the check must name it.
func TestCheckAppend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		txns []Txn
		want string // names, joined; empty: clean
	}{
		{"nothing", nil, ""},
		{"one after another", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1, 1), add(1, 2)), txn(3, 10, 11, look(1, 1, 2))}, ""},
		{"own appends are read", []Txn{txn(1, 0, 5, look(1), add(1, 1), look(1, 1), add(1, 2), look(1, 1, 2))}, ""},
		{"at the same time, either order", []Txn{txn(1, 0, 10, add(1, 1)), txn(2, 0, 10, add(1, 2)), txn(3, 11, 12, look(1, 2, 1))}, ""},
		{"an unknown one that nobody saw", []Txn{ended(txn(1, 0, 5, add(1, 1)), Unknown), txn(2, 6, 9, look(1))}, ""},
		{"an unknown one that takes effect late", []Txn{ended(txn(1, 0, 5, add(1, 1)), Unknown), txn(2, 6, 9, look(1)), txn(3, 10, 12, look(1, 1))}, ""},
		{"not read since", []Txn{txn(1, 0, 5, look(1)), txn(2, 6, 9, add(1, 1))}, ""},
		{"a failed one that nobody saw", []Txn{ended(txn(1, 0, 5, add(1, 1)), Failed), txn(2, 6, 9, look(1))}, ""},

		{"aborted read", []Txn{ended(txn(1, 0, 5, add(1, 1)), Failed), txn(2, 6, 9, look(1, 1))}, "append: G1a"},
		{"intermediate read", []Txn{txn(1, 0, 9, add(1, 1), add(1, 2)), txn(2, 0, 9, look(1, 1))}, "append: G1b"},
		{"another's append in the middle", []Txn{txn(1, 0, 9, add(1, 1), add(1, 2)), txn(2, 0, 9, add(1, 3)), txn(3, 10, 11, look(1, 1, 3, 2))}, "append: G0 append: G1b"},
		{"from nowhere", []Txn{txn(1, 0, 5, look(1, 7))}, "append: phantom"},
		{"twice", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1, 1, 1))}, "append: duplicate"},
		{"own append not read", []Txn{txn(1, 0, 5, add(1, 1), look(1))}, "append: internal"},
		{"a list changes inside", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 0, 9, look(1), look(1, 1))}, "append: G-single append: internal"},
		{"two orders", []Txn{txn(1, 0, 9, add(1, 1)), txn(2, 0, 9, add(1, 2)), txn(3, 10, 11, look(1, 1, 2)), txn(4, 10, 11, look(1, 2))}, "append: incompatible order"},
		{"lost", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1))}, "append: lost append"},
		{"lost under later ones", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, add(1, 2)), txn(3, 10, 12, look(1, 2))}, "append: lost append"},
		{"lost after it was read", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1, 1)), txn(3, 10, 12, look(1))}, "append: G-single-realtime"},

		{"G0: two lists, opposite orders", []Txn{txn(1, 0, 9, add(1, 1), add(2, 1)), txn(2, 0, 9, add(1, 2), add(2, 2)),
			txn(3, 10, 11, look(1, 1, 2), look(2, 2, 1))}, "append: G0"},
		{"G1c: each reads the other's append", []Txn{txn(1, 0, 9, add(1, 1), look(2, 2)), txn(2, 0, 9, add(2, 2), look(1, 1))}, "append: G1c"},
		{"G-single: half of a transaction is seen", []Txn{txn(1, 0, 9, add(1, 1), add(2, 1)), txn(2, 0, 9, look(1, 1), look(2)), txn(3, 10, 11, look(2, 1))}, "append: G-single"},
		{"G2: write skew", []Txn{txn(1, 0, 9, look(1), add(2, 1)), txn(2, 0, 9, look(2), add(1, 1)), txn(3, 10, 11, look(1, 1), look(2, 1))}, "append: G2"},
		{"a stale read", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1)), txn(3, 10, 11, look(1, 1))}, "append: G-single-realtime"},
		{"later, but before", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, add(1, 2)), txn(3, 10, 11, look(1, 2, 1))}, "append: G0-realtime"},
		{"answers that touch overlap", []Txn{txn(1, 0, 5, add(1, 1)), txn(2, 5, 9, look(1)), txn(3, 10, 11, look(1, 1))}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := CheckAppend(tt.txns)
			if got := strings.Join(checksOf(found), " "); got != tt.want {
				t.Errorf("want %q, have %q: %v", tt.want, got, found)
			}
		})
	}
}

// The shortest cycle is told, not the knot that it stands in, with each transaction and why it comes before the next.
func TestCycleIsToldInWords(t *testing.T) {
	t.Parallel()
	txns := []Txn{
		txn(1, 0, 5, add(1, 1)), txn(2, 6, 9, look(1, 1), add(2, 1)), txn(3, 10, 20, look(2, 1), add(3, 1)),
		txn(4, 30, 40, look(1)),
	}
	found := CheckAppend(txns)
	if len(found) != 1 || found[0].Check != "append: G-single-realtime" {
		t.Fatalf("want one stale read, have %v", found)
	}
	for _, want := range []string{"transaction 4", "read(1) = []", "before 1, whose append of 1 to list 1 it did not see", "before 4, which began at"} {
		if !strings.Contains(found[0].Text, want) {
			t.Errorf("want %q in %s", want, found[0].Text)
		}
	}
	if strings.Contains(found[0].Text, "transaction 3") {
		t.Errorf("want the shortest cycle, have %s", found[0].Text)
	}
}

// What one thread does with lists, one transaction after another, is clean however the calls overlap; one list set back
// is not.
func TestCheckAppendRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		lists := map[int][]int64{}
		var txns []Txn
		for i := range 300 {
			one := txn(int64(i), 10*i-rng.IntN(40), 10*i+rng.IntN(40)+1)
			for range 1 + rng.IntN(4) {
				key := rng.IntN(3)
				if rng.IntN(2) == 0 {
					value := int64(i*10 + len(one.Steps))
					lists[key] = append(lists[key], value)
					one.Steps = append(one.Steps, add(key, value))
				} else {
					one.Steps = append(one.Steps, look(key, slices.Clone(lists[key])...))
				}
			}
			if rng.IntN(10) == 0 {
				one.Outcome = Unknown
			}
			txns = append(txns, one)
		}
		if found := CheckAppend(txns); len(found) > 0 {
			t.Fatalf("seed %d: a serial history: %v", seed, found)
		}
		stale := txn(1000, 4000, 4001, look(0, lists[0][:len(lists[0])/2]...))
		if found := CheckAppend(append(txns, stale)); len(found) == 0 {
			t.Errorf("seed %d: a stale read at the end was not found", seed)
		}
	}
}
