package main

import (
	"context"

	"github.com/spf13/cobra"

	"pgquorum/pgctl"
)

// newGuardCommand is the process that the agent starts as the postmaster's parent (U1). People do not call it.
func newGuardCommand(environment) *cobra.Command {
	var opt pgctl.GuardOptions
	cmd := &cobra.Command{
		Use:    "guard",
		Short:  "The postmaster's parent; started by the agent",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Dir == "" || opt.DataDir == "" || opt.BinDir == "" {
				return usage("guard: --dir, --data-dir and --bin-dir are required")
			}
			// RunGuard heeds SIGTERM by itself; a SIGINT meant for others must not end Postgres.
			return pgctl.RunGuard(context.WithoutCancel(cmd.Context()), opt)
		},
	}
	cmd.Flags().StringVar(&opt.Dir, "dir", "", "directory of the guard's socket and marks")
	cmd.Flags().StringVar(&opt.DataDir, "data-dir", "", "PGDATA")
	cmd.Flags().StringVar(&opt.BinDir, "bin-dir", "", "directory of PostgreSQL's programs")
	return cmd
}
