package pgctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"pgquorum/cluster"
)

// accept begins a session for each connection until the listener is closed.
func (g *guardServer) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			g.log.Error("guard socket: accept", "error", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors: not worth a busy loop
			continue
		}
		go g.serve(&guardSession{conn: conn})
	}
}

// guardSession is one agent's connection.
type guardSession struct {
	conn  net.Conn
	write sync.Mutex
}

// send writes one line. An agent that does not read must not hold the guard up: after a second its session ends.
func (s *guardSession) send(a guardAnswer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("guard answer: encode: %w", err)
	}
	s.write.Lock()
	defer s.write.Unlock()
	err = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	if err == nil {
		_, err = s.conn.Write(append(line, '\n'))
	}
	if err != nil {
		return errors.Join(err, s.conn.Close())
	}
	return nil
}

// serve handles one session's requests. The quick ones are answered in order; those that wait for Postgres run beside.
func (g *guardServer) serve(s *guardSession) {
	defer s.conn.Close()
	in := bufio.NewReader(s.conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // the agent went away; the lease and Postgres stay as they are
		}
		var r guardRequest
		if err := json.Unmarshal(line, &r); err != nil {
			g.answer(s, r, nil, fmt.Errorf("%w: %w", errBadRequest, err))
			continue
		}
		switch r.Op {
		case opHello, opLease, opStatus, opReload:
			status, err := g.handle(s, r)
			g.answer(s, r, status, err)
		default:
			go func() {
				status, err := g.handle(s, r)
				g.answer(s, r, status, err)
				if r.Op == opQuit && err == nil {
					close(g.quit)
				}
			}()
		}
	}
}

func (g *guardServer) answer(s *guardSession, r guardRequest, status *GuardDetail, err error) {
	a := guardAnswer{ID: r.ID, OK: err == nil, Status: status}
	if err != nil {
		a.Code, a.Error = codeOf(err), err.Error()
	}
	if err := s.send(a); err != nil {
		g.log.Warn("answer not sent", "op", r.Op, "error", err)
	}
}

// handle carries out one request. Only the newest session that said hello may order anything (U1).
func (g *guardServer) handle(s *guardSession, r guardRequest) (*GuardDetail, error) {
	if r.Op == opHello {
		if r.Version != guardVersion {
			return nil, fmt.Errorf("%w: this guard %d, the agent %d", ErrGuardVersion, guardVersion, r.Version)
		}
		g.mu.Lock()
		g.session = s
		g.mu.Unlock()
		return g.detail(), nil
	}
	g.mu.Lock()
	newest := g.session == s
	g.mu.Unlock()
	if !newest {
		return nil, ErrSuperseded
	}
	switch r.Op {
	case opLease:
		return nil, g.setLease(cluster.Lease{Term: r.Term, RaftTerm: r.RaftTerm, End: r.End}, r.Fence, r.Grace)
	case opStatus:
		return g.detail(), nil
	case opFence:
		return nil, g.fence(r.Term)
	case opStart:
		if r.Start == nil {
			return nil, fmt.Errorf("%w: start without arguments", errBadRequest)
		}
		return nil, g.start(*r.Start)
	case opPromote:
		return nil, g.promote(r.Term)
	case opStop:
		return nil, g.stop(s, r.Mode, r.Deadline)
	case opWatchdog:
		return nil, g.setWatchdog(r.Watchdog)
	case opReload:
		return nil, g.reload()
	case opThaw:
		return nil, g.thaw(r.From, r.Term)
	case opQuit:
		return nil, g.prepareQuit()
	}
	return nil, fmt.Errorf("%w: operation %q", errBadRequest, r.Op)
}
