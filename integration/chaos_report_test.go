package integration

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// The page tells what befell whom, what was wrong and how to draw it again, and needs nothing but itself.
func TestReportPage(t *testing.T) {
	t.Parallel()
	r := &chaosRun{began: time.Now().Add(-time.Minute), opt: ChaosOptions{Seed: 42, Nodes: 3, Length: time.Minute}, load: &ChaosLoad{}}
	second := Fault{Kind: faultPause, What: partGuard, Target: 1}
	r.log = ChaosLog{
		Seed: 42, Nodes: []string{"n1", "n2", "n3"}, Length: time.Minute,
		Steps: []Step{{First: Fault{Kind: faultCrash}, Second: &second}},
		Bars: []Bar{
			{Fault: "host crash of the primary", Kind: faultCrash, Hosts: []string{"n1"}, Start: ms(1000), End: ms(5000)},
			{Fault: "pause (guard)", Kind: faultPause, Hosts: []string{"n1"}, Start: ms(2000), End: ms(3000)},
			{Fault: "disk hangs", Kind: faultDiskHangs, Hosts: []string{"n1"}, Start: ms(2000), End: ms(2000), Note: "not begun"},
		},
		Converged:  []Converged{{Since: ms(5000), Took: ms(2000)}},
		Samples:    []Sample{{Node: "n2", Code: 200, Term: 2, LeaseMS: 500, Start: ms(100)}, {Node: "n2", Start: ms(20_000)}},
		Events:     []timedEvent{{Event: Event{Type: "leader_acquired", Node: "n2", Term: 2}, Time: time.Now().Add(-50 * time.Second)}},
		Violations: []Violation{{Check: "set: lost", At: ms(4000), Text: "<row 7>"}},
		Checks:     []CheckResult{{Name: "nothing leaks", Result: "fine"}},
	}
	record(&r.load.Ops, &r.load.Ops.Inserts, InsertOp{Call: call(1, 0, 10, OK)})
	record(&r.load.Ops, &r.load.Ops.Inserts, InsertOp{Call: call(2, 20, 3010, OK)})
	record(&r.load.Ops, &r.load.Ops.Inserts, InsertOp{Call: call(3, 20, 3010, Unknown)})
	var out bytes.Buffer
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.writePage(&out))
	for _, want := range []string{
		"seed 42", "make chaos MINUTES=1 SEED=42 NODES=3", "1 violations", "&lt;row 7&gt;", "host crash of the primary: 1.0-5.0 s", `class="fault pause"`,
		"n2, term 2", "primary, 0.1-20.0 s", `class="lease"`, "<td>set</td><td class=\"n\">2</td><td class=\"n\">0</td><td class=\"n\">1</td><td class=\"n\">3.00 s</td>",
		"<td>disk hangs</td><td class=\"n\">0</td><td class=\"n\">1</td>", "1 of 1 steps were pairs", "nothing leaks", "n1: 1 at 3 s",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in the page", want)
		}
	}
	for _, outside := range []string{"http:", "https:", "src=", "@import", "url("} {
		if strings.Contains(out.String(), outside) {
			t.Errorf("the page needs something outside: %s", outside)
		}
	}
}
