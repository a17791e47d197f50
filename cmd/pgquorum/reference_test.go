package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const referencePath = "../../docs/cli.md"

// TestReferenceIsCurrent holds docs/cli.md and the commands' own help together.
func TestReferenceIsCurrent(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what the commands say; run: go test ./cmd/pgquorum -run Reference -update", referencePath)
	}
}

// TestHelpShowsExamples keeps each command's help complete.
func TestHelpShowsExamples(t *testing.T) {
	t.Parallel()
	for _, cmd := range commands(t) {
		if !strings.Contains(help(t, cmd), "Examples:\n  pgquorum ") {
			t.Errorf("%s: its help has no example", cmd.CommandPath())
		}
	}
}

// commands gives the root and every command that people call.
func commands(t *testing.T) []*cobra.Command {
	t.Helper()
	root, _ := newRootCommand(environment{})
	list := []*cobra.Command{root}
	for i := 0; i < len(list); i++ {
		for _, c := range list[i].Commands() {
			if c.IsAvailableCommand() {
				list = append(list, c)
			}
		}
	}
	return list
}

func help(t *testing.T, cmd *cobra.Command) string {
	t.Helper()
	var out bytes.Buffer
	cmd.Root().SetOut(&out)
	cmd.InitDefaultHelpFlag()
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func reference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# The command line\n\n<!-- Made from the commands: go test ./cmd/pgquorum -run Reference -update -->\n")
	for _, cmd := range commands(t) {
		b.WriteString("\n## " + cmd.CommandPath() + "\n\n```text\n" + strings.TrimSpace(help(t, cmd)) + "\n```\n")
	}
	return b.String()
}
