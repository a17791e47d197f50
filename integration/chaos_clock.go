package integration

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The wall clock that a host's PostgreSQL sees is the machine's with an offset, which a preloaded library adds: it stands
// in a file of eight bytes that the library maps. libfaketime would do as much, but it allocates memory inside PostgreSQL's
// signal handlers, and leaves shared memory behind when a process is killed.
//
// Agents and guards are not met: a static binary preloads nothing. They measure leases in CLOCK_BOOTTIME (L1), and wall
// clocks are for people only.

//go:embed testdata/wallclock.c
var wallClockSource string

// errNoCompiler is why no clock can jump on this machine.
var errNoCompiler = errors.New("a clock can be set only where there is a C compiler, cc")

// prepareClocks builds the library and gives each host a postgres that preloads it. The nodes' files name it from then on.
func (c *Cluster) prepareClocks(ctx context.Context) error {
	if _, err := exec.LookPath("cc"); err != nil {
		return errNoCompiler
	}
	library := filepath.Join(c.dir, "wallclock.so")
	cc := exec.CommandContext(ctx, "cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-x", "c", "-o", library, "-")
	cc.Stdin = strings.NewReader(wallClockSource)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	for _, h := range c.Nodes() {
		if err := h.preloadClock(c.lab.PostgresIn, library); err != nil {
			return err
		}
		file := c.nodeFile(h)
		file.BinDir = filepath.Join(h.Dir, "bin")
		if err := h.Write(file); err != nil {
			return err
		}
	}
	return nil
}

// preloadClock makes a directory of PostgreSQL's programs in which postgres is a script that becomes the real one.
func (h *Host) preloadClock(real, library string) error {
	bin := filepath.Join(h.Dir, "bin")
	programs, err := os.ReadDir(real)
	if err := errors.Join(err, os.Mkdir(bin, 0o755), setOffset(h.clock(), 0)); err != nil {
		return err
	}
	for _, p := range programs {
		if p.Name() == "postgres" {
			continue
		}
		if err := os.Symlink(filepath.Join(real, p.Name()), filepath.Join(bin, p.Name())); err != nil {
			return err
		}
	}
	script := fmt.Sprintf("#!/bin/sh\nCHAOS_CLOCK=%s LD_PRELOAD=%s exec %s \"$@\"\n", h.clock(), library, filepath.Join(real, "postgres"))
	return os.WriteFile(filepath.Join(bin, "postgres"), []byte(script), 0o755)
}

func (h *Host) clock() string { return filepath.Join(h.Dir, "clock") }

// setOffset changes the file in place: it is mapped.
func setOffset(path string, offset time.Duration) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(binary.NativeEndian.AppendUint64(nil, uint64(offset)))
	return errors.Join(err, f.Close())
}

// jump sets the wall clock that a host's PostgreSQL sees, and sets it right again.
func (r *chaosRun) jump(b *begun, h *chaosHost, f Fault) error {
	if !r.clocks {
		return notBegun(errNoCompiler)
	}
	b.end = func() error { return setOffset(h.clock(), 0) }
	return setOffset(h.clock(), time.Duration(f.Amount)*time.Second)
}
