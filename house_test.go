// Package pgquorum_test keeps the rules of the house (docs, "Who may import whom"): a package that grows a forbidden
// import, a file that grows too long or a test that sleeps fails here, with the rule's text.
package pgquorum_test

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "pgquorum"

// maxLines is where a file is no longer a room that a reader finds their way in.
const maxLines = 500

// ours says which of our own packages the files under a directory may import, beside those under the same directory.
// A directory that is not named here may import none.
var ours = map[string][]string{
	"cluster":     {},
	"config":      {"cluster"},
	"raftfsm":     {"cluster"},
	"pgctl":       {"cluster"},
	"agent":       {"cluster"},
	"api":         {"cluster"},
	"integration": {"cluster", "api"},
	"cmd":         {"cluster", "config", "raftfsm", "pgctl", "agent", "api", "deploy"}, // deploy: the sample files, embedded
}

// theirs says where a third-party module may be imported: in files whose path matches.
var theirs = map[string]*regexp.Regexp{
	"github.com/hashicorp/raft":        regexp.MustCompile(`^(raftfsm/|agent/sim/.*_test\.go$)`),
	"github.com/hashicorp/raft-boltdb": regexp.MustCompile(`^raftfsm/`),
	"go.etcd.io/bbolt":                 regexp.MustCompile(`^raftfsm/`),
	"github.com/jackc/pgx":             regexp.MustCompile(`^(pgctl/|integration/|cmd/.*(demo|bench)[^/]*\.go$)`),
	"github.com/gin-gonic/gin":         regexp.MustCompile(`^api/`),
	"github.com/tetratelabs/wazero":    regexp.MustCompile(`^agent/sim/replay/`),
}

// impure are the packages by which the policy would reach the world: agent/decide has no I/O, no clock and no log.
var impure = []string{"context", "io", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec", "sync", "syscall"}

func TestHouse(t *testing.T) {
	for _, complaint := range walk(t) {
		t.Error(complaint)
	}
}

// walk checks every file of the repository.
func walk(t *testing.T) (complaints []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "integration/out", "node_modules", "testdata", "vendor"}, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !checkedText(name) {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		complaints = append(complaints, check(name, text)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return complaints
}

func checkedText(name string) bool {
	return slices.Contains([]string{".go", ".sh", ".yml", ".yaml", ".cfg", ".service"}, path.Ext(name)) || path.Base(name) == "Makefile"
}

// check gives what is wrong with one file.
func check(name string, text []byte) (complaints []string) {
	complain := func(format string, args ...any) {
		complaints = append(complaints, name+": "+fmt.Sprintf(format, args...))
	}
	if m := unfinished.Find(text); m != nil {
		complain("%s: what is left open is done or not begun", m)
	}
	if path.Ext(name) != ".go" {
		return complaints
	}
	if n := bytes.Count(text, []byte("\n")); n > maxLines {
		complain("%d lines, at most %d: find the second room in it", n, maxLines)
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		complain("%v", err)
		return complaints
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			complain("import %s: %v", spec.Path.Value, err)
			continue
		}
		if why := forbidden(name, imported); why != "" {
			complain("imports %s: %s", imported, why)
		}
	}
	for _, call := range forbiddenCalls(name) {
		if uses(file, call) {
			complain("%s.%s: %s", cmp.Or(call.pkg, "a value's"), call.name, call.why)
		}
	}
	return complaints
}

// unfinished finds the words that mark unfinished work. They are written in two parts so that this file passes.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

// forbidden says why a file may not import a package; empty when it may.
func forbidden(name, imported string) string {
	top, _, _ := strings.Cut(name, "/")
	test := strings.HasSuffix(name, "_test.go")
	if strings.HasPrefix(name, "agent/decide/") && !test && slices.Contains(impure, imported) {
		return "agent/decide has no I/O, no clock and no log"
	}
	if rest, own := strings.CutPrefix(imported, module+"/"); own {
		return forbiddenOurs(name, top, rest)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	if top == "cluster" && !test {
		return "cluster imports only the standard library"
	}
	for prefix, where := range theirs {
		if (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && !where.MatchString(name) {
			return fmt.Sprintf("it belongs to files that match %s", where)
		}
	}
	return ""
}

// forbiddenOurs is forbidden for packages of this module; imported is without the module's name.
func forbiddenOurs(name, top, imported string) string {
	importedTop, _, _ := strings.Cut(imported, "/")
	switch {
	case importedTop == top:
		return ""
	case slices.Contains(ours[top], importedTop):
		return ""
	case strings.HasPrefix(name, "agent/sim/") && strings.HasSuffix(name, "_test.go") && importedTop == "raftfsm":
		return "" // the simulation runs the real FSM and the real Raft
	case strings.HasSuffix(name, "_test.go") && importedTop == "internal":
		return "" // help for tests
	}
	return fmt.Sprintf("%s may import %v of ours; only cmd knows all", top, ours[top])
}

// call is a function that some files may not use, or a method; pkg: of the function, empty for a method of anything.
type call struct{ pkg, name, why string }

func forbiddenCalls(name string) (calls []call) {
	test := strings.HasSuffix(name, "_test.go")
	if test || strings.HasPrefix(name, "integration/") {
		calls = append(calls, call{"time", "Sleep", "wait on a condition with a deadline"})
	}
	if test {
		for _, skip := range []string{"Skip", "Skipf", "SkipNow"} {
			calls = append(calls, call{"t", skip, "a test that cannot run says what it needs and fails"})
		}
	}
	if strings.HasPrefix(name, "agent/decide/") && !test {
		calls = append(calls, call{"time", "Now", "time is data in the policy"})
	}
	if clockless.MatchString(name) && !test {
		for _, of := range []call{{"time", "Parse", ""}, {"time", "ParseInLocation", ""}, {"time", "Date", ""}, {"", "ModTime", ""}, {"", "Unix", ""}, {"", "UnixMilli", ""}, {"", "UnixMicro", ""}, {"", "UnixNano", ""}} {
			calls = append(calls, call{of.pkg, of.name, "the wall clock may jump: only names and texts for people are made of it"})
		}
	}
	return calls
}

// clockless are the files that decide, and that measure for those: differences of time.Now are of the monotonic clock, and a wall
// clock's reading is known by what it is made from or into.
var clockless = regexp.MustCompile(`^(agent|agent/decide|raftfsm)/[^/]+$|^pgctl/guard`)

// uses says whether the file mentions pkg.name, or a method of that name when pkg is empty.
func uses(file *ast.File, c call) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == c.name {
			x, ok := sel.X.(*ast.Ident)
			found = found || c.pkg == "" && (!ok || x.Name != "time") || ok && x.Name == c.pkg
		}
		return !found
	})
	return found
}

// TestHouseSeesViolations plants one violation of each rule: a check that lets it pass is worth nothing.
func TestHouseSeesViolations(t *testing.T) {
	imports := func(pkg string) string { return "package p\nimport _ \"" + pkg + "\"\n" }
	tests := []struct {
		name, file, text string
		want             bool // a complaint
	}{
		{"cluster, third party", "cluster/a.go", imports("golang.org/x/sync/errgroup"), true},
		{"cluster, standard library", "cluster/a.go", imports("net/netip"), false},
		{"cluster's tests, third party", "cluster/a_test.go", imports("pgregory.net/rapid"), false},
		{"cluster, ours", "cluster/a.go", imports("pgquorum/config"), true},
		{"agent to pgctl", "agent/a.go", imports("pgquorum/pgctl"), true},
		{"agent to decide", "agent/a.go", imports("pgquorum/agent/decide"), false},
		{"decide to cluster", "agent/decide/a.go", imports("pgquorum/cluster"), false},
		{"decide reads files", "agent/decide/a.go", imports("os"), true},
		{"decide reads the clock", "agent/decide/a.go", "package p\nimport \"time\"\nvar x = time.Now()\n", true},
		{"the guard takes the wall clock's reading", "pgctl/guard_a.go", "package p\nimport \"time\"\nvar x = time.Now().UnixNano()\n", true},
		{"raftfsm reads a wall clock's text", "raftfsm/a.go", "package p\nimport \"time\"\nvar x, _ = time.Parse(time.RFC3339, \"\")\n", true},
		{"raftfsm sets a deadline in the past", "raftfsm/a.go", "package p\nimport \"time\"\nvar x = time.Unix(1, 0)\n", false},
		{"api to raftfsm", "api/a.go", imports("pgquorum/raftfsm"), true},
		{"sim's tests to raftfsm", "agent/sim/a_test.go", imports("pgquorum/raftfsm"), false},
		{"sim to raftfsm", "agent/sim/a.go", imports("pgquorum/raftfsm"), true},
		{"agent's tests to raftfsm", "agent/a_test.go", imports("pgquorum/raftfsm"), true},
		{"cmd to all", "cmd/pgquorum/run.go", imports("pgquorum/raftfsm"), false},
		{"an unknown directory", "util/a.go", imports("pgquorum/cluster"), true},
		{"raft in agent", "agent/a.go", imports("github.com/hashicorp/raft"), true},
		{"raft in raftfsm", "raftfsm/a.go", imports("github.com/hashicorp/raft"), false},
		{"bolt in cmd", "cmd/pgquorum/a.go", imports("github.com/hashicorp/raft-boltdb/v2"), true},
		{"pgx in agent", "agent/a.go", imports("github.com/jackc/pgx/v5"), true},
		{"pgx in run", "cmd/pgquorum/run.go", imports("github.com/jackc/pgx/v5"), true},
		{"pgx in demo", "cmd/pgquorum/demo_writer.go", imports("github.com/jackc/pgx/v5"), false},
		{"gin in cmd", "cmd/pgquorum/run.go", imports("github.com/gin-gonic/gin"), true},
		{"gin in api", "api/routes.go", imports("github.com/gin-gonic/gin"), false},
		{"wazero in sim", "agent/sim/a.go", imports("github.com/tetratelabs/wazero"), true},
		{"wazero in replay", "agent/sim/replay/a.go", imports("github.com/tetratelabs/wazero/sys"), false},
		{"a sleeping test", "api/a_test.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", true},
		{"a sleeping harness", "integration/a.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", true},
		{"a skipped test", "api/a_test.go", "package p\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skip() }\n", true},
		{"unfinished", "scripts/a.sh", "# TO" + "DO: later\n", true},
		{"a long file", "api/a.go", "package p\n" + strings.Repeat("\n", maxLines), true},
		{"not Go", "api/a.go", "no package\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := check(tt.file, []byte(tt.text)); (len(got) > 0) != tt.want {
				t.Errorf("complaints %q, want any: %v", got, tt.want)
			}
		})
	}
}
