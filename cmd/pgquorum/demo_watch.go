package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"pgquorum/api"
)

const (
	askTimeout = 2 * time.Second // of one question to a node
	lookPeriod = 50 * time.Millisecond
	waitLimit  = 90 * time.Second // for the cluster to be whole
)

// sight is the cluster as its nodes tell it at one moment.
type sight struct {
	primary *demoNode              // whose /primary is 200; nil: none
	more    bool                   // than one
	status  map[string]*api.Status // by node; absent: it does not answer
}

// look asks every node.
func (d *demo) look(ctx context.Context) *sight {
	s := &sight{status: map[string]*api.Status{}}
	for _, n := range d.nodes {
		st, err := n.client.Patroni(ctx)
		if err != nil {
			continue // that it does not answer is what there is to know
		}
		s.status[n.name] = st
		if code, err := n.client.Health(ctx, "/primary"); err == nil && code == http.StatusOK {
			s.more, s.primary = s.primary != nil, n
		}
	}
	return s
}

// missing says what the cluster lacks of being whole: one primary, all others streaming from it, and commits confirmed
// by as many of them as the cluster aims at. Empty: nothing.
func (s *sight) missing(nodes []*demoNode) string {
	switch {
	case s.more:
		return "more than one primary"
	case s.primary == nil:
		return "no primary"
	}
	leader := s.status[s.primary.name]
	for _, n := range nodes {
		st := s.status[n.name]
		switch {
		case st == nil:
			return n.name + " does not answer"
		case n != s.primary && (st.ReplicationState != "streaming" || st.Timeline != leader.Timeline):
			return fmt.Sprintf("%s does not stream on timeline %d yet (%s)", n.name, leader.Timeline, st.PGQuorum.Phase)
		}
	}
	if sync := leader.PGQuorum.Sync; sync.K < sync.KFull || len(sync.Set) < len(nodes)-1 || sync.Rules != 1 {
		return fmt.Sprintf("commits wait for %d of the standbys %v, the aim is %d of %d (rules: %d)", sync.K, sync.Set, sync.KFull, len(nodes)-1, sync.Rules)
	}
	return ""
}

// primary gives the one primary.
func (d *demo) primary(ctx context.Context) (*demoNode, error) {
	s := d.look(ctx)
	if s.primary == nil || s.more {
		return nil, errors.New("want one primary: " + s.missing(d.nodes))
	}
	return s.primary, nil
}

// awaitWhole waits until the cluster is whole and enough says yes, and tells meanwhile what the nodes became.
func (d *demo) awaitWhole(ctx context.Context, enough func(*sight) string) (s *sight, err error) {
	err = d.await(ctx, "the cluster is whole", func(ctx context.Context) (string, error) {
		s = d.look(ctx)
		d.tell(s)
		if what := enough(s); what != "" {
			return what, nil
		}
		return s.missing(d.nodes), nil
	})
	return s, err
}

// tell says what changed since the last look.
func (d *demo) tell(s *sight) {
	for _, n := range d.nodes {
		st, text := s.status[n.name], ""
		switch {
		case st == nil:
		case n == s.primary:
			text = fmt.Sprintf("%s is the primary, on timeline %d (term %d).", n.name, st.Timeline, st.PGQuorum.Term)
		case st.ReplicationState == "streaming" && s.primary != nil && st.Timeline == s.status[s.primary.name].Timeline:
			text = fmt.Sprintf("%s is a standby and streams from %s.", n.name, s.primary.name)
		}
		if text != "" && text != d.told[n.name] {
			d.story.say("  %s", text)
			d.told[n.name] = text
		}
	}
}

// await asks again and again until nothing is missing. The error says what still was, or which process ended.
func (d *demo) await(ctx context.Context, what string, missing func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	for last := ""; ; {
		text, err := missing(ctx)
		if err != nil || text == "" {
			return err
		}
		if ctx.Err() == nil {
			last = text // not what a question said that was cut off
		}
		if err := d.anyEnded(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v until %s: %s", waitLimit, what, last)
		case <-tick.C:
		}
	}
}

// anyEnded says that an agent or HAProxy ended by itself.
func (d *demo) anyEnded() error {
	for _, n := range d.nodes {
		if how, yes := n.process.ended(); yes {
			return fmt.Errorf("agent of %s ended: %s", n.name, how)
		}
	}
	if d.proxy != nil {
		if how, yes := d.proxy.process.ended(); yes {
			return fmt.Errorf("HAProxy ended: %s", how)
		}
	}
	return nil
}
