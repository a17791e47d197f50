package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"pgquorum/cluster"
	"pgquorum/config"
)

const demoSize = 3

// prepare chooses ports and writes the nodes' files.
func (d *demo) prepare(ctx context.Context) (err error) {
	if d.ports, err = findPorts(); err != nil {
		return err
	}
	for i := range demoSize {
		d.nodes = append(d.nodes, d.newNode(i+1))
	}
	for _, n := range d.nodes {
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(n.file(), []byte(d.nodeFile(n)), 0o600); err != nil {
			return err
		}
	}
	c, _, err := config.Load(d.nodes[0].file(), nil)
	if err != nil {
		return fmt.Errorf("%w\n(when PostgreSQL is not installed: scripts/deps.sh, or apt-get install postgresql)", err)
	}
	d.binDir = c.PostgreSQL.BinDir
	d.proxy = d.findProxy()
	d.story.say("Three nodes on this machine, with PostgreSQL of %s.", d.binDir)
	d.story.say("Folder %s.", d.dir)
	return nil
}

// start starts the agents and HAProxy.
func (d *demo) start(context.Context) error {
	for _, n := range d.nodes {
		if err := n.start(d.exe); err != nil {
			return fmt.Errorf("agent of %s: %w", n.name, err)
		}
		d.story.say("  %s: Postgres %s, API %s, agent pid %d.", n.name, n.postgres, n.url, n.process.cmd.Process.Pid)
	}
	if d.proxy == nil {
		d.story.say("  HAProxy is not installed: this is shown without it (apt-get install haproxy).")
		return nil
	}
	if err := d.proxy.start(d.nodes); err != nil {
		return fmt.Errorf("HAProxy: %w", err)
	}
	d.story.say("  HAProxy: writes %s, reads %s, pid %d.", d.proxy.write, d.proxy.read, d.proxy.process.cmd.Process.Pid)
	return nil
}

// form waits until the agents have made a cluster of themselves.
func (d *demo) form(ctx context.Context) error {
	d.story.head("The cluster forms by itself.")
	s, err := d.awaitWhole(ctx, func(*sight) string { return "" })
	if err != nil {
		return err
	}
	d.sayWhole(s)
	return nil
}

func (d *demo) sayWhole(s *sight) {
	sync := s.status[s.primary.name].PGQuorum.Sync
	d.story.say("Whole: %d of %d nodes, each commit waits for %d of %d standbys (the aim is %d).",
		len(s.status), len(d.nodes), sync.K, len(sync.Set), sync.KFull)
}

// demoEvent is a move of the primary, and what it cost.
type demoEvent struct {
	name     string
	from, to *demoNode
	began    time.Time
	ended    time.Time // the cluster was whole again, and writes had arrived by each way
	outage   map[string]time.Duration
}

// switchover moves the primary as planned.
func (d *demo) switchover(ctx context.Context) error {
	d.story.head("A switchover: the primary moves as planned, while the clients write.")
	old, err := d.primary(ctx)
	if err != nil {
		return err
	}
	e := &demoEvent{name: "switchover", from: old, began: time.Now()}
	d.story.say("POST %s/switchover {\"leader\": %q}", old.url, old.name)
	// The answer comes when the new primary works; a question's time limit is too short for that.
	asked, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	res, err := d.actionClient(old).Switchover(asked, cluster.SwitchoverRequest{Leader: cluster.NodeID(old.name)})
	if err != nil {
		return fmt.Errorf("switchover: %w", err)
	}
	d.story.say("  answered after %s: %s", milliseconds(time.Since(e.began)), strings.TrimSpace(res.Text))
	return d.survive(ctx, e, func(s *sight) string {
		if s.primary == old {
			return old.name + " is still the primary"
		}
		return ""
	})
}

// killPrimary ends the primary's postmaster as a crash would.
func (d *demo) killPrimary(ctx context.Context) error {
	d.story.head("A failover: the primary's postmaster is killed.")
	old, err := d.primary(ctx)
	if err != nil {
		return err
	}
	pid, err := old.postmaster()
	if err != nil {
		return err
	}
	e := &demoEvent{name: "killed primary", from: old, began: time.Now()}
	d.story.say("kill -9 %d, the postmaster of %s", pid, old.name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill of the postmaster %d of %s: %w", pid, old.name, err)
	}
	// Until it was noticed the cluster still looks whole: a new postmaster of that node says that it is over.
	return d.survive(ctx, e, func(*sight) string {
		if now, err := old.postmaster(); err != nil || now == pid {
			return "Postgres of " + old.name + " is not back yet"
		}
		return ""
	})
}

// survive waits until the event is over, and says what it cost.
func (d *demo) survive(ctx context.Context, e *demoEvent, over func(*sight) string) error {
	s, err := d.awaitWhole(ctx, over)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	e.to = s.primary
	err = d.await(ctx, "writes arrive at "+e.to.name, func(context.Context) (string, error) {
		return d.load.record.silent(e.began, e.to.pgPort), nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	e.ended = time.Now()
	d.sayWhole(s)
	e.outage = map[string]time.Duration{}
	for _, way := range d.ways() {
		e.outage[way] = d.load.record.outage(way, e.began, e.ended)
		d.story.say("Write outage %s: %s.", way, milliseconds(e.outage[way]))
	}
	d.sayPhases(s, e)
	d.story.say("Meanwhile %d rows were acknowledged.", d.load.record.count(e.began, e.ended))
	d.events = append(d.events, e)
	return nil
}
