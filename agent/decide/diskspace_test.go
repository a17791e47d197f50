package decide

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgquorum/cluster"
)

// onDisk gives a status one disk, with an alarm, that holds all a node needs.
func onDisk(s *cluster.NodeStatus, alarm cluster.DiskAlarm) {
	s.Disks = []cluster.DiskStatus{{Uses: []cluster.DiskUse{cluster.UseRaft, cluster.UseData, cluster.UseWAL}, Dir: "/pg", Alarm: alarm, Why: "the disk is " + string(alarm)}}
	s.DiskFault = DiskFault(s.Disks)
	s.CanPromote = CannotPromote(*s, cluster.Tags{})
}

// onTablespace puts the alarm on the disk of a tablespace alone.
func onTablespace(s *cluster.NodeStatus, alarm cluster.DiskAlarm) {
	onDisk(s, cluster.DiskWell)
	s.Disks = append(s.Disks, cluster.DiskStatus{Uses: []cluster.DiskUse{cluster.TablespaceUse("16385")}, Dir: "/ts", Alarm: alarm, Why: "the tablespace is " + string(alarm)})
	s.DiskFault = DiskFault(s.Disks)
	s.CanPromote = CannotPromote(*s, cluster.Tags{})
}

// peersOn gives the peers disks with an alarm, as they say themselves.
func peersOn(o *Observation, alarms map[string]cluster.DiskAlarm) {
	for n, alarm := range alarms {
		answers(o, n, time.Second, func(p *cluster.PeerView) { onDisk(&p.Status, alarm) })
	}
}

// filled is n1 as primary for an hour, its disk with an alarm since a minute.
func filled(alarm cluster.DiskAlarm) func() *Observation {
	return func() *Observation {
		o := healthy("n1")
		onDisk(&o.Local, alarm)
		o.HoldsSince, o.ShortSince = o.Now.Add(-time.Hour), o.Now.Add(-time.Minute)
		return o
	}
}

// B2: which alarm means what, disk by disk.
func TestB2AlarmsOfADisk(t *testing.T) {
	for _, c := range []struct {
		alarm              cluster.DiskAlarm
		fault, full, short bool
	}{
		{alarm: cluster.DiskWell}, {alarm: cluster.DiskLow},
		{alarm: cluster.DiskShort, short: true}, {alarm: cluster.DiskFull, full: true, short: true},
		{alarm: cluster.DiskReadOnly, fault: true}, {alarm: cluster.DiskFailed, fault: true}, {alarm: cluster.DiskHung, fault: true},
	} {
		t.Run(string(c.alarm), func(t *testing.T) {
			s := statusFor("n2")
			onDisk(&s, c.alarm)
			if s.DiskFault != "" != c.fault || Full(s) != "" != c.full || Short(s) != "" != c.short {
				t.Errorf("fault %q, full %q, short %q", s.DiskFault, Full(s), Short(s))
			}
			if can := s.CanPromote == ""; can == (c.fault || c.full) {
				t.Errorf("cannot be promoted: %q", s.CanPromote)
			}
			onTablespace(&s, c.alarm)
			if s.DiskFault+Full(s)+Short(s)+s.CanPromote != "" {
				t.Errorf("a tablespace: fault %q, full %q, short %q, cannot be promoted: %q", s.DiskFault, Full(s), Short(s), s.CanPromote)
			}
			if last := worse(s) != ""; last != (c.fault || c.full) {
				t.Errorf("a tablespace: the last choice: %v", last)
			}
		})
	}
}

// B2: a primary on a disk without room moves to one that has room, and stays while there is none.
func TestB2PrimaryOnAFullDisk(t *testing.T) {
	runNext(t, filled(cluster.DiskFull), []nextCase{
		{"others have room", func(*Observation) {}, HandOver, ReasonDiskFull},
		{"one has room", func(o *Observation) { peersOn(o, map[string]cluster.DiskAlarm{"n2": cluster.DiskShort}) }, HandOver, ReasonDiskFull},
		{"the others are short", func(o *Observation) {
			peersOn(o, map[string]cluster.DiskAlarm{"n2": cluster.DiskShort, "n3": cluster.DiskShort})
		}, None, ""},
		{"the others are full", func(o *Observation) {
			peersOn(o, map[string]cluster.DiskAlarm{"n2": cluster.DiskFull, "n3": cluster.DiskFull})
		}, None, ""},
		{"who has room lags", func(o *Observation) { behind(o, 1<<40, map[string]uint64{"n2": 6400 * mib, "n3": 6400 * mib}) }, None, ""},
		{"too few answer", func(o *Observation) { o.Peers["n3"] = cluster.PeerView{Err: "no answer"} }, None, ""},
		{"it has not led for long", func(o *Observation) { o.HoldsSince = o.Now.Add(1 - FullRest) }, None, ""},
		{"leadership is away", func(o *Observation) { o.Raft.State, o.Barrier = cluster.RaftFollower, false }, None, ""},
	})
	runNext(t, filled(cluster.DiskShort), []nextCase{
		{"short for a while", func(*Observation) {}, HandOver, ReasonDiskFull},
		{"short for a moment", func(o *Observation) { o.ShortSince = o.Now.Add(1 - ShortPatience) }, None, ""},
	})
	runNext(t, filled(cluster.DiskLow), []nextCase{{"low", func(*Observation) {}, None, ""}})
	runNext(t, filled(cluster.DiskFull), []nextCase{
		{"only a tablespace is full", func(o *Observation) { onTablespace(&o.Local, cluster.DiskFull) }, None, ""},
		{"only a tablespace hangs", func(o *Observation) { onTablespace(&o.Local, cluster.DiskHung) }, None, ""},
	})
}

// B2, C3: a Postgres that has gone on a full disk. Among full nodes the key stays where it is, and pauses grow.
func TestB2FullDiskRevive(t *testing.T) {
	base := func() *Observation {
		o := crashed(6 * mib)()
		onDisk(&o.Local, cluster.DiskFull)
		o.FullStops = 1
		return o
	}
	alarms := func(alarm cluster.DiskAlarm) map[string]cluster.DiskAlarm {
		return map[string]cluster.DiskAlarm{"n2": alarm, "n3": alarm}
	}
	runNext(t, base, []nextCase{
		{"others have room", func(*Observation) {}, HandOver, ReasonDiskFull},
		{"who has room is slow: a restart would end the same way", func(o *Observation) {
			behind(o, 1<<40, map[string]uint64{"n2": 6400 * mib, "n3": 6400 * mib})
		}, HandOver, ReasonDiskFull},
		{"all are full: once more, here", func(o *Observation) { peersOn(o, alarms(cluster.DiskFull)) }, StartPrimary, ReasonDiskFull},
		{"all are short: here", func(o *Observation) { peersOn(o, alarms(cluster.DiskShort)) }, StartPrimary, ReasonDiskFull},
		{"the second time: a pause", func(o *Observation) { peersOn(o, alarms(cluster.DiskFull)); o.FullStops = 2 }, Wait, ReasonDiskFull},
		{"the pause is over", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			o.FullStops, o.StoppedSince = 2, o.Now.Add(-time.Second)
		}, StartPrimary, ReasonDiskFull},
		{"starts that do not succeed give the key to nobody", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			failed(o, StartPrimary, 100)
			o.FullStops, o.StoppedSince = 100, o.Now.Add(-time.Minute)
		}, StartPrimary, ReasonDiskFull},
		{"after many: a minute and no more", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			o.FullStops, o.StoppedSince = 100, o.Now.Add(1-time.Minute)
		}, Wait, ReasonDiskFull},
		{"room again: at once", func(o *Observation) {
			onDisk(&o.Local, cluster.DiskWell)
			o.Peers["n3"] = cluster.PeerView{Err: "no answer"}
			o.FullStops = 9
		}, StartPrimary, ReasonNoStandby},
		{"C3 another has more, all are full", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			answers(o, "n2", time.Second, func(p *cluster.PeerView) { p.Status.Position.LSN = 1<<40 + 1 })
		}, HandOver, ReasonCrashed},
		{"C3 its own end is being looked for, all are full", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			o.Position = cluster.Position{}
		}, Wait, ReasonUnread},
	})
	runNext(t, base, []nextCase{
		{"not promoted yet, another has room", func(o *Observation) {
			o.Local.Postgres = statusFor("n2").Postgres
			o.Local.Postgres.Incarnation, o.Local.Postgres.Timeline = member("n1").Incarnation, 1
		}, HandOver, ReasonDiskFull},
		{"not promoted yet, nobody has", func(o *Observation) {
			peersOn(o, alarms(cluster.DiskFull))
			o.Local.Postgres = statusFor("n2").Postgres
			o.Local.Postgres.Incarnation, o.Local.Postgres.Timeline = member("n1").Incarnation, 1
		}, Promote, ReasonKeyHeld},
	})
}

// B2: a standby that ends on a full disk is started again with pauses.
func TestB2FullDiskStandbyRests(t *testing.T) {
	base := func() *Observation {
		o := healthy("n2")
		onDisk(&o.Local, cluster.DiskFull)
		stopped(&o.Local.Postgres)
		o.StoppedSince, o.FullStops = o.Now.Add(-time.Millisecond), 3
		return o
	}
	runNext(t, base, []nextCase{
		{"full", func(*Observation) {}, Wait, ReasonDiskFull},
		{"the first time", func(o *Observation) { o.FullStops = 1 }, StartStandby, ReasonStopped},
		{"room again", func(o *Observation) { onDisk(&o.Local, cluster.DiskLow) }, StartStandby, ReasonStopped},
	})
	o := base()
	if d := Next(o); d.Wake != o.StoppedSince.Add(2*firstFullPause) {
		t.Errorf("it rests for %v", d.Wake.Sub(o.StoppedSince))
	}
}

// B2, K6: who is short of space comes last, who is full is no candidate, and neither lowers m.
func TestB2FullDiskCandidates(t *testing.T) {
	runNext(t, taking, []nextCase{
		{"this one has room", func(*Observation) {}, Acquire, ReasonBestCandidate},
		{"this one is short", func(o *Observation) { onDisk(&o.Local, cluster.DiskShort) }, Transfer, ReasonBetterCandidate},
		{"both are short", func(o *Observation) {
			onDisk(&o.Local, cluster.DiskShort)
			s := o.TakeOver.Statuses["n3"]
			onDisk(&s, cluster.DiskShort)
			o.TakeOver.Statuses["n3"] = s
		}, Acquire, ReasonBestCandidate},
		{"both are full", func(o *Observation) {
			onDisk(&o.Local, cluster.DiskFull)
			s := o.TakeOver.Statuses["n3"]
			onDisk(&s, cluster.DiskFull)
			o.TakeOver.Statuses["n3"] = s
		}, Wait, ReasonNoCandidate},
		{"this one is full", func(o *Observation) { onDisk(&o.Local, cluster.DiskFull) }, Transfer, ReasonBetterCandidate},
		{"a tablespace here hangs", func(o *Observation) { onTablespace(&o.Local, cluster.DiskHung) }, Transfer, ReasonBetterCandidate},
		{"this one is short, and the other has less", func(o *Observation) {
			onDisk(&o.Local, cluster.DiskShort)
			o.TakeOver.Promises["n3"] = promised("n3", 4, pos(2, 900))
		}, Acquire, ReasonBestCandidate},
	})
}

// fillModel is three nodes that see each other's disks, and whose Postgres ends on a disk without room. It is simple on
// purpose: a hand-over costs a term and takes a second, whoever Choose would take becomes primary, the rest is decide.Next.
type fillModel struct {
	now    cluster.Instant
	holder string // empty: released, nobody has taken over yet
	since  cluster.Instant
	term   int
	node   map[string]*fillNode
}

type fillNode struct {
	alarm   cluster.DiskAlarm
	short   cluster.Instant
	runs    bool
	stopped cluster.Instant
	stops   int
}

func newFillModel() *fillModel {
	m := &fillModel{now: testNow, holder: "n1", since: testNow.Add(-time.Hour), node: map[string]*fillNode{}}
	for _, n := range []string{"n1", "n2", "n3"} {
		m.node[n] = &fillNode{runs: true}
	}
	return m
}

// set gives a disk an alarm.
func (m *fillModel) set(n string, alarm cluster.DiskAlarm) {
	d := m.node[n]
	if d.alarm != cluster.DiskShort && d.alarm != cluster.DiskFull {
		d.short = m.now
	}
	if alarm != cluster.DiskShort && alarm != cluster.DiskFull {
		d.stops = 0
	}
	d.alarm = alarm
}

// sees is what the holder observes.
func (m *fillModel) sees() *Observation {
	o := healthy("n1")
	o.Now = m.now
	o.Lease.End = m.now.Add(600 * time.Millisecond)
	me := m.node[m.holder]
	onDisk(&o.Local, me.alarm)
	o.HoldsSince, o.ShortSince, o.FullStops = m.since, me.short, me.stops
	if !me.runs {
		stopped(&o.Local.Postgres)
		o.StoppedSince = me.stopped
	}
	others := slices.DeleteFunc([]string{"n1", "n2", "n3"}, func(n string) bool { return n == m.holder })
	for i, as := range []string{"n2", "n3"} { // the holder is n1 to decide, whoever it is
		peer := m.node[others[i]]
		answers(o, as, time.Second, func(p *cluster.PeerView) {
			onDisk(&p.Status, peer.alarm)
			if !peer.runs {
				stopped(&p.Status.Postgres)
				p.Status.CanPromote = "its postgres is stopped"
			}
		})
	}
	return o
}

// step is a second: full disks end what runs on them, and everybody decides.
func (m *fillModel) step() Decision {
	m.now = m.now.Add(time.Second)
	for n, d := range m.node {
		switch {
		case d.runs && d.alarm == cluster.DiskFull:
			d.runs, d.stopped = false, m.now
			d.stops++
		case n != m.holder && !d.runs && (d.alarm != cluster.DiskFull || m.now.Sub(d.stopped) >= longestFullPause):
			d.runs = true
		}
	}
	if m.holder == "" {
		m.acquire()
		return Decision{}
	}
	d := Next(m.sees())
	switch d.Action {
	case HandOver:
		m.node[m.holder].runs, m.node[m.holder].stopped, m.holder = false, m.now, ""
	case StartPrimary:
		m.node[m.holder].runs = true
	}
	return d
}

// acquire is K6 by the policy alone: a node that runs, is not full, and rather one that is not short.
func (m *fillModel) acquire() {
	for _, alarms := range [][]cluster.DiskAlarm{{cluster.DiskWell, cluster.DiskLow}, {cluster.DiskShort}} {
		for _, n := range slices.Sorted(maps.Keys(m.node)) {
			if d := m.node[n]; d.runs && slices.Contains(alarms, d.alarm) {
				m.holder, m.since = n, m.now
				m.term++
				return
			}
		}
	}
}

// B2: a full disk never becomes a failover loop. Whatever is full, and for however long, terms grow with the number of
// times that a disk changes, never with time; and once there is room on a majority, a primary runs.
func TestB2FullDiskNeverLoops(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			draw := rand.New(rand.NewPCG(seed, 30))
			m := newFillModel()
			alarms := []cluster.DiskAlarm{cluster.DiskWell, cluster.DiskLow, cluster.DiskShort, cluster.DiskFull, cluster.DiskFull}
			changes := 0
			for range 6 {
				for _, n := range []string{"n1", "n2", "n3"} {
					if draw.IntN(2) == 0 {
						m.set(n, alarms[draw.IntN(len(alarms))])
						changes++
					}
				}
				for range 60 {
					m.step()
				}
				settled := m.term
				for range 600 {
					m.step()
				}
				if m.term > settled+1 { // one that had to rest, or for which a standby had to come back
					t.Fatalf("terms %d to %d in ten minutes in which no disk changed", settled, m.term)
				}
			}
			if m.term > changes {
				t.Errorf("%d terms for %d changes", m.term, changes)
			}
			for _, n := range []string{"n1", "n2", "n3"} {
				m.set(n, cluster.DiskWell)
			}
			for range 120 {
				m.step()
			}
			if m.holder == "" || !m.node[m.holder].runs {
				t.Errorf("there is room everywhere, and the primary is %q: %+v", m.holder, m.node[m.holder])
			}
		})
	}
}

// B2: all three full. The key stays, starts grow rare, and room brings a primary back at once.
func TestB2AllFullStays(t *testing.T) {
	t.Parallel()
	m := newFillModel()
	for _, n := range []string{"n1", "n2", "n3"} {
		m.set(n, cluster.DiskFull)
	}
	starts := 0
	for range 600 {
		if m.step().Action == StartPrimary {
			starts++
		}
	}
	if m.holder != "n1" || m.term != 0 || starts < 10 || starts > 20 {
		t.Errorf("after ten minutes the key is with %q after %d hand-overs; %d starts", m.holder, m.term, starts)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		m.set(n, cluster.DiskWell)
	}
	for range 3 {
		m.step()
	}
	if m.holder == "" || !m.node[m.holder].runs || m.term > 1 { // C3: whoever is ready first
		t.Errorf("with room again the key is with %q after %d hand-overs", m.holder, m.term)
	}
}

// A hand-over says for whom and why, so that the refusal that goes with it names the disk (K6).
func TestB2HandOverNamesTheDisk(t *testing.T) {
	t.Parallel()
	d := Next(filled(cluster.DiskFull)())
	if d.Node == "" || !strings.Contains(d.Detail, "the disk is full") || !strings.Contains(d.Detail, string(d.Node)) {
		t.Errorf("to %q: %q", d.Node, d.Detail)
	}
}
