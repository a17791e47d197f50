//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// each does the same to several hosts at once.
func (s *Stage) each(hosts []*Host, f func(*Host) error) error {
	var g errgroup.Group
	for _, h := range hosts {
		g.Go(func() error { return f(h) })
	}
	return g.Wait()
}

// Promoting waits until a node other than old has been given the leader key, before or while it is promoted.
func (s *Stage) Promoting(old *Host) (h *Host) {
	s.Helper()
	s.Within(settleTime, func() error {
		for _, other := range s.Others(old) {
			members, err := s.Members(s.Ctx, other)
			if err != nil {
				continue
			}
			for _, m := range members {
				if m.Role == "leader" && m.Name != old.Name {
					h = s.Host(m.Name)
					return nil
				}
			}
		}
		return errors.New("no other node has the leader key")
	})
	return h
}

// rewinding says whether a rewind or a clone of a node has begun since an event.
func (s *Stage) rewinding(h *Host, since uint64) error {
	p, err := s.Primary(s.Ctx)
	if err != nil {
		return err
	}
	events, err := s.Events(s.Ctx, p)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.ID > since && e.Node == h.Name && (e.Type == "rewind" || e.Type == "clone") {
			return nil
		}
	}
	return fmt.Errorf("%s: no rewind has begun", h.Name)
}

// ackedInside says whether the client on a node's own host has had a write acknowledged.
func (s *Stage) ackedInside(h *Host) error {
	for _, w := range s.Load.History.Writes() {
		if w.Acked && w.Via == "inside:"+h.Name {
			return nil
		}
	}
	return fmt.Errorf("%s: its own client has written nothing", h.Name)
}

// readOnly says whether a node without a quorum serves reads, directly and through HAProxy, and is no primary.
func (s *Stage) readOnly(h *Host) error {
	for path, want := range map[string]int{"/primary": http.StatusServiceUnavailable, "/replica": http.StatusOK} {
		if code, err := s.Code(s.Ctx, h, path); err != nil || code != want {
			return fmt.Errorf("%s: GET %s: want %d, have %d, %w", h.Name, path, want, code, err)
		}
	}
	for _, from := range []string{dsn("app", "", h.Addr, 5432), dsn("app", "", s.LB.Addr, readPort)} {
		if err := s.reads(from); err != nil {
			return fmt.Errorf("%s: reads: %w", h.Name, err)
		}
	}
	return nil
}

func (s *Stage) reads(from string) error {
	ctx, cancel := context.WithTimeout(s.Ctx, time.Second)
	defer cancel()
	conn, err := connect(ctx, s.client, from)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var n int
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT count(*), pg_is_in_recovery() FROM writes").Scan(&n, &standby); err != nil {
		return err
	}
	if !standby || n == 0 {
		return fmt.Errorf("want a standby with rows, have standby %v with %d rows", standby, n)
	}
	return nil
}
