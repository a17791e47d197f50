package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLoadNeverPanics feeds files that are almost right, and some that are not text at all. Load must answer with a
// Config or an error, each error with a place.
func TestLoadNeverPanics(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.yml")
	base := strings.Replace(healthy, "BIN", binDir(t), 1) + "bootstrap: {dcs: {postgresql: {parameters: {a: b}}}, initdb: [a, {b: c}]}\n"
	fragments := []string{"{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a", "<<: *a\n", "!!str ", "|\n", ">\n", "'", `"`, "#", "\n", "\n  ", "\t", "---\n", "...\n", "%YAML 1.2\n", "? ", "~", "null", "\x00", "\xff", ".inf", "0x1f", "@", "tags: ", "raft:", "{<<: [*a, *a]}", "&a [*a]", "&a {<<: *a}"}
	rapid.Check(t, func(t *rapid.T) {
		text := base
		if rapid.Bool().Draw(t, "noise") {
			text = string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		}
		for range rapid.IntRange(0, 6).Draw(t, "edits") {
			from := rapid.IntRange(0, len(text)).Draw(t, "from")
			to := min(len(text), from+rapid.IntRange(0, 12).Draw(t, "cut"))
			text = text[:from] + rapid.SampledFrom(fragments).Draw(t, "put") + text[to:]
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		value := rapid.SampledFrom(fragments).Draw(t, "variable")
		c, _, err := Load(path, []string{"PGQUORUM_RAFT_MEMBERS=" + value, "PGQUORUM_BOOTSTRAP_INITDB=" + value})
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c != nil, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), path) && !strings.HasPrefix(err.Error(), "environment ") {
			t.Fatalf("error without a place: %v", err)
		}
	})
}

// TestHostileFiles holds texts that cost some readers their stack or all their memory.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	bomb := "scope: &a [x, x]\n"
	for c := 'b'; c < 'n'; c++ {
		bomb += string(c) + ": &" + string(c) + " [*" + string(c-1) + ", *" + string(c-1) + "]\n"
	}
	merged := "m0: &m0 {x: 1}\n"
	for i := range 60 {
		merged += fmt.Sprintf("m%d: &m%d {<<: [*m%d, *m%d]}\n", i+1, i+1, i, i)
	}
	for name, text := range map[string]string{
		"merges of merges": merged + "raft: {<<: *m30}\n",
		"merged in a ring": "raft: &a {<<: [*a, *b]}\npostgresql: &b {<<: [*a, *a, *b]}\nrestapi: &a {<<: [*a, *b, *b]}\n",
		"deep list":        strings.Repeat("[", 20_000),
		"deep map":         strings.Repeat("{a: ", 20_000),
		"deep block":       deepBlock(300),
		"own anchor":       "raft: &a {<<: *a}\n",
		"own list":         "raft: {members: &a [*a]}\n",
		"growing":          bomb,
		"merged twofold":   "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nraft: {<<: [*b, *b]}\n",
	} {
		_, _, err := Load(write(t, text), nil)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if lines := strings.Count(err.Error(), "\n"); lines > 100 {
			t.Errorf("%s: %d lines of errors", name, lines)
		}
	}
}

func deepBlock(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}
