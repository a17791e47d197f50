// Command standin stands in, in tests alone, for programs of PostgreSQL that the packages of other major versions than the
// machine's own lack. It does what the program of the name does by which it was called, as far as pgquorum calls it:
//
//	pg_controldata   control.go
//	pg_waldump       waldump.go
//	pg_basebackup    basebackup.go
//	pg_receivewal    receivewal.go
//
// scripts/pg.sh puts it there. An installation has the real programs; that these agree with them is tested where the
// real ones are (standin_test.go). There is none for pg_rewind: what it does cannot be shown by a stand-in.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	name := filepath.Base(os.Args[0])
	if err := runAs(ctx, name, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", name, err)
		os.Exit(1)
	}
}

// runAs is the program of that name.
func runAs(ctx context.Context, name string, args []string) error {
	if slices.Equal(args, []string{"--version"}) {
		return printVersion(ctx, name)
	}
	switch name {
	case "pg_controldata":
		return controlData(args, os.Stdout)
	case "pg_waldump":
		return walDump(args, os.Stdout)
	case "pg_basebackup":
		return baseBackup(ctx, args, os.Stderr)
	case "pg_receivewal":
		return receiveWAL(ctx, args)
	}
	return fmt.Errorf("%q: want pg_controldata, pg_waldump, pg_basebackup or pg_receivewal", name)
}

// printVersion gives the version of the postgres beside it, as the real program of that installation would.
func printVersion(ctx context.Context, name string) error {
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(os.Args[0]), "postgres"), "--version").Output()
	if err != nil {
		return err
	}
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	_, err = fmt.Printf("%s (PostgreSQL) %s", name, version)
	return err
}
