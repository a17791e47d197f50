package cluster

import "time"

// Instant is a moment on one machine's CLOCK_BOOTTIME, in nanoseconds since that machine booted. It has no meaning
// on another machine and never travels to one; only ages and durations do. Zero means "never".
type Instant int64

// Add gives the moment d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub gives the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// Before says whether i is earlier than o.
func (i Instant) Before(o Instant) bool { return i < o }

// IsZero says whether the moment never came.
func (i Instant) IsZero() bool { return i == 0 }

// Clock tells the present moment. The program uses Boottime, tests and the simulation a clock of their own.
type Clock func() Instant
