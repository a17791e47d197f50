package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"pgquorum/cluster"
)

func newVersionCommand(env environment) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this binary",
		Example: "  pgquorum version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Out, versionText())
			return err
		},
	}
}

// versionText gives the release, the commit it was built from where the build knows it, and the compiler.
func versionText() string {
	text := "pgquorum " + cluster.Version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		text += " commit " + commit[:min(12, len(commit))]
		if settings["vcs.modified"] == "true" {
			text += " (modified)"
		}
	}
	return text + " " + info.GoVersion
}
