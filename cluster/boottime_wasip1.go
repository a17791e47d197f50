package cluster

// Boottime has no clock to read on a machine without a kernel of Linux; the simulation gives each host a clock of its own.
func Boottime() Instant {
	panic("CLOCK_BOOTTIME: there is none on wasip1")
}
