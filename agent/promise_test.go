package agent

import (
	"context"
	"slices"
	"testing"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// V1: before its own copy of the state machine says so, a standby streams only from whom the taker may name.
func TestV1FollowOrder(t *testing.T) {
	t.Parallel()
	holder := followRequest{Term: 3, RaftTerm: 8, Source: "n1", Addr: "n1:5432", Timeline: 2}
	catchUp := followRequest{Term: 4, RaftTerm: 8, Source: "n2", Addr: "n2:5432", CatchUp: true}
	edit := func(q followRequest, f func(*followRequest)) followRequest { f(&q); return q }
	stopped := func(p *cluster.PostgresStatus) { p.State, p.Role = cluster.PostgresStopped, cluster.RoleNone }
	cutOff := func(p *cluster.PostgresStatus) {
		p.Source, p.SourceTerm, p.SourceTimeline, p.Streaming = "", 0, 0, false
	}
	for name, tt := range map[string]struct {
		q        followRequest
		promised cluster.Term
		postgres func(*cluster.PostgresStatus)
		want     string
	}{
		"the key's holder":             {holder, 3, nil, "n3 Follow n1 3 false"},
		"catch-up":                     {catchUp, 4, nil, "n3 Follow n2 4 true"},
		"older raft term":              {edit(holder, func(q *followRequest) { q.RaftTerm = 7 }), 3, nil, ""},
		"catch-up, older raft term":    {edit(catchUp, func(q *followRequest) { q.RaftTerm = 7 }), 4, nil, ""},
		"older key term":               {edit(holder, func(q *followRequest) { q.Term = 2 }), 3, nil, ""},
		"not whom the key names":       {edit(holder, func(q *followRequest) { q.Source = "n2" }), 3, nil, ""},
		"itself":                       {edit(catchUp, func(q *followRequest) { q.Source = "n3" }), 4, nil, ""},
		"catch-up of no promised term": {catchUp, 3, nil, ""},
		"catch-up of a later term":     {edit(catchUp, func(q *followRequest) { q.Term = 5 }), 4, nil, ""},
		"catch-up of an older term":    {catchUp, 5, nil, ""},
		"its WAL is the beginning":     {edit(holder, func(q *followRequest) { q.Position = cluster.Position{Timeline: 2, LSN: 1000} }), 3, cutOff, "n3 Follow n1 3 false"},
		"S6 its WAL is longer":         {edit(holder, func(q *followRequest) { q.Position = cluster.Position{Timeline: 2, LSN: 999} }), 3, cutOff, ""},
		"S6 its WAL is another's":      {edit(holder, func(q *followRequest) { q.Position = cluster.Position{Timeline: 1, LSN: 5000} }), 3, cutOff, ""},
		"it has gone over already":     {edit(holder, func(q *followRequest) { q.Position = cluster.Position{Timeline: 1, LSN: 5000} }), 3, nil, "n3 Follow n1 3 false"},
		"an older term than promised":  {holder, 4, nil, ""},
		"postgres stopped":             {holder, 3, stopped, ""},
		"postgres hung":                {holder, 3, func(p *cluster.PostgresStatus) { p.State = cluster.PostgresHung }, ""},
		"postgres a primary":           {catchUp, 4, func(p *cluster.PostgresStatus) { p.Role = cluster.RolePrimary }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.failed()
				c.nodes["n3"].pg.edit(func(*cluster.PostgresStatus) { c.nodes["n3"].pg.promised = tt.promised })
				if tt.postgres != nil {
					c.set("n3", tt.postgres)
				}
				err := n2.peers.call(c.life, "n3", "/follow", tt.q, nil)
				var want []string
				if tt.want != "" {
					want = []string{tt.want}
				}
				if got := c.calls.all("n3 Follow"); (err == nil) != (want != nil) || !slices.Equal(got, want) {
					t.Errorf("error %v, calls %q, want %q", err, got, want)
				}
			})
		})
	}
}

// askPromise asks n3 as n2 would, over the peer channel, but without n2's deadline.
func askPromise(c *fakeCluster) (cluster.Promise, error) {
	var p cluster.Promise
	err := c.nodes["n2"].peers.call(c.life, "n3", "/promise", promiseRequest{Term: 4, RaftTerm: 8, From: "n2"}, &p)
	return p, err
}

// V1, U4, V2, V3: nothing is cut before the promise is durable and the guard has fenced, and the position is read last.
func TestV1PromiseIsMadeInOrder(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ held, after string }{
		"V1 durable first": {"n3 Promise", "n3 Cut"},
		"U4 fenced first":  {"n3 Fence", "n3 Cut"},
		"V2 cut first":     {"n3 Cut", "n3 Position"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.failed()
				release := c.calls.block(tt.held)
				answered := background(func() error { _, err := askPromise(c); return err })
				if c.calls.count(tt.held) != 1 || c.calls.count(tt.after) != 0 || !pending(answered) {
					t.Fatalf("while %s goes on: %q", tt.held, c.calls.all("n3"))
				}
				release()
				if err := outcome(t, answered); err != nil {
					t.Fatal(err)
				}
				if !c.calls.ordered("n3 Promise 4", "n3 Cut", "n3 Position") || !c.calls.ordered("n3 Fence 3", "n3 Cut") {
					t.Errorf("order of calls: %q", c.calls.all("n3"))
				}
			})
		})
	}
}

// V1, U4, V2, V3: a step that fails gives no promise, and none of the steps after it is taken.
func TestV1FailedStepGivesNoPromise(t *testing.T) {
	t.Parallel()
	for failing, never := range map[string]string{
		"n3 Promise": "n3 Cut", "n3 Fence": "n3 Cut", "n3 Cut": "n3 Position", "n3 Position": "n3 Follow",
	} {
		t.Run(failing, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.failed()
				c.calls.fail(failing)
				if p, err := askPromise(c); err == nil {
					t.Errorf("promised %+v", p)
				}
				if got := c.calls.all(never); len(got) != 0 {
					t.Errorf("after %s failed: %q", failing, got)
				}
				ledger := gather(t, n2)
				if _, ok := ledger.Promises["n3"]; ok || ledger.NoPromise["n3"] == "" {
					t.Errorf("the taker's ledger has promises %v and reasons %v", ledger.Promises, ledger.NoPromise)
				}
			})
		})
	}
}

// gather is one round of promises for the next term, asked by n.
func gather(t *testing.T, n *fakeNode) decide.TakeOver {
	t.Helper()
	o := n.observe()
	if err := n.askPromises(context.WithoutCancel(t.Context()), o, decide.Decision{Action: decide.AskPromises, Term: o.TakeOver.Term}); err != nil {
		t.Fatal(err)
	}
	return n.observe().TakeOver
}

// V1: what a promise says is what the node found after the cut.
func TestV1PromiseTellsThePositionAfterTheCut(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		c.failed()
		n3 := c.nodes["n3"].pg
		c.calls.hook("n3 Cut", func(context.Context) error {
			n3.edit(func(*cluster.PostgresStatus) { n3.pos.LSN = 1234 })
			return nil
		})
		p, err := askPromise(c)
		want := cluster.Promise{Term: 4, Member: member("n3"), Position: cluster.Position{Timeline: 2, LSN: 1234}, Fenced: true}
		if err != nil || p != want {
			t.Errorf("promise %+v, %v, want %+v", p, err, want)
		}
	})
}

// G1, V1: after a promise the keeper has no lease of an older term, and none that was being acquired comes to life.
func TestV1PromiseEndsTheOlderLease(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1, n2 := c.nodes["n1"], c.nodes["n2"]
		n1.keeper.acquired(3, 7)
		c.lead("n2")
		var p cluster.Promise
		if err := n2.peers.call(c.life, "n1", "/promise", promiseRequest{Term: 4, RaftTerm: 8, From: "n2"}, &p); err != nil {
			t.Fatal(err)
		}
		if l, state := n1.keeper.current(); state != decide.LeaseNone {
			t.Errorf("after the promise of term 4 the keeper has %+v in state %d", l, state)
		}
		n1.keeper.mu.Lock()
		defer n1.keeper.mu.Unlock()
		if n1.keeper.over != 3 {
			t.Errorf("leases up to term %d have ended, want 3", n1.keeper.over)
		}
	})
}

// ADR 0014: a holder under a live lease promises nobody, and nothing is cut or fenced.
func TestV1HolderUnderALiveLeaseRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n1 := c.nodes["n1"]
		n1.keeper.continues(3, c.clock.now().Add(fakeHeartbeat))
		c.lead("n2")
		err := c.nodes["n2"].peers.call(c.life, "n1", "/promise", promiseRequest{Term: 4, RaftTerm: 8, From: "n2"}, nil)
		if err == nil || c.calls.count("n1 Promise")+c.calls.count("n1 Fence")+c.calls.count("n1 Cut") != 0 {
			t.Errorf("error %v, calls %q", err, c.calls.all("n1"))
		}
	})
}
