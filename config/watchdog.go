package config

import (
	"path/filepath"
	"strings"
	"time"

	"pgquorum/cluster"
)

// watchdogSlack is how much longer than a lease a watchdog must wait at least: it is fed when the lease is renewed, and
// between the fence point and the moment when all of PostgreSQL is reaped it is not fed.
const watchdogSlack = time.Second

// watchdogWords are Patroni's other words for the modes.
var watchdogWords = map[string]cluster.WatchdogMode{
	"auto": cluster.WatchdogAutomatic, "require": cluster.WatchdogRequired,
	"false": cluster.WatchdogOff, "no": cluster.WatchdogOff, "disable": cluster.WatchdogOff, "disabled": cluster.WatchdogOff,
}

func (c *Config) checkWatchdog(found *findings) {
	w := &c.Watchdog
	w.Mode = strings.ToLower(w.Mode)
	if mode, known := watchdogWords[w.Mode]; known {
		w.Mode = string(mode)
	}
	c.oneOf(found, "watchdog.mode", w.Mode, string(cluster.WatchdogOff), string(cluster.WatchdogAutomatic), string(cluster.WatchdogRequired))
	if w.Mode == string(cluster.WatchdogOff) {
		return
	}
	const device, timeout, margin = "watchdog.device", "watchdog.timeout", "watchdog.safety_margin"
	if !filepath.IsAbs(w.Device) {
		found.refuse(c.places.of(device), device, "want an absolute path, have %q", w.Device)
	}
	switch least := c.WatchdogLeast(); {
	case w.Timeout%time.Second != 0:
		found.refuse(c.places.of(timeout), timeout, "want whole seconds, as the kernel's devices have, have %v", w.Timeout)
	case w.Timeout < least:
		found.refuse(c.places.of(timeout), timeout, "want %v at least, the lease of %v and %v to end PostgreSQL in, have %v", least, c.Lease().TTL, watchdogSlack, w.Timeout)
	case w.SafetyMargin < 0:
		found.refuse(c.places.of(margin), margin, "want 0 or more, have %v: the timeout is watchdog.timeout here, no part of a ttl", w.SafetyMargin)
	case w.Timeout > cluster.MaxWatchdog || w.SafetyMargin > cluster.MaxWatchdog-w.Timeout:
		found.refuse(c.places.of(timeout), timeout, "want %v at most together with safety_margin, have %v and %v", cluster.MaxWatchdog, w.Timeout, w.SafetyMargin)
	}
}

// WatchdogLeast gives the shortest timeout under which a lease that is renewed in time, and a fence, end before it.
func (c *Config) WatchdogLeast() time.Duration { return c.Lease().TTL + watchdogSlack }

// WatchdogMode gives the mode of the section watchdog.
func (c *Config) WatchdogMode() cluster.WatchdogMode { return cluster.WatchdogMode(c.Watchdog.Mode) }

// AcquisitionLease gives what this node's acquisitions record: the lease, and in mode required how long after its last feeding
// the watchdog has surely fired.
func (c *Config) AcquisitionLease() cluster.LeaseParams {
	lease := c.Lease()
	if c.WatchdogMode() == cluster.WatchdogRequired {
		lease.Watchdog = c.Watchdog.Timeout + c.Watchdog.SafetyMargin
	}
	return lease
}
