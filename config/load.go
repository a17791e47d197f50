package config

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// DefaultPath is where the node's file is looked for.
const DefaultPath = "/etc/pgquorum/pgquorum.yml"

// maxFile bounds the node's file, in bytes.
const maxFile = 256 << 10

// Load reads the node's file and the environment (as os.Environ gives it), whose values win, reads the secret files,
// fills in defaults and checks everything that can be checked from here. An empty path means the environment alone.
//
// The error joins one *Error for each mistake: first those of form (unknown keys, values that cannot be read); when there
// are none, those of content. Warnings are given also with an error.
func Load(path string, env []string) (*Config, []Warning, error) {
	c, found := read(path, env)
	if len(found.errs) == 0 {
		c.readSecrets(found)
		c.setDefaults()
		c.findBinDir(found)
		c.check(found)
	}
	if err := found.err(); err != nil {
		return nil, found.warnings, err
	}
	return c, found.warnings, nil
}

// read parses file and environment, without looking anywhere else.
func read(path string, env []string) (*Config, *findings) {
	c := withConstants()
	found := &findings{}
	c.places = places{file: path, at: map[string]Place{}}
	if path != "" {
		if root, err := parseFile(path); err != nil {
			found.errs = append(found.errs, err)
		} else {
			newDecoder(c, found, func(n ast.Node) Place { return placeIn(path, n) }).section(schema, root)
		}
	}
	c.readEnv(env, found)
	return c, found
}

func parseFile(path string) (ast.Node, error) {
	text, err := readBounded(path, maxFile)
	if err != nil {
		return nil, err
	}
	return parse(path, text)
}

// readBounded reads a file that must not be longer than limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Place: Place{File: path}, Text: "cannot be read", Cause: err}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &Error{Place: Place{File: path}, Text: "cannot be read", Cause: err}
	}
	if int64(len(text)) > limit {
		return nil, &Error{Place: Place{File: path}, Text: fmt.Sprintf("longer than %d bytes", limit)}
	}
	return text, nil
}

// parse gives the root of the one document in text; nil for an empty one.
func parse(file string, text []byte) (ast.Node, error) {
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		at, why := Place{File: file}, err.Error()
		var where yaml.Error
		if errors.As(err, &where) {
			why = where.GetMessage() // never the source lines: they may hold a secret
			if tk := where.GetToken(); tk != nil && tk.Position != nil {
				at.Line, at.Column = tk.Position.Line, tk.Position.Column
			}
		}
		return nil, &Error{Place: at, Text: "no valid YAML: " + why}
	}
	var root ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			return nil, &Error{Place: placeIn(file, doc.Body), Text: "a second document; the node's file is one"}
		}
		root = doc.Body
	}
	return root, nil
}

func placeIn(file string, n ast.Node) Place {
	if n == nil {
		return Place{File: file}
	}
	switch m := n.(type) { // a block's own token is its first colon; a reader looks for its first key
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			n = m.Values[0].Key
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return Place{File: file}
	}
	return Place{File: file, Line: tk.Position.Line, Column: tk.Position.Column}
}
