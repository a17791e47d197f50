package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"pgquorum/agent"
	"pgquorum/api"
	"pgquorum/cluster"
	"pgquorum/config"
	"pgquorum/pgctl"
	"pgquorum/raftfsm"
)

// newRunCommand is the agent.
func newRunCommand(env environment) *cobra.Command {
	return &cobra.Command{
		Use:     "run [FILE]",
		Short:   "Run this node's agent",
		Long:    "Run this node's agent in the foreground. SIGTERM hands the primary over first, then stops PostgreSQL and the agent.",
		Example: "  pgquorum run /etc/pgquorum/pgquorum.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := config.DefaultPath
			if len(args) == 1 {
				path = args[0]
			}
			return runAgent(cmd.Context(), path, env)
		},
	}
}

// runAgent is the boot order: file, directories, guard, Raft, agent, API; and the stop order: agent (hands over, stops
// Postgres), API, Raft, guard.
func runAgent(ctx context.Context, path string, env environment) error {
	c, warnings, err := config.Load(path, env.Env)
	if err != nil {
		return err
	}
	log := newLogger(env.Err, c.Log, c.Name)
	for _, w := range warnings {
		log.WarnContext(ctx, "config", "warning", w.String())
	}
	if os.Geteuid() == 0 {
		return errors.New("run: started as root, which PostgreSQL refuses: run it as the user that owns postgresql.data_dir, such as postgres")
	}
	if err := checkVersion(ctx, c, log); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Raft.DataDir, 0o700); err != nil {
		return fmt.Errorf("raft.data_dir: %w", err)
	}
	listener, err := net.Listen("tcp", c.RestAPI.Listen)
	if err != nil {
		return fmt.Errorf("restapi.listen: %w", err)
	}
	defer listener.Close()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	guardDir := filepath.Join(c.Raft.DataDir, "guard")
	guard, err := openGuard(ctx, exe, pgctl.GuardOptions{Dir: guardDir, DataDir: c.PostgreSQL.DataDir, BinDir: c.PostgreSQL.BinDir}, watchdogOf(c), c.SoftFence(), log)
	if err != nil {
		return err
	}
	postgres, err := openPostgres(c, guardDir, guard, log)
	if err != nil {
		return err
	}
	id, err := raftfsm.Prepare(c.Raft.DataDir, postgres.Former(), log)
	if err != nil {
		return err
	}
	return serve(ctx, c, id.UID, guard, postgres, listener, log)
}

// checkVersion refuses a PostgreSQL that pgquorum does not work with, before anything is touched.
func checkVersion(ctx context.Context, c *config.Config, log *slog.Logger) error {
	major, warnings, err := pgctl.CheckVersion(ctx, c.PostgreSQL.BinDir, c.PostgreSQL.DataDir)
	if err != nil {
		return fmt.Errorf("postgresql.bin_dir: %w", err)
	}
	for _, w := range warnings {
		log.WarnContext(ctx, "installed version of postgresql", "reason", w)
	}
	log.InfoContext(ctx, "postgresql found", "major", major, "bin_dir", c.PostgreSQL.BinDir)
	return nil
}

func watchdogOf(c *config.Config) pgctl.WatchdogSettings {
	return pgctl.WatchdogSettings{Mode: c.WatchdogMode(), Device: c.Watchdog.Device, Timeout: c.Watchdog.Timeout, Least: c.WatchdogLeast()}
}

// openPostgres gives the local Postgres of a node's file.
func openPostgres(c *config.Config, guardDir string, guard *guardAdapter, log *slog.Logger) (*pgctl.Postgres, error) {
	host, port, err := c.PostgreSQL.ListenHostPort()
	if err != nil {
		return nil, err
	}
	socketDir := c.SocketDir()
	if err := os.MkdirAll(socketDir, 0o755); err != nil {
		return nil, fmt.Errorf("unix_socket_directories: %w", err)
	}
	p := pgctl.New(pgctl.Options{
		Self: cluster.NodeID(c.Name), DataDir: c.PostgreSQL.DataDir, BinDir: c.PostgreSQL.BinDir,
		ListenHost: host, Port: port, SocketDir: socketDir, GuardDir: guardDir,
		Superuser:   credentials(c.PostgreSQL.Authentication.Superuser),
		Replication: credentials(c.PostgreSQL.Authentication.Replication),
		Rewind:      credentials(c.PostgreSQL.Authentication.Rewind),
		Parameters:  c.PostgreSQL.Parameters, PgHBA: c.PostgreSQL.PgHBA, InitDB: c.Bootstrap.InitDB,
		Clock: cluster.Boottime, Log: log,
	}, guard.guard())
	guard.use = p.UseGuard
	return p, nil
}

func credentials(c config.Credentials) pgctl.Credentials {
	return pgctl.Credentials{Username: c.Username, Password: c.Password}
}

// serve opens Raft, runs agent and API until ctx ends, and stops everything in order.
func serve(ctx context.Context, c *config.Config, uid cluster.UID, guard *guardAdapter, postgres *pgctl.Postgres, listener net.Listener, log *slog.Logger) (err error) {
	var a atomic.Pointer[agent.Agent] // Raft wakes an agent that needs Raft first
	opt, err := raftOptions(c, uid, log, &a)
	if err != nil {
		return err
	}
	secure, err := apiTLS(c.RestAPI)
	if err != nil {
		return err
	}
	node, err := raftfsm.Open(ctx, opt)
	if err != nil {
		return err
	}
	a.Store(agent.New(agent.Options{
		Self: cluster.NodeID(c.Name), Node: registryEntry(c, uid), Members: members(c),
		Heartbeat: c.Raft.HeartbeatTimeout, Lease: c.AcquisitionLease(), Dynamic: c.Dynamic(), UseRewind: c.PostgreSQL.UsePgRewind,
		SoftFence: c.SoftFence() > 0,
		Raft:      node, Guard: guard, Postgres: postgresAdapter{postgres},
		Disk: diskAdapter{raftDir: c.Raft.DataDir, dataDir: c.PostgreSQL.DataDir, guardDir: filepath.Join(c.Raft.DataDir, "guard")}, Limits: c.DiskLimits(), Clock: cluster.Boottime, Log: log,
	}))
	rest := api.New(api.Options{Source: a.Load(), Scope: c.Scope, Name: c.Name, Version: cluster.Version,
		Username: c.RestAPI.Authentication.Username, Password: c.RestAPI.Authentication.Password, TLS: secure, Log: log})

	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()
	var g errgroup.Group
	g.Go(func() error { return rest.Serve(apiCtx, listener) })
	g.Go(func() error {
		defer stopAPI()
		return a.Load().Run(ctx)
	})
	stopDrills := drillOnSignal(ctx, a.Load(), log)
	notify(log, daemon.SdNotifyReady)
	err = g.Wait()
	stopDrills()
	notify(log, daemon.SdNotifyStopping)

	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if errors.Is(err, agent.ErrRestart) { // B2: the agent that comes next takes the guard over, with whatever it runs
		return errors.Join(err, node.Close(stop))
	}
	return errors.Join(err, node.Close(stop), guard.quit(stop))
}

// drillOnSignal gives Raft leadership away at each SIGUSR2, for drills: it comes back by itself, and no client notices.
func drillOnSignal(ctx context.Context, a *agent.Agent, log *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				log.InfoContext(ctx, "drill: leadership is given away", "error", a.GiveLeadership(ctx))
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		cancel()
	}
}

// stopLimit bounds the closing of Raft and the guard.
const stopLimit = 15 * time.Second

func raftOptions(c *config.Config, uid cluster.UID, log *slog.Logger, a *atomic.Pointer[agent.Agent]) (raftfsm.Options, error) {
	server, client, err := raftTLS(c.Raft.TLS)
	if err != nil {
		return raftfsm.Options{}, err
	}
	initial := map[cluster.NodeID]string{}
	for name, addr := range c.Raft.Members {
		initial[cluster.NodeID(name)] = addr
	}
	call := func(f func(*agent.Agent)) func() {
		return func() {
			if agent := a.Load(); agent != nil {
				f(agent)
			}
		}
	}
	return raftfsm.Options{
		Self: cluster.NodeID(c.Name), UID: uid, Scope: c.Scope,
		Listen: c.Raft.Listen, Advertise: c.Raft.Advertise, DataDir: c.Raft.DataDir, Members: initial,
		Heartbeat: c.Raft.HeartbeatTimeout, SnapshotThreshold: c.Raft.SnapshotThreshold, Clock: cluster.Boottime, Log: log,
		ServerTLS: server, ClientTLS: client,
		Wake: call((*agent.Agent).Changed), OnAnswer: call((*agent.Agent).Answered),
	}, nil
}

func registryEntry(c *config.Config, uid cluster.UID) cluster.Node {
	return cluster.Node{Name: cluster.NodeID(c.Name), UID: uid, RaftAddr: c.Raft.Advertise, APIURL: c.APIURL() + "/patroni",
		PostgresAddr: c.PostgreSQL.ConnectAddress, Tags: c.ClusterTags(), Version: cluster.Version}
}

func members(c *config.Config) []cluster.NodeID {
	var names []cluster.NodeID
	for name := range c.Raft.Members {
		names = append(names, cluster.NodeID(name))
	}
	return names
}

// newLogger gives the agent's log, on standard error.
func newLogger(w io.Writer, c config.Log, name string) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	opt := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt)).With("name", name)
	}
	return slog.New(slog.NewTextHandler(w, opt)).With("name", name)
}

// notify tells systemd, where it is there.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Info("systemd not notified", "state", state, "reason", err)
	}
}
