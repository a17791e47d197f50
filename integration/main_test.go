//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// lab is set by TestMain before any test runs.
var lab *Lab

func TestMain(m *testing.M) {
	if RunJanitor() {
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if lab, err = OpenLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	life, err := StartJanitor()
	if err == nil {
		defer life.Close()
		err = StartReaper()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getenv(leaveBehind) != "" {
		return leave()
	}
	version, err := lab.Version()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(version)
	code := m.Run()
	fmt.Print(version.Short())
	if err := Sweep(os.Getpid()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// built gives the lab with the binary in it, built once.
func built(t *testing.T) *Lab {
	t.Helper()
	if lab.Bin == "" {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := lab.Build(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return lab
}
