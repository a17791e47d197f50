package cluster

import (
	"syscall"
	"time"
	"unsafe"
)

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

const clockBoottime = 7 // CLOCK_BOOTTIME, include/uapi/linux/time.h

// Boottime reads CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC it goes on while the machine is suspended, so that a lease
// cannot survive a night in a closed laptop. The kernel has had it since 2.6.39; a kernel without it cannot run
// pgquorum at all, so an error panics.
func Boottime() Instant {
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		panic("clock_gettime(CLOCK_BOOTTIME): " + errno.Error())
	}
	return Instant(ts.Nano())
}
