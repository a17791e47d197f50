package sim

import (
	"cmp"
	"context"
	"encoding/gob"
	"maps"
	"net"
	"slices"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// sender is one walsender. Guarded by the host's mu.
type sender struct {
	member   cluster.Member
	timeline cluster.Timeline // whose primary the standby was told to follow; a part of its application_name
	conn     net.Conn
	sent     cluster.LSN
	beyond   bool           // the standby's WAL ends where this history does not lead: PostgreSQL does not know, and counts what it says
	flushed  []confirmation // each farther than the one before
	replied  cluster.Instant
}

// confirmation is a standby's word how far it has flushed.
type confirmation struct {
	Flushed cluster.LSN
	Sent    time.Time // by the standby: it may arrive late
}

// flushedLocked is how far the standby says that it is.
func (s *sender) flushedLocked() cluster.LSN { return s.flushed[len(s.flushed)-1].Flushed }

// confirmedAtLocked is when the standby sent the first word of having flushed a position, which it has.
func (s *sender) confirmedAtLocked(lsn cluster.LSN) time.Time {
	i, _ := slices.BinarySearchFunc(s.flushed, lsn, func(c confirmation, lsn cluster.LSN) int { return cmp.Compare(c.Flushed, lsn) })
	return s.flushed[i].Sent
}

// startReplication is a receiver's first message; the next ones are confirmations.
type startReplication struct {
	Member   cluster.Member
	Timeline cluster.Timeline
	End      cluster.Position
	Last     int64 // the number of the record there, which no PostgreSQL tells or asks for
	Sent     time.Time
	Copy     bool // a copy of everything: pg_basebackup, pg_rewind
	Look     bool // only whether the WAL is there
}

// walMessage is what a sender sends; no records: a keepalive, or with Error the end.
type walMessage struct {
	Error   string
	Records []record
	Forks   map[cluster.Timeline]cluster.Fork
	Primary bool
	All     bool // Records are everything, from the beginning
}

// The pauses of replication, as pgctl sets them (pgctl/settings.go).
const (
	receiverStatusInterval = time.Second
	senderTimeout          = 5 * time.Second
	retrieveRetryInterval  = 50 * time.Millisecond
)

// serve is one connection to this server.
func (s *server) serve(c net.Conn) {
	defer c.Close()
	in, out := gob.NewDecoder(c), gob.NewEncoder(c)
	var req startReplication
	if c.SetReadDeadline(time.Now().Add(senderTimeout)) != nil || in.Decode(&req) != nil {
		return
	}
	if !s.h.thawed(servicePostgres, s.alive) {
		return
	}
	if req.Copy {
		_ = out.Encode(s.everything()) // the other end sees what it lacks
		return
	}
	if req.Look {
		_ = out.Encode(s.servable(req.End)) // as above
		return
	}
	me, refusal := s.admit(c, req)
	if refusal != "" {
		_ = out.Encode(walMessage{Error: refusal}) // as above
		return
	}
	defer s.h.change(func() { delete(s.senders, me) })
	s.h.world.live(func() { s.readReplies(me, c, in) })
	s.stream(me, out, req)
}

// everything is what a copy takes: all records as they are now.
func (s *server) everything() walMessage {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.dead || s.state != cluster.PostgresRunning {
		return walMessage{Error: "not running"}
	}
	w := s.h.disk.wal.clone()
	return walMessage{Records: w.records, Forks: w.forks, Primary: !s.recovering, All: true}
}

// servable says whether the WAL after a position is there.
func (s *server) servable(from cluster.Position) walMessage {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if from.LSN < s.h.disk.removed {
		return walMessage{Error: errRemoved}
	}
	return walMessage{}
}

const errRemoved = "requested WAL segment has already been removed"

// admit makes a walsender, or says why not.
func (s *server) admit(c net.Conn, req startReplication) (me *sender, refusal string) {
	now := s.h.now()
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.dead || s.state != cluster.PostgresRunning {
		return nil, "the database system is starting up or shutting down"
	}
	for other := range s.senders {
		if other.member.Node == req.Member.Node {
			return nil, "replication slot is active"
		}
	}
	beyond, err := s.h.disk.wal.admits(req.End)
	if err != nil {
		return nil, err.Error()
	}
	if req.End.LSN < s.h.disk.removed {
		return nil, errRemoved
	}
	if r := (record{End: req.End.LSN, Number: req.Last}); r.End != 0 && !beyond && !s.h.disk.wal.has(r) {
		s.h.world.violated("F3: %s streams to %s from %s of timeline %d on, where it has another record", s.h.Name, req.Member.Node, req.End.LSN, req.End.Timeline)
	}
	me = &sender{member: req.Member, timeline: req.Timeline, conn: c, sent: req.End.LSN, beyond: beyond, flushed: []confirmation{{req.End.LSN, req.Sent}}, replied: now}
	s.senders[me] = struct{}{}
	s.h.wakeLocked()
	return me, ""
}

// stream sends what there is and what comes.
func (s *server) stream(me *sender, out *gob.Encoder, req startReplication) {
	var last time.Time // when something was sent
	for {
		if !s.h.thawed(servicePostgres, s.alive) {
			return
		}
		now := s.h.now()
		s.h.mu.Lock()
		w := &s.h.disk.wal
		late := now.Sub(me.replied) > senderTimeout
		_, there := s.senders[me]
		m := walMessage{Primary: !s.recovering}
		me.beyond = me.beyond && w.serves(req.End) != nil
		left := me.beyond && w.end().Timeline != req.End.Timeline
		if i := index(me.sent); !me.beyond && i < len(w.records) {
			m.Records = append([]record(nil), w.records[i:]...)
			m.Forks = maps.Clone(w.forks)
			me.sent = w.end().LSN
		}
		changed := s.h.changed
		s.h.mu.Unlock()
		switch {
		case late, !there:
			return
		case left: // what is common to both has been sent again, and the standby's word was taken meanwhile
			_ = pause(s.ctx, s.h.drawWithin(20*time.Millisecond))                             // the message says the end as well
			_ = out.Encode(walMessage{Error: "end of WAL reached on the requested timeline"}) // as above
			return
		}
		if m.Records != nil || time.Since(last) >= receiverStatusInterval {
			if out.Encode(m) != nil {
				return
			}
			last = time.Now()
		}
		timer := time.NewTimer(receiverStatusInterval)
		select {
		case <-s.ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// readReplies notes how far the standby says that it has flushed.
func (s *server) readReplies(me *sender, c net.Conn, in *gob.Decoder) {
	for {
		var got confirmation
		if c.SetReadDeadline(time.Time{}) != nil || in.Decode(&got) != nil || !s.h.thawed(servicePostgres, s.alive) {
			s.h.change(func() { delete(s.senders, me) })
			_ = c.Close()
			return
		}
		now := s.h.now()
		s.h.change(func() {
			me.replied = now
			if got.Flushed > me.flushedLocked() {
				me.flushed = append(me.flushed, got)
			}
		})
	}
}

// receiver is the WAL receiver. Guarded by the host's mu.
type receiver struct {
	conn    net.Conn
	stop    context.CancelFunc
	streams bool
}

// follow keeps a WAL receiver as long as the server recovers: the one that the standby's file names at each moment.
func (s *server) follow() {
	for s.alive() {
		s.h.mu.Lock()
		src, changed, still := s.h.disk.source, s.h.changed, s.recovering
		s.h.mu.Unlock()
		if !still {
			return
		}
		if src == nil {
			select {
			case <-s.ctx.Done():
			case <-changed:
			}
			continue
		}
		s.receiveFrom(*src)
		_ = pause(s.ctx, retrieveRetryInterval) // the loop's own condition looks at its end
	}
}

// receiveFrom is one life of the receiver.
func (s *server) receiveFrom(src agent.Source) {
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	rc := &receiver{stop: stop}
	s.h.mu.Lock()
	if s.dead || !s.recovering || s.h.disk.source == nil || *s.h.disk.source != src {
		s.h.mu.Unlock()
		return
	}
	s.receiver = rc
	req := startReplication{Member: cluster.Member{Node: s.h.Name, Incarnation: s.h.disk.incarnation}, Timeline: src.Timeline, End: s.h.disk.wal.end(), Last: s.h.disk.wal.last(), Sent: time.Now()}
	s.h.mu.Unlock()
	defer s.h.change(func() {
		if s.receiver == rc {
			s.receiver = nil
		}
	})
	dialling, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := s.h.world.net.Dial(dialling, s.h.Name, src.Node, servicePostgres)
	if err != nil {
		return
	}
	defer c.Close()
	s.h.mu.Lock()
	rc.conn = c
	s.h.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	out := gob.NewEncoder(c)
	if !s.tell(src, out, req) {
		return
	}
	s.receive(ctx, rc, c, src, out, req.End.LSN)
}

// tell sends its source what a standby says: how far it has flushed, in a confirmation or in its first message (V2).
func (s *server) tell(src agent.Source, out *gob.Encoder, what any) (sent bool) {
	wrong := s.h.world.cannotConfirm(s.h.Name, src)
	if out.Encode(what) != nil {
		return false
	}
	if wrong != "" {
		s.h.world.violated("%s", wrong)
	}
	return true
}

// receive writes what comes, and replies.
func (s *server) receive(ctx context.Context, rc *receiver, c net.Conn, src agent.Source, out *gob.Encoder, last cluster.LSN) {
	replies := make(chan cluster.LSN, 1)
	s.h.world.live(func() {
		tick := time.NewTicker(receiverStatusInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case last = <-replies:
			case <-tick.C:
			}
			if !s.h.thawed(servicePostgres, s.alive) || !s.tell(src, out, confirmation{last, time.Now()}) {
				return
			}
		}
	})
	in := gob.NewDecoder(c)
	for {
		var m walMessage
		if c.SetReadDeadline(time.Now().Add(2*senderTimeout)) != nil || in.Decode(&m) != nil || m.Error != "" {
			return
		}
		if !s.h.thawed(servicePostgres, s.alive) || pause(ctx, s.h.drawWithin(200*time.Microsecond)) != nil {
			return
		}
		at, ok := s.store(rc, m)
		if !ok || !s.h.thawed(serviceDisk, s.alive) { // it is flushed, and may be said to be
			return
		}
		select {
		case <-replies:
		default:
		}
		replies <- at
	}
}

// store writes records behind the end, and flushes them; not ok: this receiver has ended.
func (s *server) store(rc *receiver, m walMessage) (flushed cluster.LSN, ok bool) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.dead || s.receiver != rc || !s.recovering {
		return 0, false
	}
	w := &s.h.disk.wal
	rc.streams = true
	for _, r := range m.Records {
		if r.End <= w.end().LSN {
			if !w.has(r) {
				s.h.world.violated("%s: record %d of timeline %d was streamed over another one at %s", s.h.Name, r.Number, r.Timeline, r.End)
			}
			continue
		}
		if index(r.End) != len(w.records)+1 {
			return 0, false
		}
		w.records = append(w.records, r)
	}
	for t, f := range m.Forks {
		if _, have := w.forks[t]; !have { // a history file that is there is not fetched
			w.forks[t] = f
		}
	}
	if len(m.Records) > 0 {
		s.received = w.end().LSN
	}
	s.h.wakeLocked()
	return w.end().LSN, true
}
