package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Options are how a cluster differs from the default: three nodes, heartbeat_timeout 1s.
type Options struct {
	Nodes     int
	Spare     int // further hosts with no node on them, named n4, n5, ...
	Heartbeat time.Duration
	OwnDisks  bool  // each host's data and raft are on a disk of its own, which can be frozen
	RaftApart bool  // with OwnDisks: raft is not
	DiskSize  int64 // of an own disk, in bytes; 0: 4 GB
	Snapshots int   // raft.snapshot_threshold; 0: the default

	Parameters map[string]string // of PostgreSQL, besides the ones that every scenario has
}

// Cluster is some hosts on one bridge, with a host for clients and one for HAProxy.
type Cluster struct {
	Hosts []*Host
	Net   *Network
	LB    *HAProxy

	lab    *Lab
	opt    Options
	dir    string
	client *Namespace
	http   *http.Client
}

// settleTime bounds how long a cluster may take to be whole again.
const settleTime = 60 * time.Second

// New makes the hosts and their files; nothing is started. The test's end removes everything; when the test failed, the
// logs are kept under out/ and their tails are printed.
func New(t *testing.T, lab *Lab, opt Options) *Cluster {
	t.Helper()
	opt.Nodes = max(opt.Nodes, 3)
	if opt.Heartbeat == 0 {
		opt.Heartbeat = time.Second
	}
	name := lab.next()
	c := &Cluster{lab: lab, opt: opt, dir: filepath.Join(os.TempDir(), name+"-run")}
	t.Cleanup(func() {
		if kept(t) {
			c.keepLogs(t)
		}
		if err := c.remove(name); err != nil {
			t.Errorf("clean-up of %s: %v", name, err)
		}
	})
	if err := c.make(name); err != nil {
		t.Fatalf("cluster %s: %v", name, err)
	}
	return c
}

func (c *Cluster) make(name string) (err error) {
	cgroup := filepath.Join(c.lab.cgroups, name+"-run")
	for _, d := range []string{c.dir, cgroup} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if c.Net, err = NewNetwork(name); err != nil {
		return err
	}
	if c.client, err = c.Net.Attach("client", 200); err != nil {
		return err
	}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.client.Dial, DisableKeepAlives: true}}
	for i := range c.opt.Nodes + c.opt.Spare {
		h, err := newHost(c.lab, c.Net, fmt.Sprintf("n%d", i+1), c.dir, cgroup, i+1)
		if err != nil {
			return err
		}
		c.Hosts = append(c.Hosts, h)
		if c.opt.OwnDisks {
			if err := h.makeDisk(c.opt.DiskSize, c.opt.RaftApart); err != nil {
				return err
			}
		}
	}
	for _, h := range c.Hosts {
		if err := h.Write(c.nodeFile(h)); err != nil {
			return err
		}
	}
	c.LB, err = newHAProxy(c, cgroup)
	return err
}

// remove ends and removes everything. The files, which take as long as the rest and more, go while the next cluster is made;
// what is left of them at the end of the process is removed, or told, by Sweep.
func (c *Cluster) remove(name string) error {
	errs := []error{thawUnder(c.dir)}
	for _, h := range c.Hosts {
		errs = append(errs, h.KillAll(), h.ns.Close())
		h.freeSharedMemory()
	}
	if c.client != nil {
		errs = append(errs, c.client.Close())
	}
	if c.LB != nil {
		errs = append(errs, c.LB.ns.Close())
	}
	dirs, err := end(name + "-")
	go func() {
		for _, dir := range dirs {
			_ = os.RemoveAll(dir)
		}
	}()
	return errors.Join(append(errs, err)...)
}

// Nodes are the hosts that are members, without the spare ones.
func (c *Cluster) Nodes() []*Host { return c.Hosts[:c.opt.Nodes] }

// Host gives a host by name.
func (c *Cluster) Host(name string) *Host {
	for _, h := range c.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Others are the members but one.
func (c *Cluster) Others(not *Host) (others []*Host) {
	for _, h := range c.Nodes() {
		if h != not {
			others = append(others, h)
		}
	}
	return others
}

// Primary is the node whose /primary is 200; more than one is an error, as is none.
func (c *Cluster) Primary(ctx context.Context) (*Host, error) {
	var primaries []string
	for _, h := range c.Nodes() {
		if code, err := c.Code(ctx, h, "/primary"); err == nil && code == http.StatusOK {
			primaries = append(primaries, h.Name)
		}
	}
	if len(primaries) != 1 {
		return nil, fmt.Errorf("want one primary, have %v", primaries)
	}
	return c.Host(primaries[0]), nil
}

// WaitPrimary waits for a primary other than not (nil: any).
func (c *Cluster) WaitPrimary(ctx context.Context, not *Host) (p *Host, err error) {
	err = until(ctx, 20*time.Millisecond, func() error {
		if p, err = c.Primary(ctx); err == nil && p == not {
			err = fmt.Errorf("%s is still the primary", p.Name)
		}
		return err
	})
	return p, err
}

// Term is the voting term as the primary sees it.
func (c *Cluster) Term(ctx context.Context) (uint64, error) {
	p, err := c.Primary(ctx)
	if err != nil {
		return 0, err
	}
	s, err := c.Status(ctx, p)
	return s.Pgquorum.Term, err
}

// Converged says what is still missing of: one primary, all others of the nodes streaming on its timeline and counted
// for the quorum, and the nodes agreeing on all that.
func (c *Cluster) Converged(ctx context.Context, nodes ...*Host) error {
	p, err := c.Primary(ctx)
	if err != nil {
		return err
	}
	leader, err := c.Status(ctx, p)
	if err != nil {
		return err
	}
	var first []string
	for _, h := range nodes {
		s, err := c.Status(ctx, h)
		if err != nil {
			return err
		}
		if h != p && (s.ReplicationState != "streaming" || s.Timeline != leader.Timeline) {
			return fmt.Errorf("%s: want streaming on timeline %d, have %q on %d (%s)", h.Name, leader.Timeline, s.ReplicationState, s.Timeline, s.Pgquorum.Phase)
		}
		roles, err := c.roles(ctx, h, nodes)
		if err != nil {
			return err
		}
		if first == nil {
			first = roles
		}
		if !slices.Equal(first, roles) {
			return fmt.Errorf("the nodes disagree: %s has %v, %s has %v", nodes[0].Name, first, h.Name, roles)
		}
	}
	if sync := leader.Pgquorum.Sync; sync.K < 1 || sync.Rules != 1 {
		return fmt.Errorf("commits are not on a majority yet: k %d of %d, %d rules", sync.K, sync.KFull, sync.Rules)
	}
	return c.wanted(p, nodes, first)
}

// roles is how one node sees the others: name and role, sorted by name.
func (c *Cluster) roles(ctx context.Context, from *Host, nodes []*Host) (roles []string, err error) {
	members, err := c.Members(ctx, from)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if slices.ContainsFunc(nodes, func(h *Host) bool { return h.Name == m.Name }) {
			roles = append(roles, m.Name+" "+m.Role)
		}
	}
	return roles, nil
}

// wanted says whether the roles are those of a whole cluster.
func (c *Cluster) wanted(p *Host, nodes []*Host, roles []string) error {
	var want []string
	for _, h := range nodes {
		role := "quorum_standby"
		if h == p {
			role = "leader"
		}
		want = append(want, h.Name+" "+role)
	}
	if !slices.Equal(want, roles) {
		return fmt.Errorf("want %v, have %v", want, roles)
	}
	return nil
}

// WaitConverged waits until all the nodes are one cluster again; none named means all members.
func (c *Cluster) WaitConverged(ctx context.Context, nodes ...*Host) error {
	if len(nodes) == 0 {
		nodes = c.Nodes()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errNotSettled)
	defer cancel()
	return until(ctx, 50*time.Millisecond, func() error { return c.Converged(ctx, nodes...) })
}

var errNotSettled = fmt.Errorf("the cluster did not settle in %s", settleTime)

// Start starts the agents of all members and HAProxy.
func (c *Cluster) Start() error {
	var errs []error
	for _, h := range c.Nodes() {
		errs = append(errs, h.Start())
	}
	return errors.Join(append(errs, c.LB.Start())...)
}
