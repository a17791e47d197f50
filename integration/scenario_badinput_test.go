//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a node must refuse, without touching it and without hurting the cluster.

// refuseTime is how long a node may take to say what is wrong.
const refuseTime = 30 * time.Second

// A data directory of another cluster, or one that is no cluster, is refused and stays as it is.
func TestForeignDirectory(t *testing.T) {
	directories := []struct {
		name  string
		make  func(ctx context.Context, h *Host) error
		words []string // of the one line that says so
	}{
		{"another cluster", func(ctx context.Context, h *Host) error {
			return h.Run(ctx, filepath.Join(lab.PostgresIn, "initdb"), "-D", h.Data(), "-U", "postgres", "-A", "trust", "--no-sync")
		}, []string{"system identifier", "nothing in it is touched"}},
		{"no cluster", func(ctx context.Context, h *Host) error {
			return h.Run(ctx, "/bin/sh", "-c", "mkdir -m 700 data && echo precious > data/thesis.txt")
		}, []string{"holds no postgresql cluster", "nothing in it is touched"}},
	}
	for _, tt := range directories {
		t.Run(tt.name, func(t *testing.T) {
			Scenario{}.Run(t, built(t), func(s *Stage) {
				p := s.MustPrimary()
				h := s.Others(p)[0]
				s.must(h.Crash())
				aside := filepath.Join(h.Dir, "aside")
				s.must(os.Rename(h.Data(), aside))
				s.must(s.Net.Heal(h.Name))
				s.must(tt.make(s.Ctx, h))
				before := fingerprint(s, h.Data())
				s.must(h.Start())
				ctx, cancel := context.WithTimeout(s.Ctx, refuseTime)
				defer cancel()
				s.must(h.LogContains(ctx, tt.words...))
				s.For(3 * time.Second)
				if h.PostgresRuns() {
					s.Errorf("%s: a postgres runs on a directory that is not ours", h.Name)
				}
				if after := fingerprint(s, h.Data()); after != before {
					s.Errorf("%s: the directory was changed:\n%s\nbefore:\n%s", h.Name, after, before)
				}
				s.must(h.KillAll())
				s.must(os.RemoveAll(h.Data()))
				s.must(os.Rename(aside, h.Data()))
				s.must(h.Start())
			})
		})
	}
}

// fingerprint is every file below a directory with its size and content.
func fingerprint(s *Stage, dir string) string {
	sum := sha256.New()
	files := 0
	s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		files++
		fmt.Fprintf(sum, "%s %d %x\n", path, len(text), sha256.Sum256(text))
		return err
	}))
	return fmt.Sprintf("%d files, sha256 %x", files, sum.Sum(nil))
}

// A second agent under the name of a living node, on another host, is refused; the cluster does not notice.
func TestSecondAgentOfOneName(t *testing.T) {
	Scenario{Options: Options{Spare: 1}}.Run(t, built(t), func(s *Stage) {
		p := s.MustPrimary()
		term := s.MustTerm()
		double := s.Hosts[len(s.Hosts)-1]
		file := s.nodeFile(double)
		file.Name = s.Others(p)[0].Name
		members := append([]*Host{{Name: file.Name, Addr: double.Addr}}, p, s.Others(p)[1])
		file.Members = members
		s.must(double.Write(file))
		s.must(double.Start())
		ctx, cancel := context.WithTimeout(s.Ctx, refuseTime)
		defer cancel()
		s.must(double.LogContains(ctx, file.Name, "uid"))
		if double.PostgresRuns() {
			s.Errorf("the second %s runs a postgres", file.Name)
		}
		s.Settled()
		if now := s.MustTerm(); now != term || s.MustPrimary() != p {
			s.Errorf("want %s in term %d still, have %s in %d", p.Name, term, s.MustPrimary().Name, now)
		}
	})
}

// A file with a mistake, or a missing program, ends the agent with one line that says what, before Postgres is touched.
func TestWrongConfig(t *testing.T) {
	t.Parallel()
	mistakes := []struct {
		name  string
		edit  func(f *NodeFile)
		words []string
	}{
		{"unknown key", func(f *NodeFile) { f.Extra = "postgresqll: {}\n" }, []string{"postgresqll", "postgresql"}},
		{"missing program", func(f *NodeFile) { f.BinDir = "/nonexistent/bin" }, []string{"/nonexistent/bin"}},
		{"lease too long", func(f *NodeFile) { f.Heartbeat = time.Millisecond }, []string{"heartbeat_timeout"}},
		{"not its own address", func(f *NodeFile) { f.Addr = "10.99.0.1" }, []string{"10.99.0.1"}},
	}
	c := New(t, built(t), Options{})
	h := c.Hosts[0]
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			file := c.nodeFile(h)
			tt.edit(&file)
			must(t, h.Write(file))
			must(t, os.WriteFile(h.Log(), nil, 0o644))
			must(t, h.Start())
			ctx := within(t, refuseTime)
			if err := h.Exited(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("want an exit with an error, have %v", err)
			}
			must(t, h.LogContains(ctx, tt.words...))
			if lines := strings.Count(tail(h.Log(), 100), "\n") + 1; lines > 5 {
				t.Errorf("want it said in a line, have %d:\n%s", lines, tail(h.Log(), 20))
			}
			if h.PostgresRuns() {
				t.Error("a postgres runs")
			}
			if _, err := os.Stat(h.Data()); err == nil {
				t.Errorf("%s was made", h.Data())
			}
		})
	}
}

// A standby's disk is too small: it says so in one line, and the others go on. With room again it comes back by itself.
func TestDiskFull(t *testing.T) {
	Scenario{}.Run(t, built(t), func(s *Stage) {
		h := s.Others(s.MustPrimary())[0]
		s.must(h.Crash())
		s.must(os.RemoveAll(h.Data()))
		small := filepath.Join(h.Dir, "small")
		s.must(h.Run(s.Ctx, "/bin/mkdir", small))
		s.must(command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=8m,uid=%d,gid=%d", s.lab.UID, s.lab.GID), "tmpfs", small))
		file := s.nodeFile(h)
		file.DataDir = filepath.Join(small, "data")
		s.must(h.Write(file))
		s.must(h.Boot())
		ctx, cancel := context.WithTimeout(s.Ctx, settleTime)
		defer cancel()
		s.must(h.LogContains(ctx, small, "too little free space"))
		s.WaitWrites(s.Load.History.Now())
		s.must(command("mount", "-o", "remount,size=1g", small))
	})
}
