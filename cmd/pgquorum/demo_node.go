package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"pgquorum/api"
	"pgquorum/pgctl"
)

// demoNode is one node: its folder, its ports and its agent.
type demoNode struct {
	name     string
	dir      string
	pgPort   int
	postgres string // address
	url      string
	raft     string
	client   *api.Client

	process *demoProcess // nil: not started
}

func (d *demo) newNode(number int) *demoNode {
	n := &demoNode{name: fmt.Sprintf("n%d", number), pgPort: d.ports.base + postgresOffset + number}
	n.dir = filepath.Join(d.dir, n.name)
	n.postgres, n.raft = d.ports.address(postgresOffset+number), d.ports.address(raftOffset+number)
	n.url = "http://" + d.ports.address(apiOffset+number)
	n.client = api.NewClient([]string{n.url}, api.ClientOptions{Username: demoAPIUser, Password: d.secrets.api, Timeout: askTimeout})
	return n
}

func (n *demoNode) file() string    { return filepath.Join(n.dir, "pgquorum.yml") }
func (n *demoNode) log() string     { return filepath.Join(n.dir, "agent.log") }
func (n *demoNode) dataDir() string { return filepath.Join(n.dir, "data") }
func (n *demoNode) raftDir() string { return filepath.Join(n.dir, "raft") }

func (n *demoNode) guard(binDir string) pgctl.GuardOptions {
	return pgctl.GuardOptions{Dir: filepath.Join(n.raftDir(), "guard"), DataDir: n.dataDir(), BinDir: binDir}
}

const demoAPIUser = "admin"

// nodeFile is a node's file as an operator would write it, for a small machine. Shared memory as files in PGDATA leaves
// nothing in /dev/shm when a postmaster is killed.
func (d *demo) nodeFile(n *demoNode) string {
	var members []string
	for _, m := range d.nodes {
		members = append(members, m.name+": "+m.raft)
	}
	return fmt.Sprintf(`scope: demo
name: %s
raft:
  listen: %s
  data_dir: %s
  members: {%s}
restapi:
  listen: %s
  authentication: {username: %s, password: "%s"}
postgresql:
  listen: %s
  data_dir: %s
  authentication:
    superuser: {username: postgres, password: "%s"}
    replication: {username: replicator, password: "%s"}
    rewind: {username: rewind, password: "%s"}
  parameters:
    shared_buffers: 32MB
    max_connections: "60"
    dynamic_shared_memory_type: mmap
watchdog: {mode: off}
`, n.name, n.raft, n.raftDir(), strings.Join(members, ", "), strings.TrimPrefix(n.url, "http://"), demoAPIUser, d.secrets.api,
		n.postgres, n.dataDir(), d.secrets.superuser, d.secrets.replication, d.secrets.rewind)
}

// start starts the agent; it forms the cluster by itself.
func (n *demoNode) start(exe string) (err error) {
	n.process, err = startDemoProcess(n.dir, n.log(), exe, "run", n.file())
	return err
}

// postmaster gives the process id of the node's Postgres, from the file that every tool of PostgreSQL reads.
func (n *demoNode) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(n.dataDir(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(first)))
	if err != nil {
		return 0, fmt.Errorf("%s: postmaster.pid: %w", n.name, err)
	}
	return pid, nil
}

// demoProcess is an agent or HAProxy, with its log in a file.
type demoProcess struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and is reaped
	err  error         // how; once done is closed
}

// startDemoProcess starts a program in a group of its own, so that Ctrl-C comes to the demo alone. It gets SIGTERM when
// the demo itself is killed.
func startDemoProcess(dir, log, program string, args ...string) (*demoProcess, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, demoEnv(dir), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &demoProcess{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// signal does nothing to a process that has ended.
func (p *demoProcess) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to process %d: %w", s, p.cmd.Process.Pid, err)
	}
	return nil
}

// ended says how, if it has.
func (p *demoProcess) ended() (how string, yes bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.String(), true
	default:
		return "", false
	}
}

// wait says whether the process ended before ctx did.
func (p *demoProcess) wait(ctx context.Context) bool {
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		_, yes := p.ended()
		return yes
	}
}
