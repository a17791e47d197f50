package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The heartbeat timeout's limits, and the lease under which one lost packet may cost it: TCP waits 200 ms at least before
// it sends again (RFC 6298 as Linux has it), and a lease bears about two such waits.
const (
	minHeartbeat = 100 * time.Millisecond
	maxHeartbeat = 60 * time.Second
	shortLease   = 400 * time.Millisecond
	maxGrace     = 10 * time.Minute // of a soft fence

	minSnapshotThreshold, maxSnapshotThreshold = 16, 1_000_000
)

func (c *Config) checkRaftAddresses(found *findings) {
	c.address(found, "raft.listen", c.Raft.Listen, false)
	if c.Raft.Advertise == "" && c.Raft.Listen != "" {
		found.refuse(c.places.of("raft.listen"), "raft.advertise", "required, because raft.listen %q is no address that others can connect to", c.Raft.Listen)
	} else if c.Raft.Advertise != "" {
		c.address(found, "raft.advertise", c.Raft.Advertise, true)
	}
}

func (c *Config) checkMembers(found *findings) {
	const key = "raft.members"
	members, at := c.Raft.Members, c.places.of(key)
	switch {
	case len(c.Raft.Join) > 0: // without the join itself such a node would wait for ever
		found.refuse(c.places.of("raft.join"), "raft.join", "is not in this version: every node is a first member, named in raft.members")
		return
	case len(members) == 0:
		found.refuse(at, key, "required: name and address of every first member")
		return
	}
	if !c.Raft.Voter {
		found.refuse(c.places.of("raft.voter"), "raft.voter", "is not in this version: every first member votes")
	}
	c.checkMemberNames(found)
	if own, ok := members[c.Name]; !ok {
		found.refuse(at, key, "this node's name %q is not among them: %s", c.Name, strings.Join(slices.Sorted(maps.Keys(members)), ", "))
	} else if c.Raft.Advertise != "" && own != c.Raft.Advertise {
		found.refuse(c.places.of(join(key, c.Name)), join(key, c.Name), "want raft.advertise %s, have %s: the other nodes would look for this one in the wrong place", c.Raft.Advertise, own)
	}
	switch n := len(members); {
	case n == 1:
		found.warn(at, key, "one member: nobody can take over")
	case n == 2:
		found.warn(at, key, "TWO members: when either is lost, the other stops too, because one of two is no majority; this is less available than one. Add a third, an arbiter without PostgreSQL will do")
	case n%2 == 0:
		found.warn(at, key, "%d members bear the loss of no more than %d would; use an odd number", n, n-1)
	}
}

// checkMemberNames refuses names and addresses that two members would share, also once folded into slot names.
func (c *Config) checkMemberNames(found *findings) {
	slots, addresses := map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Raft.Members)) {
		key, address := join("raft.members", name), c.Raft.Members[name]
		at := c.places.of(key)
		if why := badName(name); why != "" {
			found.refuse(at, key, "%s", why)
		}
		if _, _, ok := c.address(found, key, address, true); ok {
			if other, clash := addresses[address]; clash {
				found.refuse(at, key, "has the address of %s, %s", other, address)
			}
			addresses[address] = name
		}
		slot := strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
		if other, clash := slots[slot]; clash {
			found.refuse(at, key, "folds to the replication slot %s, as %s does; choose names that differ in more than case, - _ and .", slot, other)
		}
		slots[slot] = name
	}
}

// checkLease keeps L7: numbers under which a lease would not be safe are refused.
func (c *Config) checkLease(found *findings) {
	const heartbeat, ttl = "raft.heartbeat_timeout", "raft.lease_ttl"
	if h := c.Raft.HeartbeatTimeout; h < minHeartbeat || h > maxHeartbeat {
		found.refuse(c.places.of(heartbeat), heartbeat, "want %v to %v, have %v", minHeartbeat, maxHeartbeat, h)
		return
	}
	key := heartbeat
	if c.places.given(ttl) {
		key = ttl
		if c.Raft.LeaseTTL <= 0 {
			found.refuse(c.places.of(ttl), ttl, "want more than 0, have %v", c.Raft.LeaseTTL)
			return
		}
	}
	lease := c.Lease()
	if err := lease.Check(c.Timings()); err != nil {
		found.refuseBecause(c.places.of(key), key, err, "not safe with heartbeat_timeout %v", c.Raft.HeartbeatTimeout)
		return
	}
	if lease.TTL < shortLease {
		found.warn(c.places.of(key), key, "the lease lasts %v; under %v a single lost packet may cost it, for TCP waits 200ms or more before it sends again", lease.TTL, shortLease)
	}
}

// checkSoftFence keeps the grace (U6) within what makes sense: shorter, and nobody could be back in time; longer, and
// whoever reads waits in vain.
func (c *Config) checkSoftFence(found *findings) {
	const key = "raft.soft_fence_grace"
	if !c.places.given(key) {
		return
	}
	if g := c.Raft.SoftFenceGrace; g < c.Raft.HeartbeatTimeout || g > maxGrace {
		found.refuse(c.places.of(key), key, "want raft.heartbeat_timeout (%v) to %v, have %v", c.Raft.HeartbeatTimeout, maxGrace, g)
	} else if !c.Raft.SoftFence {
		found.warn(c.places.of(key), key, "has no effect: raft.soft_fence is false")
	}
}

// checkSnapshots keeps the threshold within what makes sense: less, and a node that was away for a moment gets a snapshot
// for a few entries; more, and the next start replays them all.
func (c *Config) checkSnapshots(found *findings) {
	const key = "raft.snapshot_threshold"
	if n := c.Raft.SnapshotThreshold; n < minSnapshotThreshold || n > maxSnapshotThreshold {
		found.refuse(c.places.of(key), key, "want %d to %d entries, have %d", minSnapshotThreshold, maxSnapshotThreshold, n)
	}
}

func (c *Config) checkRaftTLS(found *findings) {
	t := c.Raft.TLS
	for _, f := range []struct{ key, value string }{{"certfile", t.CertFile}, {"keyfile", t.KeyFile}, {"cafile", t.CAFile}} {
		switch key := "raft.tls." + f.key; {
		case f.value == "" && t.Enabled():
			found.refuse(c.places.of("raft.tls"), key, "required: certfile, keyfile and cafile go together")
		case f.value != "":
			c.readable(found, key, f.value)
		}
	}
	host, _, err := splitAddress(c.Raft.Listen)
	if err != nil || t.Enabled() || isLoopback(host) {
		return
	}
	at := c.places.of("raft.listen")
	if !c.Raft.Insecure {
		found.refuse(at, "raft.listen", "%s is not loopback and raft.tls is not configured: whoever reaches it would rule the cluster. Configure raft.tls, or say raft.insecure: true", c.Raft.Listen)
		return
	}
	found.warn(c.places.of("raft.insecure"), "raft.insecure", "Raft runs without TLS on %s: whoever reaches it rules the cluster", c.Raft.Listen)
}

func (c *Config) checkDirectories(found *findings) {
	raft, pgdata := c.Raft.DataDir, c.PostgreSQL.DataDir
	ok := true
	for _, d := range []struct{ key, value string }{{"raft.data_dir", raft}, {"postgresql.data_dir", pgdata}} {
		switch at := c.places.of(d.key); {
		case d.value == "":
			found.refuse(at, d.key, "required")
			ok = false
		case !filepath.IsAbs(d.value):
			found.refuse(at, d.key, "want an absolute path, have %q", d.value)
			ok = false
		}
	}
	if !ok {
		return
	}
	c.Raft.DataDir, c.PostgreSQL.DataDir = filepath.Clean(raft), filepath.Clean(pgdata)
	switch at := c.places.of("raft.data_dir"); {
	case within(raft, pgdata):
		found.refuse(at, "raft.data_dir", "%s lies in postgresql.data_dir %s, which a clone or a rewind overwrites (U4)", raft, pgdata)
	case within(pgdata, raft):
		found.refuse(c.places.of("postgresql.data_dir"), "postgresql.data_dir", "%s lies in raft.data_dir %s; keep them apart", pgdata, raft)
	}
}

// within says whether path is dir or lies below it, as they are written and with symbolic links followed.
func within(path, dir string) bool {
	for _, pair := range [][2]string{{path, dir}, {realPath(path), realPath(dir)}} {
		rel, err := filepath.Rel(pair[1], pair[0])
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return true
		}
	}
	return false
}

// realPath follows the symbolic links of the part of path that exists.
func realPath(path string) string {
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(realPath(parent), filepath.Base(path))
	}
	return path
}

func itoa(n int) string { return strconv.Itoa(n) }
