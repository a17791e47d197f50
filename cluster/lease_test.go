package cluster

import (
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	if w := DefaultLease(time.Second).Wait(); w < 816161*time.Microsecond || w > 816162*time.Microsecond {
		t.Errorf("W of 800 ms at 1 %% = %v, want 816.16 ms", w)
	}
}

// TestWaitForTheWatchdog is section 11: the last feeding comes as late as E - F, and only then wd begins. All is reckoned anew
// here as a sum of instants: sent at 0 by a clock that runs as slowly as rho lets it, seen by one that runs as fast.
func TestWaitForTheWatchdog(t *testing.T) {
	slow := func(d time.Duration) float64 { return float64(d) / 0.99 } // of true time
	fast := func(d time.Duration) float64 { return float64(d) / 1.01 }
	for _, c := range []struct {
		name    string
		h, wd   time.Duration
		atLeast time.Duration // what a too hasty formula would give
	}{
		{"none", time.Second, 0, 0},
		{"the usual", time.Second, 6 * time.Second, 6 * time.Second},
		{"short lease", 300 * time.Millisecond, 2 * time.Second, 2 * time.Second},
		{"shorter than the fence budget", time.Minute, 50 * time.Millisecond, 0},
	} {
		p := DefaultLease(c.h)
		p.Watchdog = c.wd
		fenced := slow(p.TTL)                                                // by the guard
		if reset := slow(p.TTL-p.Fence) + slow(p.Watchdog); p.Watchdog > 0 { // by the watchdog, if the guard is not scheduled
			fenced = max(fenced, reset)
		}
		if w := p.Wait(); fast(w) < fenced || fast(w-2) > fenced || w <= c.atLeast {
			t.Errorf("%s: W is %v, and the holder is gone %v after the heartbeat was sent", c.name, w, time.Duration(fenced))
		}
	}
}

// TestWaitNeverOverflows takes the longest numbers that can be recorded.
func TestWaitNeverOverflows(t *testing.T) {
	p := LeaseParams{TTL: MaxTTL, Fence: 1, RhoPPM: 499_999, Watchdog: MaxWatchdog}
	if w := p.Wait(); w < 3*MaxTTL {
		t.Errorf("W is %v, want about 3 times ttl and watchdog", w)
	}
}

func TestDefaultsPassTheirOwnCheck(t *testing.T) {
	for _, h := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, time.Minute} {
		if err := DefaultLease(h).Check(DefaultTimings(h)); err != nil {
			t.Errorf("heartbeat %v: %v", h, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*LeaseParams, *Timings)
	}{
		{"ttl at the leader lease", func(p *LeaseParams, g *Timings) { p.TTL = g.LeaderLease }},
		{"leader lease above the heartbeat", func(p *LeaseParams, g *Timings) { g.LeaderLease = g.Heartbeat + 1 }},
		{"transport at half the ttl", func(p *LeaseParams, g *Timings) { g.Transport = p.TTL / 2 }},
		{"fence at half the ttl", func(p *LeaseParams, g *Timings) { p.Fence = p.TTL / 2 }},
		{"no ttl", func(p *LeaseParams, g *Timings) { p.TTL = 0 }},
		{"a watchdog without end", func(p *LeaseParams, g *Timings) { p.Watchdog = MaxWatchdog + 1 }},
		{"a watchdog of before", func(p *LeaseParams, g *Timings) { p.Watchdog = -1 }},
		{"rho of a half", func(p *LeaseParams, g *Timings) { p.RhoPPM = 500_000 }},
	} {
		p, g := DefaultLease(time.Second), DefaultTimings(time.Second)
		c.edit(&p, &g)
		if p.Check(g) == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// TestLeaseEnd is L1: ttl after the q-th largest send time, self counting as now.
func TestLeaseEnd(t *testing.T) {
	three, five := []NodeID{"a", "b", "c"}, []NodeID{"a", "b", "c", "d", "e"}
	const ttl, now = 100, Instant(1000)
	for _, c := range []struct {
		name   string
		self   NodeID
		voters []NodeID
		sent   map[NodeID]Instant
		want   Instant
		ok     bool
	}{
		{"the newer of two others decides", "a", three, map[NodeID]Instant{"b": 900, "c": 950}, 1050, true},
		{"one of two is enough", "a", three, map[NodeID]Instant{"b": 900}, 1000, true},
		{"nobody", "a", three, nil, 0, false},
		{"of five, the second newest other", "a", five, map[NodeID]Instant{"b": 900, "c": 950, "d": 800}, 1000, true},
		{"of five, one other is too few", "a", five, map[NodeID]Instant{"b": 900}, 0, false},
		{"self no voter", "x", three, map[NodeID]Instant{"a": 900, "b": 950}, 1000, true},
		{"self no voter, one answer", "x", three, map[NodeID]Instant{"b": 950}, 0, false},
		{"no voters", "a", nil, nil, 0, false},
		{"alone", "a", []NodeID{"a"}, nil, 1100, true},
		{"an answer of a stranger", "a", three, map[NodeID]Instant{"z": 999}, 0, false},
	} {
		got, ok := LeaseEnd(ttl, now, c.self, c.voters, c.sent)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %d %v, want %d %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// TestLeaseSurelyOver is the attests of K5: N-q+1 voters other than the holder, in each configuration.
func TestLeaseSurelyOver(t *testing.T) {
	three := []NodeID{"h", "a", "b"}
	old := func(n NodeID) Attest { return Attest{Voter: n, Holder: "h", RaftTerm: 8, Age: time.Second} }
	young := Attest{Voter: "b", Holder: "h", RaftTerm: 8, Age: 10 * time.Millisecond}
	for _, c := range []struct {
		name    string
		configs [][]NodeID
		attests map[NodeID]Attest
		want    bool
	}{
		{"both others", [][]NodeID{three}, map[NodeID]Attest{"a": old("a"), "b": old("b")}, true},
		{"one other", [][]NodeID{three}, map[NodeID]Attest{"a": old("a")}, false},
		{"one too young", [][]NodeID{three}, map[NodeID]Attest{"a": old("a"), "b": young}, false},
		{"the holder's own word does not count", [][]NodeID{three}, map[NodeID]Attest{"a": old("a"), "h": old("h")}, false},
		{"L6 not in the former configuration", [][]NodeID{three, {"h", "x", "y"}}, map[NodeID]Attest{"a": old("a"), "b": old("b")}, false},
		{"no configuration", nil, map[NodeID]Attest{"a": old("a"), "b": old("b")}, false},
	} {
		if got := LeaseSurelyOver(800*time.Millisecond, 8, "h", c.configs, c.attests); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if LeaseSurelyOver(800*time.Millisecond, 9, "h", [][]NodeID{three}, map[NodeID]Attest{"a": old("a"), "b": old("b")}) {
		t.Error("attests of an older raft term counted")
	}
}
