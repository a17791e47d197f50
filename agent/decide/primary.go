package decide

import (
	"fmt"
	"slices"
	"time"

	"pgquorum/cluster"
)

// holder holds the duties of the node that the key names, while its lease is alive: be the primary of the key's
// timeline, keep the sync rules, answer requests.
func holder(o *Observation) (Decision, bool) {
	k := o.View.Key
	if k.Holder != o.Self || k.Released || !(o.holds() || o.acquiring()) {
		return Decision{}, false
	}
	if o.acquiring() {
		return Decision{Action: Wait, Reason: ReasonLeaseNotOver, Detail: "the first quorum of answers in this term", Wake: o.Now.Add(o.Heartbeat / 10)}, true
	}
	if o.frozen() {
		return thaw(o)
	}
	p := o.Local.Postgres
	switch {
	case p.State == cluster.PostgresRunning && p.Role == cluster.RolePrimary:
		return primary(o)
	case p.State == cluster.PostgresRunning && p.Role == cluster.RoleStandby:
		return promote(o)
	case p.State == cluster.PostgresStopped:
		return revive(o)
	case p.State == cluster.PostgresHung:
		return handOver(o, ReasonHung)
	}
	return Decision{}, false
}

// primary keeps a running primary.
func primary(o *Observation) (Decision, bool) {
	k := o.View.Key
	if o.Local.Postgres.Timeline != k.Timeline { // F2
		return Decision{Action: Fence, Reason: ReasonWrongTimeline, Term: k.Term,
			Detail: fmt.Sprintf("on timeline %d, allotted %d", o.Local.Postgres.Timeline, k.Timeline)}, true
	}
	if higher := higherPromise(o); higher == k.Term+1 && o.leads() { // G1; a legitimate promise is for no later term
		return acquireInPlace(o, ReasonHigherPromise, fmt.Sprintf("term %d was promised", higher)), true
	}
	if q := o.Request; q != nil && o.leads() && (q.Leader == o.Self || q.Leaving && CheckSwitchover(o) == nil) { // who leaves asks until it may stop: not while there is nobody to move to
		return Decision{Action: Switchover, Reason: ReasonRequested, Node: o.Request.Candidate}, true
	}
	if d, ok := leaveFullDisk(o); ok { // B2
		return d, true
	}
	if d, ok := register(o); ok {
		return d, true
	}
	if o.View.Forks.Pending(k.Timeline) && o.leads() { // F1
		return Decision{Action: RecordFork, Reason: ReasonForkUnrecorded}, true
	}
	return rules(o)
}

// promote makes the allotted timeline from the standby that acquired the key (K7, I1).
func promote(o *Observation) (Decision, bool) {
	k := o.View.Key
	fork := o.View.Forks[k.Timeline]
	if fork.Term != k.Term || fork.Node != o.Self { // acquired in place, but it is no primary any more
		return handOver(o, ReasonCrashed)
	}
	if o.Local.Guard.Watchdog.Missing() != "" { // section 11
		return handOver(o, ReasonNoWatchdog)
	}
	if d, ok := promoteFull(o); ok { // B2
		return d, true
	}
	if o.Failed(Promote) >= MaxStarts {
		return handOver(o, ReasonCannotPromote)
	}
	return Decision{Action: Promote, Reason: ReasonKeyHeld, Term: k.Term}, true
}

// revive decides for a Postgres that is gone while the lease is alive (C3, ADR 0019): if standbys hold everything and one
// is ready, hand over at once; else whichever is sooner by the estimate, a restart in place or a standby that has still
// to receive and to replay. A directory that is not on the key's timeline yet was on its way to being promoted: it starts
// as a standby and is promoted then. The first start of a new cluster is a start in place.
func revive(o *Observation) (Decision, bool) {
	k, p := o.View.Key, o.Local.Postgres
	if p.Data != cluster.DataOurs || p.Incarnation != k.Member.Incarnation {
		return handOver(o, ReasonNoData)
	}
	if p.Timeline != k.Timeline {
		return Decision{Action: StartStandby, Reason: ReasonStopped}, true
	}
	if o.Local.Guard.Watchdog.Missing() != "" { // section 11
		return handOver(o, ReasonNoWatchdog)
	}
	if o.Resume && o.Failed(StartPrimary) == 0 {
		return Decision{Action: StartPrimary, Reason: ReasonResume, Term: k.Term}, true
	}
	if why := Short(o.Local); why != "" {
		return reviveFull(o, why)
	}
	other, takes, can := soonest(o, o.lately)
	if can && takes <= ReadyWithin {
		return Decision{Action: HandOver, Reason: ReasonStandbyReady, Node: other, Term: k.Term}, true
	}
	if o.Failed(StartPrimary) >= MaxStarts || higherPosition(o) {
		return handOver(o, ReasonCrashed)
	}
	if until, unread := unreadUntil(o); unread {
		return Decision{Action: Wait, Reason: ReasonUnread, Wake: until}, true
	}
	redo, known := redoTime(cluster.NodeStatus{Postgres: p, Position: o.Position})
	if can && known && takes < redo {
		return Decision{Action: HandOver, Reason: ReasonStandbySooner, Node: other, Term: k.Term, Detail: inTime(other, takes, redo)}, true
	}
	d := Decision{Action: StartPrimary, Reason: ReasonNoStandby, Term: k.Term}
	if can && known {
		d.Detail = inTime(other, takes, redo)
	}
	return d, true
}

func inTime(other cluster.NodeID, takes, redo time.Duration) string {
	return fmt.Sprintf("%s in about %v, a restart in about %v", other, takes.Round(time.Millisecond), redo.Round(time.Millisecond))
}

// unreadUntil says whether the end of this node's WAL is still being looked for while another data node is there to be
// compared with (C3), and until when that is waited for. A search that takes longer, of very much WAL, is not waited for
// further: the restart replays all of it in any case.
func unreadUntil(o *Observation) (until cluster.Instant, unread bool) {
	if o.Position.Known() || o.StoppedSince.IsZero() {
		return 0, false
	}
	until = o.StoppedSince.Add(HandOverPatience)
	for name := range o.Peers {
		if s, ok := o.lately(name); ok && s.Postgres.Data == cluster.DataOurs {
			return until, o.Now.Before(until)
		}
	}
	return 0, false
}

// higherPosition says whether a reachable data node, also one whose Postgres is down, has more WAL of the key's timeline
// than this disk (C3): the disk has lost what it had confirmed.
func higherPosition(o *Observation) bool {
	for name := range o.Peers {
		s, answered := o.lately(name)
		if answered && o.Position.Known() && s.Position.Timeline == o.Position.Timeline && !o.View.Forks.Foreign(s.Position) && s.Position.LSN > o.Position.LSN {
			return true
		}
	}
	return false
}

// handOver gives the key up, whether or not another is known to be ready: this node cannot serve.
func handOver(o *Observation, why Reason) (Decision, bool) {
	other, _, _ := soonest(o, o.lately)
	return Decision{Action: HandOver, Reason: why, Node: other, Term: o.View.Key.Term}, true
}

// ReachableFor is how old a peer's last answer may be for it to be counted on without asking again.
const ReachableFor = 3 * time.Second

// reachable says whether a peer answered its last status call, of late, and runs a standby.
func reachable(o *Observation, name cluster.NodeID) bool {
	_, ok := standbyOf(o, o.lately, name)
	return ok
}

// higherPromise is the highest term that any node is known to have promised.
func higherPromise(o *Observation) cluster.Term {
	top := o.Promised
	for _, p := range o.Peers {
		top = max(top, p.Status.Promised)
	}
	return top
}

// acquireInPlace commits a new term for the same primary on the same timeline (K3, G1): standbys that promised a
// higher term may then follow it again. The primary itself has everything, and the compare-and-set on the key's term
// makes sure that no other has acquired since, so no promises are needed (C1 b, c). The rule is the one in force. A standby
// whose node has another life now (docs/adr/0032) is named by that: nobody confirms under the former any more, and the rule
// that names it stays recorded.
func acquireInPlace(o *Observation, why Reason, detail string) Decision {
	cur, _ := o.View.Current()
	k := o.View.Key
	standbys := slices.Clone(cur.Standbys)
	for i, m := range standbys {
		if now, has := o.View.Nodes[m.Node].Member(); has {
			standbys[i] = now
		}
	}
	lease := k.Lease
	lease.Watchdog = max(lease.Watchdog, o.Lease0.Watchdog) // the device that is held keeps its timeout until it is disarmed
	return Decision{Action: Acquire, Reason: why, Term: k.Term + 1, Detail: detail,
		Acquire: cluster.AcquireLeader{
			Node: o.Self, ExpectTerm: k.Term, RulesVersion: o.View.RulesVersion, Member: k.Member, InPlace: true,
			Parent: k.Timeline, Lease: lease, Standbys: standbys, K: cur.K, Mode: cur.Mode,
		}}
}
