package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgquorum/agent/decide"
	"pgquorum/cluster"
)

// S6 (ADR 0036): a standby that promised with WAL which the candidate has not is not told to stream from it, although the new
// rule may name it: PostgreSQL would take its word for commits that it does not have.
func TestS6WhoHasMoreIsNotToldToFollow(t *testing.T) {
	for name, tt := range map[string]struct {
		promised, has cluster.Position
		want          []string
	}{
		"as much":                     {cluster.Position{Timeline: 2, LSN: 1000}, cluster.Position{Timeline: 2, LSN: 1000}, []string{"n3 Follow n2 4 false"}},
		"more":                        {cluster.Position{Timeline: 2, LSN: 1001}, cluster.Position{Timeline: 2, LSN: 1001}, nil},
		"more, by its promise":        {cluster.Position{Timeline: 2, LSN: 1001}, cluster.Position{Timeline: 2, LSN: 1000}, nil},
		"more, by what it has":        {cluster.Position{Timeline: 2, LSN: 1000}, cluster.Position{Timeline: 2, LSN: 1001}, nil},
		"on a timeline that was left": {cluster.Position{Timeline: 1, LSN: 2000}, cluster.Position{Timeline: 1, LSN: 2000}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.lead("n2")
				n2, n3 := c.nodes["n2"], c.nodes["n3"]
				n2.observe()
				p := promiseOf("n3", 4)
				p.Position = tt.promised
				n2.enter(8, "n2", promiseOf("n2", 4), nil)
				n2.enter(8, "n3", p, nil)
				if err := n2.pg.Cut(c.life); err != nil { // by its own promise
					t.Fatal(err)
				}
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.promised, n3.pg.pos = 4, tt.has })
				if err := n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := c.calls.all("n3 Follow"); !slices.Equal(got, tt.want) {
					t.Errorf("calls %q, want %q", got, tt.want)
				}
				var names cluster.Timeline
				n3.pg.edit(func(p *cluster.PostgresStatus) { names = p.SourceTimeline })
				if k := c.current().Key; tt.want != nil && names != k.Timeline {
					t.Errorf("it follows under the name of timeline %d, the key has %d", names, k.Timeline)
				}
			})
		})
	}
}

// S6: while the end of what the candidate has received may be a piece of a record, nobody is told to stream from it: until all is
// replayed, or it is promoted, however long that takes.
func TestS6PieceIsNotFollowed(t *testing.T) {
	for name, whole := range map[string]func(*cluster.PostgresStatus){
		"replayed":            func(p *cluster.PostgresStatus) { p.Replayed = p.Received },
		"promoted":            func(p *cluster.PostgresStatus) { p.Role = cluster.RolePrimary },
		"never":               func(*cluster.PostgresStatus) {},
		"it receives more":    func(p *cluster.PostgresStatus) { p.Replayed, p.Streaming = p.Received, true },
		"it may receive more": func(p *cluster.PostgresStatus) { p.Replayed, p.Source = p.Received, "n1" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.failed()
				gather(t, n2)
				n2.pg.edit(func(p *cluster.PostgresStatus) { p.Received = p.Replayed + 1 })
				if err := n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false)); err != nil {
					t.Fatal(err)
				}
				<-time.After(3 * n2.opt.Heartbeat)
				if got := c.calls.all("n3 Follow"); len(got) != 0 {
					t.Errorf("with a piece: calls %q", got)
				}
				n2.pg.edit(whole)
				<-time.After(n2.opt.Heartbeat)
				if got := c.calls.count("n3 Follow"); (got == 1) != (name == "replayed" || name == "promoted") {
					t.Errorf("%s: %d orders to follow", name, got)
				}
			})
		})
	}
}

// S6: an order that had to wait is given in the Raft term of that moment, and not at all once the key is not held any more.
func TestS6OrderAfterAWait(t *testing.T) {
	for name, tt := range map[string]struct {
		meanwhile func(c *fakeCluster)
		want      int
	}{
		"leadership was lost and came back": {func(c *fakeCluster) { c.lead("n1"); c.lead("n2") }, 1},
		"the key was released":              {func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Released = true }) }, 0},
		"the term is over":                  {func(c *fakeCluster) { c.edit(func(v *cluster.View) { v.Key.Term++ }) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.failed()
				gather(t, n2)
				n2.pg.edit(func(p *cluster.PostgresStatus) { p.Received = p.Replayed + 1 })
				if err := n2.acquire(c.life, n2.observe(), acquisition(c, "n2", false)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				tt.meanwhile(c)
				n2.pg.edit(func(p *cluster.PostgresStatus) { p.Replayed = p.Received })
				<-time.After(n2.opt.Heartbeat)
				if got := c.calls.count("n3 Follow"); got != tt.want {
					t.Errorf("%d orders were taken: %q", got, c.calls.all("n3"))
				}
			})
		})
	}
}

// S6: before a standby streams from the primary of another timeline it cuts off the source that it has, and looks where its WAL
// ends then: the loop's own look may be older. A timeline that it follows already needs no proof.
func TestS6FollowProvesTheBeginning(t *testing.T) {
	fork := cluster.Fork{Timeline: 4, Parent: 2, LSN: 1000, Node: "n2", Term: 4}
	for name, tt := range map[string]struct {
		source   cluster.NodeID // that it has
		timeline cluster.Timeline
		at       cluster.LSN // where its WAL ends after the cut
		want     []string
	}{
		"up to the fork":                  {"n1", 2, 1000, []string{"n3 Cut", "n3 Position", "n3 Follow n2 5 false"}},
		"past the fork":                   {"n1", 2, 1001, []string{"n3 Cut", "n3 Position"}},
		"past it, and no source is named": {"", 0, 1001, []string{"n3 Cut", "n3 Position"}},
		"the same timeline":               {"n2", 4, 1001, []string{"n3 Follow n2 5 false"}},
		"its holder's former timeline":    {"n2", 2, 1001, []string{"n3 Cut", "n3 Position"}},
		"its holder, by a catch-up":       {"n2", 0, 1001, []string{"n3 Cut", "n3 Position"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.edit(func(v *cluster.View) {
					v.Forks[4] = fork
					v.Key.Holder, v.Key.Member, v.Key.Term, v.Key.Timeline = "n2", member("n2"), 5, 4 // of term 4, and acquired again in place
				})
				n3 := c.nodes["n3"]
				c.set("n3", func(p *cluster.PostgresStatus) { p.Source, p.SourceTerm, p.SourceTimeline = tt.source, 4, tt.timeline })
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = cluster.Position{Timeline: 2, LSN: tt.at} })
				err := n3.follow(c.life, n3.observe(), decide.Decision{Action: decide.Follow, Source: "n2", Term: 5})
				var got []string
				for _, call := range c.calls.all("n3") {
					if slices.Contains([]string{"n3 Cut", "n3 Position", "n3 Follow n2 5 false"}, call) && !slices.Contains(got, call) {
						got = append(got, call)
					}
				}
				if follows := slices.Contains(tt.want, "n3 Follow n2 5 false"); !slices.Equal(got, tt.want) || (err == nil) != follows {
					t.Errorf("error %v, calls %q, want %q", err, got, tt.want)
				}
			})
		})
	}
}

// S6: as long as the fork of its holder's timeline is not recorded, a standby does not go over to it by itself, wherever its own
// WAL ends: the holder may not be promoted yet.
func TestS6FollowAwaitsTheFork(t *testing.T) {
	for name, forkAt := range map[string]cluster.LSN{"recorded": 1000, "not recorded": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				c.edit(func(v *cluster.View) {
					v.Forks[4] = cluster.Fork{Timeline: 4, Parent: 2, LSN: forkAt, Node: "n2", Term: 4}
					v.Key.Holder, v.Key.Member, v.Key.Term, v.Key.Timeline = "n2", member("n2"), 4, 4
				})
				n3 := c.nodes["n3"]
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = cluster.Position{Timeline: 1, LSN: 400} })
				err := n3.follow(c.life, n3.observe(), decide.Decision{Action: decide.Follow, Source: "n2", Term: 4})
				if got := c.calls.count("n3 Follow n2 4 false"); (got == 1) != (forkAt != 0) || (err == nil) != (forkAt != 0) {
					t.Errorf("error %v, calls %q", err, c.calls.all("n3"))
				}
			})
		})
	}
}

// S6: an order of an acquisition in place says no position: who does not follow that timeline yet proves its beginning first.
func TestS6OrderInPlace(t *testing.T) {
	for name, tt := range map[string]struct {
		timeline cluster.Timeline // that it follows
		at       cluster.Position // where its WAL ends after the cut
		want     []string
	}{
		"it follows already":       {2, cluster.Position{Timeline: 2, LSN: 1000}, []string{"n3 Follow n1 4 false"}},
		"it was cut off meanwhile": {0, cluster.Position{Timeline: 2, LSN: 1000}, []string{"n3 Follow n1 4 false"}},
		"its WAL is another's":     {0, cluster.Position{Timeline: 1, LSN: 5000}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n1, n3 := c.holds(), c.nodes["n3"]
				if tt.timeline == 0 {
					c.set("n3", func(p *cluster.PostgresStatus) {
						p.Source, p.SourceTerm, p.SourceTimeline, p.Streaming = "", 0, 0, false
					})
				}
				n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos = tt.at })
				if err := n1.acquire(c.life, n1.observe(), acquisition(c, "n1", true)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := c.calls.all("n3 Follow"); !slices.Equal(got, tt.want) {
					t.Errorf("calls %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// S6: what a node promised with is where its WAL ends, until a catch-up has added to it.
func TestS6CatchUpMovesThePosition(t *testing.T) {
	for name, tt := range map[string]struct {
		caughtUp bool
		want     []string
	}{
		"promised, and nothing since": {false, []string{"n3 Follow n2 4 false"}},
		"caught up since":             {true, []string{"n3 Follow n1 4 true"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *fakeCluster) {
				n2 := c.failed()
				if _, err := askPromise(c); err != nil {
					t.Fatal(err)
				}
				n3 := c.nodes["n3"]
				if tt.caughtUp {
					if err := n2.peers.call(c.life, "n3", "/follow", followRequest{Term: 4, RaftTerm: 8, Source: "n1", Addr: "n1:5432", CatchUp: true}, nil); err != nil {
						t.Fatal(err)
					}
					n3.pg.edit(func(*cluster.PostgresStatus) { n3.pg.pos.LSN += 500 })
				}
				err := n2.peers.call(c.life, "n3", "/follow", followRequest{Term: 4, RaftTerm: 8, Source: "n2", Addr: "n2:5432", Timeline: 4, Position: cluster.Position{Timeline: 2, LSN: 1000}}, nil)
				if got := c.calls.all("n3 Follow"); !slices.Equal(got, tt.want) || (err != nil) != tt.caughtUp {
					t.Errorf("error %v, calls %q, want %q", err, got, tt.want)
				}
			})
		})
	}
}

// V3, S6: two leaders at once: an order to catch up waits until a promise under way is given, and outdates it then.
func TestV3OrderWaitsForThePromiseUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, c *fakeCluster) {
		n2 := c.failed()
		if _, err := askPromise(c); err != nil { // of the first leader of this term
			t.Fatal(err)
		}
		release := c.calls.block("n3 Position")
		promise := background(func() error { _, err := askPromise(c); return err })
		if !pending(promise) {
			t.Fatal("the promise did not wait for the position")
		}
		order := background(func() error {
			return n2.peers.call(c.life, "n3", "/follow", followRequest{Term: 4, RaftTerm: 8, Source: "n1", Addr: "n1:5432", CatchUp: true}, nil)
		})
		if !pending(order) || c.calls.count("n3 Follow") != 0 {
			t.Fatalf("while the position is read: %q", c.calls.all("n3"))
		}
		release()
		if err := outcome(t, promise); err != nil {
			t.Fatal(err)
		}
		if err := outcome(t, order); err != nil {
			t.Fatal(err)
		}
		c.nodes["n3"].pg.edit(func(*cluster.PostgresStatus) { c.nodes["n3"].pg.pos.LSN += 500 })
		err := n2.peers.call(c.life, "n3", "/follow", followRequest{Term: 4, RaftTerm: 8, Source: "n2", Addr: "n2:5432", Timeline: 4, Position: cluster.Position{Timeline: 2, LSN: 1000}}, nil)
		if got := c.calls.all("n3 Follow"); err == nil || !slices.Equal(got, []string{"n3 Follow n1 4 true"}) {
			t.Errorf("who has caught up since is told to follow by what it promised before: error %v, calls %q", err, got)
		}
	})
}
