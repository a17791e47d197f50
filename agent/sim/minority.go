package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// minority is what came of the times with a minority away.
type minority struct{ whole, waited, unjudged int }

// Minority counts how often the others were whole without a minority, how often they rightly waited for it and said so, and
// how often nothing could be judged, since they had no quorum of Raft's votes.
func (w *World) Minority() (whole, waited, unjudged int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.minority.whole, w.minority.waited, w.minority.unjudged
}

// leave is a way in which hosts are away for a while. Heal brings them back.
type leave struct {
	name  string
	begin func(w *World, away []*Host)
}

func leaves() []leave {
	return []leave{
		{"their power is off", func(_ *World, away []*Host) {
			for _, h := range away {
				if !h.isOff() {
					h.Crash()
				}
			}
		}},
		{"their agents are stopped", func(_ *World, away []*Host) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for _, h := range away {
				h.StopAgent(ctx)
			}
		}},
		{"each is cut off from everybody", func(w *World, away []*Host) {
			for _, h := range away {
				w.Isolate(h, true, true)
			}
		}},
		{"they are cut off together", func(w *World, away []*Host) { w.Split(away) }},
	}
}

// WithoutSome takes a drawn minority away for as long as the others need to be whole: within limit, if the rules can be satisfied
// by those that are there and they have a quorum of votes. It is called when all faults are over; half of the times the
// world is whole first, else the minority leaves in the middle of what the faults have set off.
func (w *World) WithoutSome(limit time.Duration) error {
	w.flaps.Wait()
	if w.intN(2) == 0 {
		if err := w.AwaitConverged(limit); err != nil {
			return err
		}
	}
	if err := w.Heal(); err != nil {
		return err
	}
	away, all := w.part(w.pick()), leaves()
	way := all[w.intN(len(all))]
	w.Did("%v are away: %s", names(away), way.name)
	way.begin(w, away)
	err := w.AwaitWithout(away, limit)
	w.Did("all are back")
	return errors.Join(err, w.Heal())
}

// AwaitWithout waits until the hosts that are there are whole without those that are away, or rightly wait for them and say so:
// limit is how long they have once nothing is missing to them.
func (w *World) AwaitWithout(away []*Host, limit time.Duration) error {
	there := slices.DeleteFunc(slices.Clone(w.Hosts), func(h *Host) bool { return slices.Contains(away, h) })
	began := time.Now()
	<-time.After(w.standsFor())
	missing, since := w.missingTo(there), time.Now()
	for {
		err := wholeOf(there)
		if err == nil {
			err = w.commits(there)
		}
		stood := time.Since(since)
		switch {
		case err == nil:
			w.came(&w.minority.whole, "%v are whole", names(there))
			return nil
		case missing == noQuorum && stood > w.standsFor():
			w.came(&w.minority.unjudged, "%v have no quorum of votes", names(there))
			return nil
		case missing != "" && missing != noQuorum && stood > w.standsFor() && saysWhom(there, away):
			w.came(&w.minority.waited, "%v wait, and say so: %s", names(there), missing)
			return nil
		case stood > limit, time.Since(began) > 3*limit:
			return fmt.Errorf("without %v not whole, for %v now (missing to the others: %q): %w", names(away), stood, missing, err)
		}
		<-time.After(50 * time.Millisecond)
		if now := w.missingTo(there); now != missing {
			missing, since = now, time.Now()
		}
	}
}

// came counts what came of a minority's leave, and notes it in words.
func (w *World) came(n *int, format string, args ...any) {
	w.count(n)
	w.Did(format, args...)
}

// noQuorum is what is missing to hosts of which Raft can make none the leader.
const noQuorum = "a quorum of votes"

// standsFor is how long a minority is away before anything is judged, and how long the same must be missing before it counts: what
// was under way when it left has come by then, and leases and elections are over that looked well at first.
func (w *World) standsFor() time.Duration { return 4 * w.opt.Heartbeat }

// missingTo says what keeps some hosts from being whole by themselves; empty: nothing does.
func (w *World) missingTo(there []*Host) string { return missingTo(viewOf(there), there, len(w.Hosts)) }

// missingTo says the same of all the voters' hosts that are there, by a view. It looks into every host, and is told nothing by
// the agents but what Raft has recorded.
func missingTo(v *cluster.View, there []*Host, voters int) string {
	lives, votes := map[cluster.NodeID]cluster.Member{}, 0
	tips := map[cluster.NodeID]cluster.Position{}
	for _, h := range there {
		h.mu.Lock()
		m := cluster.Member{Node: h.Name, Incarnation: h.disk.incarnation}
		sound := h.disk.exists && !h.disk.rewinding && m.Incarnation != ""
		uid, tip := h.uid, h.disk.wal.end()
		h.mu.Unlock()
		if v != nil && v.Nodes[h.Name].UID == uid && slices.Contains(v.Committed, h.Name) {
			votes++
		}
		if sound {
			lives[h.Name], tips[h.Name] = m, tip
		}
	}
	if v == nil || votes < cluster.Quorum(voters) {
		return noQuorum
	}
	for i, r := range v.Rules {
		if !settles(v, r, v.Rules[i+1:], lives, tips) {
			return fmt.Sprintf("rule %d of term %d: %s, or enough of %v, k %d", r.ID, r.Term, r.Primary.Life(), r.Standbys, r.K)
		}
	}
	return ""
}

// settles is C1 for one rule, by the lives that are there: whether all of them together surely have what was acknowledged
// under it.
func settles(v *cluster.View, r cluster.SyncRule, later []cluster.SyncRule, lives map[cluster.NodeID]cluster.Member, tips map[cluster.NodeID]cluster.Position) bool {
	there := func(m cluster.Member) bool {
		return lives[m.Node] == m && v.Nodes[m.Node].Incarnation == m.Incarnation && !byHand(v, tips[m.Node])
	}
	in := 0
	for _, m := range r.Standbys {
		if there(m) {
			in++
		}
	}
	near := func(p cluster.Position) bool { // C1 (d)
		last := v.LastLSN.Position
		return last.Known() && p.Timeline == r.Timeline && last.Timeline == r.Timeline && p.LSN.Behind(last.LSN) <= v.Config.MaximumLagOnFailover
	}
	switch {
	case r.K > 0 && in > len(r.Standbys)-r.K, there(r.Primary):
		return true
	case slices.ContainsFunc(later, func(l cluster.SyncRule) bool { return l.Term > r.Term && there(l.Primary) }):
		return true
	}
	for n, p := range tips {
		if r.Mode == cluster.SyncOff && there(lives[n]) && near(p) {
			return true
		}
	}
	return false
}

// byHand says whether WAL is of a timeline that nobody allotted: what was promoted by hand counts for nothing (F3).
func byHand(v *cluster.View, tip cluster.Position) bool {
	fork, allotted := v.Forks[tip.Timeline]
	return !allotted || fork.Parent != tip.Parent
}

// viewOf is the newest view that any of some hosts has; nil: none has one.
func viewOf(hosts []*Host) (newest *cluster.View) {
	for _, h := range hosts {
		if p := h.agentNow(); p.alive() {
			if v := p.raft.View(); newest == nil || v.Index > newest.Index {
				newest = v
			}
		}
	}
	return newest
}

// saysWhom says whether one of the hosts that are there tells an operator that no candidate satisfies the rules, and names one
// that is away (B5).
func saysWhom(there, away []*Host) bool {
	for _, h := range there {
		if p := h.agentNow(); p.alive() {
			phase := p.node.Snapshot().Phase
			_, text, of := strings.Cut(phase, string(decide.ReasonNoCandidate))
			if of && slices.ContainsFunc(away, func(a *Host) bool { return strings.Contains(text, string(a.Name)) }) {
				return true
			}
		}
	}
	return false
}

func names(hosts []*Host) (list []cluster.NodeID) {
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list
}

// What the others lack when the primary's host is away, in WithoutPrimary.
const (
	LackNothing = "nothing"
	LackHost    = "one's host, too"
	LackData    = "one's data"
	LackVote    = "one's Raft store"
	LackLink    = "the link between two of them"
	LackWords   = "one's data, and agents that could say so"
)

// WithoutPrimary takes the power of the primary's host away, and something of the others at the same moment; it judges them as
// AwaitWithout does, and brings all back.
func (w *World) WithoutPrimary(lack string, limit time.Duration) error {
	p := w.primaryHost()
	if p == nil {
		return errors.New("want a primary")
	}
	there := slices.DeleteFunc(slices.Clone(w.Hosts), func(h *Host) bool { return h == p })
	if err := p.awaitAllCounted(len(there)); err != nil {
		return err
	}
	p.Crash()
	w.Did("%s: its power is off; the others lack %s", p.Name, lack)
	one, away := there[0], []*Host{p}
	var boot error
	switch lack {
	case LackHost:
		one.Crash()
		away = append(away, one)
	case LackData, LackWords:
		one.Crash()
		one.change(one.loseDataLocked)
		boot = one.Boot()
	case LackVote:
		one.Crash()
		one.change(one.forgetLocked)
		boot = one.Boot()
	case LackLink:
		w.Link(one, there[1], true, usualDelay)
	}
	if lack == LackWords {
		for _, h := range there {
			h.Freeze(true, serviceAgent)
		}
	}
	return errors.Join(boot, w.AwaitWithout(away, limit), w.Heal())
}
