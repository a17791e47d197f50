package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pgquorum/pgctl"
)

const (
	demoStop  = 20 * time.Second // for the agents to stop in good order
	demoHurry = 4 * time.Second  // the same, for a person who pressed Ctrl-C: the data is thrown away
	demoGrace = 5 * time.Second  // for what is left then
)

// end stops everything: in good order, then what is left by its process id. Nothing of it may stay, so it goes on after
// an error.
func (d *demo) end(limit time.Duration) (err error) {
	if d.load != nil {
		d.load.stop()
	}
	if d.ports == nil {
		return nil // nothing was started
	}
	defer d.ports.lock.Close()
	var errs []error
	if d.proxy != nil && d.proxy.process != nil {
		errs = append(errs, endProcess(d.proxy.process, demoGrace))
	}
	errs = append(errs, d.endAgents(limit))
	ctx, cancel := context.WithTimeout(context.Background(), 6*demoGrace)
	defer cancel()
	for _, n := range d.nodes {
		n.client.Close()
		errs = append(errs, d.endNode(ctx, n))
	}
	errs = append(errs, endDemoProcesses(ctx, d.dir, 0))
	for _, n := range d.nodes {
		freeSharedMemory(n.dataDir())
	}
	if d.nodes[0].process != nil {
		d.story.say("All stopped.")
	}
	return errors.Join(errs...)
}

// endAgents tells all agents to stop, and kills those that do not within limit.
func (d *demo) endAgents(limit time.Duration) error {
	var running []*demoNode
	var errs []error
	for _, n := range d.nodes {
		if n.process == nil {
			continue
		}
		if _, yes := n.process.ended(); !yes {
			running = append(running, n)
			errs = append(errs, n.process.signal(syscall.SIGTERM))
		}
	}
	if len(running) == 0 {
		return nil
	}
	d.story.say("Stopping the cluster.")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, n := range running {
		if n.process.wait(ctx) {
			continue // in good order
		}
		d.story.say("  the agent of %s did not stop in %v: killed.", n.name, limit)
		errs = append(errs, n.process.signal(syscall.SIGKILL))
		<-n.process.done
	}
	return errors.Join(errs...)
}

// endProcess stops a process, by SIGKILL when it takes longer than limit.
func endProcess(p *demoProcess, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := p.signal(syscall.SIGTERM)
	if !p.wait(ctx) {
		err = errors.Join(err, p.signal(syscall.SIGKILL))
		<-p.done
	}
	return err
}

// endNode ends what an agent left: its guard, and that guard's Postgres.
func (d *demo) endNode(ctx context.Context, n *demoNode) error {
	opt := n.guard(d.binDir)
	guard, err := pgctl.ConnectGuard(ctx, opt, slog.New(slog.DiscardHandler))
	if err == nil {
		defer guard.Close() // after quit the guard has closed it first: that is no error
		if err := errors.Join(guard.Stop(ctx, pgctl.StopImmediate, demoGrace), guard.Quit(ctx)); err != nil {
			d.story.say("  guard of %s: %v", n.name, err) // it is killed after this
		}
	}
	if _, err := os.Stat(opt.DataDir); err != nil {
		return nil // nothing was ever started there
	}
	if err := pgctl.EndAll(ctx, opt); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}

// freeSharedMemory removes the segment that a killed postmaster leaves. Its id is the second number of line 7 of
// postmaster.pid; after a stop in good order there is no such file. Source: src/include/utils/pidfile.h, PostgreSQL 17.
func freeSharedMemory(dataDir string) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) < 7 {
		return
	}
	fields := bytes.Fields(lines[6])
	if len(fields) != 2 {
		return
	}
	if id, err := strconv.Atoi(string(fields[1])); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // gone already is as good
	}
}

// showLogs prints the ends of the logs, for a demo that failed.
func (d *demo) showLogs(w io.Writer) {
	const lines = 15
	var files []string
	for _, n := range d.nodes {
		files = append(files, n.log())
	}
	if d.proxy != nil {
		files = append(files, d.proxy.log())
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it was not started
		}
		all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		fmt.Fprintf(w, "\n--- end of %s\n%s\n", file, strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	fmt.Fprintln(w)
}
