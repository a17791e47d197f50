package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml/ast"
)

// clientEnv are variables of the command line, not of the node's file.
var clientEnv = []string{"PGQUORUM_URL"}

// readEnv takes each key's value from its environment variable, where that is set and not empty. Single values stand
// as they are; lists and maps are YAML text.
func (c *Config) readEnv(env []string, found *findings) {
	values := map[string]string{}
	for _, pair := range env {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) {
			values[name] = value
		}
	}
	for _, k := range schema.leaves() {
		name := k.env()
		if value := values[name]; value != "" {
			c.readVariable(k, value, found)
		}
		delete(values, name)
	}
	for _, name := range clientEnv {
		delete(values, name)
	}
	unknown := make([]string, 0, len(values))
	for name := range values {
		unknown = append(unknown, name)
	}
	slices.Sort(unknown)
	for _, name := range unknown { // a warning only: service managers set variables of their own
		found.warn(Place{Env: name}, "", "no such setting; nearest known: %s", nearestEnv(name))
	}
}

func (c *Config) readVariable(k *key, value string, found *findings) {
	at := Place{Env: k.env()}
	switch k.kind {
	case kindList, kindMap, kindInitDB:
		root, err := parse("", []byte(value))
		if err != nil {
			found.refuse(at, k.path, "want a %s as YAML text; %s", k.kind, withoutPlace(err))
			return
		}
		forget(c.places, k.path) // the whole value is replaced, entries and all
		newDecoder(c, found, func(ast.Node) Place { return at }).value(k, nil, root)
	default:
		if err := setText(reflect.ValueOf(c).Elem().FieldByIndex(k.index), k, value); err != nil {
			found.refuse(at, k.path, "%v", err)
			return
		}
		c.places.at[k.path] = at
	}
}

func forget(p places, path string) {
	for known := range p.at {
		if strings.HasPrefix(known, path+".") {
			delete(p.at, known)
		}
	}
}

func nearestEnv(name string) string {
	best, distance := "", -1
	for _, k := range schema.leaves() {
		if n := levenshtein.ComputeDistance(name, k.env()); distance < 0 || n < distance {
			best, distance = k.env(), n
		}
	}
	return best
}

// withoutPlace gives an error's text without the place in the variable's text, which has one line.
func withoutPlace(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Text
	}
	return err.Error()
}
