package integration

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The wall clock that a host's PostgreSQL sees is the machine's with an offset, which a preloaded library adds: it stands
// in a file of eight bytes that the library maps. libfaketime would do as much, but it allocates memory inside PostgreSQL's
// signal handlers, and leaves shared memory behind when a process is killed. Agent and guard have it from the same file
// (chaos_agentclock.go).

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
	bin, err := buildWithClock(ctx, c.dir)
	if err != nil {
		return err
	}
	for _, h := range c.Nodes() {
		h.clockBin = bin
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

// jump sets the wall clock that a host's PostgreSQL, agent and guard see, and sets it right again.
func (r *chaosRun) jump(b *begun, h *chaosHost, f Fault) error {
	if !r.clocks {
		return notBegun(errNoCompiler)
	}
	by := time.Duration(f.Amount) * time.Second
	b.end = func() error { return setOffset(h.clock(), 0) }
	if err := setOffset(h.clock(), by); err != nil {
		return err
	}
	return h.showsOffset(by)
}

// showsOffset is an error if the host's agent answers, and its wall clock has not jumped by so much.
func (h *chaosHost) showsOffset(by time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Addr+":8008/liveness", nil)
	if err != nil {
		return err
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return nil // an agent that is paused, killed or cut off may be met as well
	}
	defer resp.Body.Close()
	told, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return fmt.Errorf("%s: the time of its agent's answer: %w", h.Name, err)
	}
	off := time.Since(told) + by
	stands, err := os.ReadFile(h.clock())
	if err == nil && off.Abs() > 4*time.Second && binary.NativeEndian.Uint64(stands) == uint64(by) { // else it is set right again
		err = fmt.Errorf("%s: its agent's wall clock was to jump by %v, and is %v off from that", h.Name, by, off)
	}
	return err
}
