package main

import (
	"fmt"
	"strings"
)

// support says which steps of the arguments in docs/protocol.md rest on a rule: without it they do not follow. A step with
// parts, such as 3, stands for all of them.
type support struct {
	rule   string
	p1, p2 string // steps of sections 14 and 15, with spaces between
	why    string // how, where the steps do not name the rule; where none rests on it: what it is for
}

// supports are all rules that a mutant breaks, in the order of docs/protocol.md.
var supports = []support{
	{"G1", "3a 6", "2a", "a promise, an answer and a lease count for their own term"},
	{"G2", "4", "5", "takers know a lease's numbers, and all know whose data counts, from the state machine"},
	{"G3", "3", "1", "no acquisition takes a recorded rule away"},
	{"L1", "4 6", "", ""},
	{"L2", "2 6", "", ""},
	{"L3", "4", "", "what an attest says"},
	{"L4", "4", "", ""},
	{"L5", "5", "", ""},
	{"L6", "4", "", ""},
	{"L7", "", "", "which numbers are refused: the steps hold for whatever ttl, F and rho are recorded"},
	{"L8", "4", "", ""},
	{"L9", "", "", "how soon a returning agent leads again; L2 holds for it as for all"},
	{"U1", "2 5", "", "one agent at a time orders starts and leases"},
	{"U2", "2 5", "", "the fence point holds whatever the role"},
	{"U3", "2 5", "", "the fence leaves standby.signal"},
	{"U4", "2 3b 4", "2b", "fenced and released end the wait of K5"},
	{"U5", "5", "", "a guard that is dead fences nobody"},
	{"U6", "7", "", ""},
	{"K1", "4", "", ""},
	{"K2", "", "", "how soon a take-over learns of whom; what it does not know it does not count"},
	{"K3", "6", "", "who keeps the key after its lease has ended takes the next term"},
	{"K4", "3", "2", "the promises are of the term that is acquired"},
	{"K5", "4", "", ""},
	{"K6", "3 4", "2", "who is handed the take-over takes promises along, never attests"},
	{"K7", "1 2 3", "1 2", "the rules that were satisfied are those that are recorded"},
	{"V1", "3a", "2a", "a promise stays"},
	{"V2", "3a", "2a", ""},
	{"V3", "", "2a", ""},
	{"V4", "", "3", "which timeline a position is on"},
	{"V5", "3a", "2a 2b 5", "who promises is who has confirmed"},
	{"C1", "3", "2", ""},
	{"C2", "", "4", ""},
	{"C3", "", "", "who is back sooner: the primary that restarts has what it acknowledged (step 2b of P2)"},
	{"C4", "", "", "who is in S: the steps hold for whatever S is recorded"},
	{"S1", "", "", "how many losses a commit survives: the steps hold for whatever k is recorded"},
	{"S2", "3", "1", "what PostgreSQL waits for is no less than a recorded rule"},
	{"S3", "3", "1", "that it does wait for it"},
	{"S4", "", "1", "when the rule before an acquisition goes"},
	{"S5", "", "", "when k is lowered; that it is recorded first is S2"},
	{"S6", "3a", "3 6 7", "k confirmations are of k disks"},
	{"S7", "", "", "whose confirmations mode on takes, and what mode off gives up"},
	{"S8", "", "", "whom a commit waits for, so that it does not wait for one who is gone"},
	{"F1", "", "3", ""},
	{"F2", "", "3", ""},
	{"F3", "", "3", ""},
	{"B1", "4", "", "a release, which ends the wait of K5, follows the fence"},
	{"B2", "", "", "when a node gives up the key; its lease would end by itself"},
	{"B3", "4", "", "a lease without an end is waited for"},
	{"B4", "", "5", ""},
	{"B5", "", "2", ""},
	{"11", "1 4", "1", "assumption A4: one node, one store, one vote"},
}

// stepsPage is the part of the page that says which steps rest on which rule.
func stepsPage() string {
	or := func(s, none string) string {
		if s == "" {
			return none
		}
		return strings.Join(strings.Fields(s), ", ")
	}
	var b strings.Builder
	for _, s := range supports {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.rule, or(s.p1, "none"), or(s.p2, "none"), s.why)
	}
	return b.String()
}
