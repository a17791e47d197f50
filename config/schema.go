package config

import (
	"reflect"
	"strings"
	"time"

	"pgquorum/cluster"
)

// envPrefix begins the name of every environment variable.
const envPrefix = "PGQUORUM_"

// kind is how a key's value is written.
type kind string

// The kinds; each is the word that the reference and the errors use.
const (
	kindSection  kind = "section"
	kindText     kind = "text"
	kindBool     kind = "true or false"
	kindInt      kind = "number"
	kindDuration kind = "duration"
	kindBytes    kind = "size in bytes"
	kindSyncMode kind = "quorum, on or off"
	kindList     kind = "list of texts"
	kindMap      kind = "map of texts"
	kindInitDB   kind = "list of options"
)

// key describes one key of the file.
type key struct {
	name     string // as in the file: heartbeat_timeout
	path     string // raft.heartbeat_timeout; empty for the root
	index    []int  // of the field, from Config
	kind     kind
	desc     string
	def      string
	secret   bool
	children []*key
}

// schema is the whole file.
var schema = &key{kind: kindSection, children: describe(reflect.TypeFor[Config](), "", nil)}

func describe(t reflect.Type, parent string, index []int) []*key {
	var keys []*key
	for f := range t.Fields() {
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		k := &key{
			name: name, path: join(parent, name),
			index: append(append([]int(nil), index...), f.Index...),
			kind:  kind(f.Tag.Get("kind")), desc: f.Tag.Get("desc"), def: f.Tag.Get("def"),
			secret: f.Tag.Get("secret") != "",
		}
		switch {
		case k.kind == "initdb":
			k.kind = kindInitDB
		default:
			k.kind = kindOf(f.Type)
		}
		if k.kind == kindSection {
			k.children = describe(f.Type, k.path, k.index)
		}
		keys = append(keys, k)
	}
	return keys
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return kindDuration
	case reflect.TypeFor[Bytes]():
		return kindBytes
	case reflect.TypeFor[cluster.SyncMode]():
		return kindSyncMode
	case reflect.TypeFor[[]string]():
		return kindList
	case reflect.TypeFor[map[string]string]():
		return kindMap
	}
	switch t.Kind() {
	case reflect.Struct:
		return kindSection
	case reflect.Bool:
		return kindBool
	case reflect.Int:
		return kindInt
	case reflect.String:
		return kindText
	}
	panic("config: no kind for " + t.String()) // a new field's type: seen by every test and at every start
}

// child finds a key of a section.
func (k *key) child(name string) *key {
	for _, c := range k.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// env is the key's environment variable.
func (k *key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// leaves gives every key below k that holds a value, in the order of the types.
func (k *key) leaves() []*key {
	if k.kind != kindSection {
		return []*key{k}
	}
	var all []*key
	for _, c := range k.children {
		all = append(all, c.leaves()...)
	}
	return all
}

func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}
