package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"pgquorum/api"
	"pgquorum/cluster"
)

type switchoverOptions struct {
	connection
	leader, candidate string
	dryRun, force     bool
}

func newSwitchoverCommand(env environment) *cobra.Command {
	o := switchoverOptions{connection: connection{env: env}}
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Move the primary to another node, as planned",
		Long: `Move the primary to another node while all is well. No acknowledged commit is lost; sessions end and reconnect.

It shows the cluster and what would happen, and asks first, unless --force is given. It goes on only if --leader is the
leader at that moment, so that a repeated command does nothing.`,
		Example: `  pgquorum switchover
  pgquorum switchover --candidate n2
  pgquorum switchover --candidate n2 --dry-run
  pgquorum switchover --leader n1 --candidate n2 --force`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.candidate, "candidate", "", "`NAME` of the node to move it to (default: the best)")
	cmd.Flags().StringVar(&o.leader, "leader", "", "`NAME` of the present leader (default: whom the cluster names)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would happen and why, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	return cmd
}

func (o *switchoverOptions) run(ctx context.Context) error {
	if !o.force && !o.dryRun && !o.env.InTerminal {
		return usage("switchover: nobody to ask, because the input is no terminal: give --force or --dry-run")
	}
	client, err := o.open(true)
	if err != nil {
		return err
	}
	defer client.Close()
	req, err := o.request(ctx, client)
	if err != nil {
		return err
	}
	if o.dryRun {
		return o.send(ctx, client, req)
	}
	if !o.force {
		if err := o.confirm(ctx, client, req); err != nil {
			return err
		}
	}
	return o.send(ctx, client, req)
}

// request fills in the leader; without --force it shows the cluster.
func (o *switchoverOptions) request(ctx context.Context, client *api.Client) (cluster.SwitchoverRequest, error) {
	req := cluster.SwitchoverRequest{Leader: cluster.NodeID(o.leader), Candidate: cluster.NodeID(o.candidate), DryRun: o.dryRun}
	if o.force && o.leader != "" {
		return req, nil
	}
	view, err := client.Cluster(ctx)
	if err != nil {
		return req, withExitCode(err)
	}
	if !o.force {
		if err := writeCluster(o.env.Out, view, "pretty"); err != nil {
			return req, err
		}
	}
	if req.Leader == "" {
		req.Leader = leaderOf(view)
	}
	if req.Leader == "" {
		return req, errors.New("switchover: the cluster has no leader at present, so there is nothing to move; nothing was changed")
	}
	return req, nil
}

func leaderOf(view *api.ClusterView) cluster.NodeID {
	for _, m := range view.Members {
		if m.Role == "leader" || m.Role == "standby_leader" {
			return cluster.NodeID(m.Name)
		}
	}
	return ""
}

// confirm shows what would happen, as the cluster answers it, and asks. A refusal of the dry run ends it here.
func (o *switchoverOptions) confirm(ctx context.Context, client *api.Client, req cluster.SwitchoverRequest) error {
	req.DryRun = true
	if err := o.send(ctx, client, req); err != nil {
		return err
	}
	target := "the best candidate"
	if req.Candidate != "" {
		target = string(req.Candidate)
	}
	fmt.Fprintf(o.env.Out, "Move the primary from %s to %s now? Sessions on %s will end. [y/N]: ", req.Leader, target, req.Leader)
	answer, err := readLine(ctx, o.env.In)
	if err != nil {
		return fmt.Errorf("switchover: no answer: %w; nothing was changed", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("switchover: not confirmed; nothing was changed")
}

// readLine reads one line, or gives up when ctx ends; the reader is then left to the end of the process.
func readLine(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil
		}
		got <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case res := <-got:
		return res.line, res.err
	}
}

// send makes the call and prints the server's own words.
func (o *switchoverOptions) send(ctx context.Context, client *api.Client, req cluster.SwitchoverRequest) error {
	res, err := client.Switchover(ctx, req)
	if err != nil {
		return withExitCode(err)
	}
	_, err = fmt.Fprintln(o.env.Out, strings.TrimRight(res.Text, "\n"))
	return err
}
