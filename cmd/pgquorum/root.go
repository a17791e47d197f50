package main

import (
	"github.com/spf13/cobra"
)

// newRootCommand gives the command tree, and a function that says whether a command's own code was reached; what
// fails before that is a mistake in the command line. No command sets PersistentPreRun: the root's tells that.
func newRootCommand(env environment) (root *cobra.Command, started func() bool) {
	reached := false
	root = &cobra.Command{
		Use:   "pgquorum",
		Short: "High availability for PostgreSQL, with the consensus inside",
		Long: `pgquorum keeps a PostgreSQL cluster available. It runs on every node and holds the cluster's state in Raft.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no node answers, 4 outcome unknown.`,
		Example: `  pgquorum list --url http://10.0.0.1:8008
  pgquorum switchover --candidate n2
  pgquorum history -f json`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRun:  func(*cobra.Command, []string) { reached = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetArgs(env.Args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.AddCommand(
		newRunCommand(env),
		newDemoCommand(env),
		newListCommand(env),
		newSwitchoverCommand(env),
		newHistoryCommand(env),
		newRecoverCommand(env),
		newVersionCommand(env),
		newGuardCommand(env),
	)
	return root, func() bool { return reached }
}
