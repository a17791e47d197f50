package raftfsm

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkIdle reports the CPU time that three idle nodes in one process take, in milliseconds per second; one leader
// and two followers, so the sum is more than any one host pays. Run it with -benchtime=1x.
func BenchmarkIdle(b *testing.B) {
	const span = 5 * time.Second
	w := newWorld(b, time.Second, nil, "n1", "n2", "n3")
	w.leader()
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for b.Loop() {
		before := cpu()
		<-time.After(span) // the span is what is measured
		b.ReportMetric(float64((cpu()-before).Milliseconds())/span.Seconds(), "cpu-ms/s")
	}
}
