//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, notes string
		want, not   []string
		fails       bool
	}{
		{"installed", "", []string{"PostgreSQL 17.10, all programs its own"}, []string{"NOT RUN"}, false},
		{"fetched", "initdb\town\npg_waldump\tstand-in\npg_rewind\tnone\n",
			[]string{"PostgreSQL 17.10, NOT RUN with its own pg_waldump, pg_rewind", "initdb own", "NOT RUN: no rewind"}, []string{"pg_basebackup"}, false},
		{"broken notes", "initdb own\n", nil, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bin := filepath.Join(t.TempDir(), "bin")
			must(t, os.Mkdir(bin, 0o755))
			must(t, commandInput("#!/bin/sh\necho 'postgres (PostgreSQL) 17.10'\n", "/bin/sh", "-c", `cat >"$0" && chmod 755 "$0"`, filepath.Join(bin, "postgres")))
			if tt.notes != "" {
				must(t, os.WriteFile(filepath.Join(filepath.Dir(bin), "PROGRAMS"), []byte(tt.notes), 0o644))
			}
			v, err := (&Lab{PostgresIn: bin}).Version()
			if (err != nil) != tt.fails {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if err != nil {
				return
			}
			for _, w := range tt.want {
				if !strings.Contains(v.String(), w) {
					t.Errorf("want %q in\n%s", w, v)
				}
			}
			for _, n := range tt.not {
				if strings.Contains(v.String(), n) {
					t.Errorf("want no %q in\n%s", n, v)
				}
			}
		})
	}
}
