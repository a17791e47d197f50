package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

// demoOptions are the flags of demo.
type demoOptions struct {
	dir      string // empty: a new folder under the system's directory for temporary files
	keep     bool
	prepared bool // dir was made, and is removed, by the process that started this one
}

func newDemoCommand(env environment) *cobra.Command {
	var opt demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a switchover and a failover on this machine, under load",
		Long: `Run a cluster of three nodes on this machine, on loopback, with HAProxy in front where it is installed. Clients write
all the time, while the primary is first switched over and then killed. The demo tells what happens, how long no
write was acknowledged, and whether an acknowledged row was lost.

It needs PostgreSQL, and no other set-up. Started by root it works as the user postgres, or else nobody, because
PostgreSQL refuses root. At the end, and after Ctrl-C, no process is left, and no file unless --dir or --keep was given.`,
		Example: `  pgquorum demo
  pgquorum demo --keep
  pgquorum demo --dir /var/tmp/pgquorum-demo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), env, opt) },
	}
	cmd.Flags().StringVar(&opt.dir, "dir", "", "`FOLDER` for the nodes' files, new or empty; it is left there (default: a temporary one, removed at the end)")
	cmd.Flags().BoolVar(&opt.keep, "keep", false, "leave the cluster running at the end, until Ctrl-C, and the folder for good")
	cmd.Flags().BoolVar(&opt.prepared, "prepared", false, "")
	if err := cmd.Flags().MarkHidden("prepared"); err != nil {
		panic(err) // only for a flag that does not exist
	}
	return cmd
}

var errDemoInterrupted = errors.New("demo: interrupted")

// runDemo makes the folder, runs the demo in it, and removes it. As root it runs the demo itself as another user, in a
// process of its own.
func runDemo(ctx context.Context, env environment, opt demoOptions) (err error) {
	// A terminal that closes, or a reader that goes away (demo | head), ends the demo as Ctrl-C does. SIGPIPE is received
	// and left unheeded, since it comes for the writers' broken connections too: the write's own error counts.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)
	// Children are told (Pdeathsig) when the thread that started them ends: it shall end with the demo.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	folder, err := openDemoFolder(opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.close(env.Out)) }()
	if os.Geteuid() == 0 {
		return runDemoAsUser(ctx, env, opt, folder)
	}
	d, err := newDemo(env, folder.path, stop)
	if err != nil {
		return err
	}
	return d.run(ctx, opt.keep)
}

// demo is three nodes in a folder, HAProxy in front of them, and clients that write.
type demo struct {
	env     environment
	dir     string
	exe     string
	binDir  string // of PostgreSQL
	secrets demoSecrets
	ports   *demoPorts
	nodes   []*demoNode
	proxy   *demoProxy // nil: HAProxy is not installed
	load    *demoLoad
	story   *story
	told    map[string]string // what was last said of each node
	events  []*demoEvent
}

// newDemo prepares a demo in dir. When nobody reads what it tells, it calls unheard.
func newDemo(env environment, dir string, unheard func()) (*demo, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &demo{env: env, dir: dir, exe: exe, secrets: newDemoSecrets(), story: newStory(env.Out, unheard), told: map[string]string{}}, nil
}

// run is the demo from the first process to the last. When a step fails, the logs' ends are shown.
func (d *demo) run(ctx context.Context, keep bool) (err error) {
	defer func() {
		limit := demoStop
		switch {
		case errors.Is(err, errDemoInterrupted):
			limit = demoHurry
		case err != nil:
			d.showLogs(d.env.Err)
		}
		err = errors.Join(err, d.end(limit))
	}()
	for _, step := range []func(context.Context) error{d.prepare, d.start, d.form, d.startLoad, d.switchover, d.killPrimary, d.verify} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				d.story.say("Interrupted.")
				return errDemoInterrupted
			}
			return fmt.Errorf("demo: %w", err)
		}
	}
	if keep {
		d.linger(ctx)
	}
	return nil
}
