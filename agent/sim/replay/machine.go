package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// machine is all that a program for wasip1 can learn of the world: what time it is, and random bytes. Go's runtime draws
// from those what is not seeded elsewhere: the order of maps, of select and of goroutines, and math/rand.
type machine struct {
	random io.Reader
	clock  int64 // in nanoseconds, since the machine was made
	reads  int
	began  time.Time // on this machine's clock
}

func newMachine(s schedule, began time.Time) *machine {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], s.seed)
	binary.LittleEndian.PutUint64(seed[8:], s.order)
	return &machine{random: rand.NewChaCha8(seed), began: began}
}

// Of the machine's clock. The world of the simulation has its own, which stands still while anything runs.
const (
	readTakes = 1000       // nanoseconds that pass from one reading to the next: the collector of garbage measures itself
	bootedAt  = 1767225600 // 2026-01-01, in seconds since 1970
)

// endless is after how long a run is taken to be one that never ends. One needs some seconds of a processor.
const endless = 15 * time.Minute

// read is the clock. A run without end is ended here, since a goroutine that never waits is stopped by nothing else; the
// panic comes out of the run as an error with the stack of that goroutine.
func (m *machine) read() int64 {
	m.clock += readTakes
	if m.reads++; m.reads%256 == 0 && time.Since(m.began) > endless {
		panic(fmt.Sprintf("no end after %v: some goroutine turns in a circle in which no time passes", endless))
	}
	return m.clock
}

func (m *machine) configure(c wazero.ModuleConfig) wazero.ModuleConfig {
	return c.WithName("").
		WithRandSource(m.random).
		WithNanotime(m.read, sys.ClockResolution(readTakes)).
		WithWalltime(func() (sec int64, nsec int32) {
			t := m.read()
			return bootedAt + t/1e9, int32(t % 1e9)
		}, sys.ClockResolution(readTakes)).
		WithNanosleep(func(ns int64) { m.clock += max(ns, 0) }).
		WithOsyield(func() {})
}
