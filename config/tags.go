package config

import "pgquorum/cluster"

// ClusterTags gives the tags as the registry holds them. As in Patroni, a failover_priority of 0 or less means nofailover;
// it never takes away a nofailover.
func (c *Config) ClusterTags() cluster.Tags {
	t := c.Tags
	return cluster.Tags{
		NoFailover:       t.NoFailover || t.FailoverPriority <= 0,
		FailoverPriority: max(t.FailoverPriority, 0),
		NoLoadBalance:    t.NoLoadBalance,
		NoSync:           t.NoSync,
		Location:         t.Location,
		Custom:           t.Custom,
	}
}

func (c *Config) checkTags(found *findings) {
	const nofailover, priority = "tags.nofailover", "tags.failover_priority"
	if !c.places.given(nofailover) || !c.places.given(priority) {
		return
	}
	at := c.places.of(priority)
	switch {
	case c.Tags.NoFailover && c.Tags.FailoverPriority > 0:
		found.warn(at, priority, "has no effect beside nofailover: true")
	case !c.Tags.NoFailover && c.Tags.FailoverPriority <= 0:
		found.warn(at, priority, "0 means nofailover, and wins over nofailover: false: this node is never promoted")
	}
}
