package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"pgquorum/agent"
	"pgquorum/cluster"
)

// server is the model of one run of PostgreSQL. Its fields are guarded by the host's mu.
type server struct {
	h    *Host
	ctx  context.Context // its life
	end  context.CancelFunc
	run  string // postmaster start time
	port net.Listener

	dead         bool
	state        cluster.PostgresState
	recovering   bool // pg_is_in_recovery
	mayBePrimary bool // started as one, or a promotion was ordered in this life
	byHand       bool // somebody promoted it, and not its agent
	sync         agent.SyncList
	since        time.Time

	senders  map[*sender]struct{}
	receiver *receiver // nil: no WAL receiver
	received cluster.LSN
}

var (
	errNoServer = errors.New("server closed the connection")
	errReadOnly = errors.New("cannot execute INSERT in a read-only transaction")
)

// newServer begins a run, which still starts. Called with h.mu.
func newServer(h *Host, primary bool) *server {
	ctx, end := context.WithCancel(context.Background())
	s := &server{h: h, ctx: ctx, end: end, run: fmt.Sprintf("%s %d", h.Name, h.world.number()), state: cluster.PostgresStarting,
		recovering: true, mayBePrimary: primary, senders: map[*sender]struct{}{}, since: time.Now()}
	h.server = s
	return s
}

// open takes sessions and standbys. Called with h.mu.
func (s *server) openLocked(recovering bool) {
	s.state, s.recovering, s.sync = cluster.PostgresRunning, recovering, s.h.disk.sync
	s.port = s.h.world.net.Listen(s.h.Name, servicePostgres)
	s.h.world.live(s.accept)
	if recovering {
		s.h.world.live(s.follow)
	}
}

func (s *server) accept() {
	for {
		c, err := s.port.Accept()
		if err != nil {
			return
		}
		s.h.world.live(func() { s.serve(c) })
	}
}

// kill ends the run at once, as SIGKILL does.
func (s *server) kill() { s.finish(false) }

// finish ends the run; clean: with a shutdown checkpoint that its caller has written.
func (s *server) finish(clean bool) {
	s.h.mu.Lock()
	if s.dead {
		s.h.mu.Unlock()
		return
	}
	s.dead = true
	s.h.disk.clean = clean
	if s.h.server == s {
		s.h.server = nil
	}
	if s.h.halted { // nothing of it is left to be frozen
		s.h.haltLocked(false)
	}
	s.h.wakeLocked()
	s.h.mu.Unlock()
	s.end()
	s.h.world.net.Kill(s.h.Name, servicePostgres, s.h.isOff())
}

func (s *server) alive() bool { return s.ctx.Err() == nil }

// primaryLocked says whether it takes writes.
func (s *server) primaryLocked() bool {
	return !s.dead && s.state == cluster.PostgresRunning && !s.recovering
}

// lawfulLocked says whether it takes writes and was made a primary by its agent. Nobody's clients are at one that somebody has
// promoted by hand (docs/protocol.md, A7).
func (s *server) lawfulLocked() bool { return s.primaryLocked() && !s.byHand }

// Insert commits a row as a session of this host does, and gives the record once the commit is acknowledged: when the
// list that is in force is satisfied. An error after ctx or the server has ended says nothing about the row.
func (h *Host) Insert(ctx context.Context, row int64) error {
	h.mu.Lock()
	s := h.server
	if s == nil || s.state != cluster.PostgresRunning || h.stillLocked(servicePostgres) {
		h.mu.Unlock()
		return errNoServer
	}
	if !s.lawfulLocked() {
		h.mu.Unlock()
		return errReadOnly
	}
	r := h.disk.wal.append(h.disk.wal.end().Timeline, h.world.number(), row)
	h.wakeLocked()
	h.mu.Unlock()
	h.world.history.tried(row)
	return s.awaitSync(ctx, r)
}

// awaitSync waits as a backend does for its synchronous standbys, and acknowledges.
func (s *server) awaitSync(ctx context.Context, r record) error {
	for {
		s.h.mu.Lock()
		if s.dead || s.state != cluster.PostgresRunning && s.state != cluster.PostgresStopping {
			s.h.mu.Unlock()
			return errNoServer
		}
		if !s.h.stillLocked(servicePostgres) && !s.h.stillLocked(serviceDisk) { // its own disk has it
			if at, ok := s.confirmedLocked(r.End); ok {
				s.h.world.acknowledged(s.h.Name, r, at)
				s.h.mu.Unlock()
				return nil
			}
		}
		changed := s.h.changed
		s.h.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// confirmedLocked says whether the list in force is satisfied for a position, by any K of it or by its first K that stream,
// and when the first of the confirmations that it took was sent; for K = 0 that is now.
func (s *server) confirmedLocked(lsn cluster.LSN) (at time.Time, ok bool) {
	if s.sync.K == 0 {
		return time.Now(), true
	}
	var sent []time.Time
	for _, m := range s.sync.Members {
		first := s.sync.Mode == cluster.SyncOn
		if c := s.senderLocked(m); c == nil || first && len(sent) == s.sync.K {
			continue
		} else if c.flushedLocked() >= lsn {
			sent = append(sent, c.confirmedAtLocked(lsn))
		} else if first {
			return at, false
		}
	}
	if len(sent) < s.sync.K {
		return at, false
	}
	return slices.MinFunc(sent, time.Time.Compare), true
}

// senderLocked is a member's walsender that bears the name which the list in force has for it; nil: it has none.
func (s *server) senderLocked(m cluster.Member) *sender {
	for c := range s.senders {
		if c.member == m && c.timeline == s.sync.Timeline {
			return c
		}
	}
	return nil
}

// statusLocked is what one query tells.
func (s *server) statusLocked(st *cluster.PostgresStatus, now cluster.Instant) {
	w := &s.h.disk.wal
	st.State, st.StartTime, st.Timeline = s.state, s.run, w.end().Timeline
	if s.state != cluster.PostgresRunning {
		return
	}
	st.SyncNames = fmt.Sprint(s.sync)
	if s.recovering {
		st.Role, st.Received, st.Replayed = cluster.RoleStandby, s.received, w.end().LSN
		st.Streaming = s.receiver != nil && s.receiver.streams
	} else {
		st.Role, st.Current = cluster.RolePrimary, w.end().LSN
	}
	for c := range s.senders {
		st.Replication = append(st.Replication, cluster.WalSender{AppName: c.member.AppName(c.timeline), Addr: string(c.member.Node), State: "streaming",
			Sent: c.sent, Flushed: c.flushedLocked(), Replayed: c.flushedLocked(), ReplyAge: now.Sub(c.replied)})
	}
	slices.SortFunc(st.Replication, func(a, b cluster.WalSender) int {
		switch {
		case a.AppName < b.AppName:
			return -1
		case a.AppName > b.AppName:
			return 1
		}
		return 0
	})
}
