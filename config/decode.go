package config

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxDepth bounds how deep aliases and nested values are followed.
const maxDepth = 32

// maxMappings bounds how many mappings are read, each as often as it is merged: some dozens are in a whole file, and merges
// of merges double at each level.
const maxMappings = 1000

// decoder puts YAML into a Config, key by key, and collects every mistake with its place.
type decoder struct {
	config  *Config
	found   *findings
	place   func(ast.Node) Place
	anchors map[string]ast.Node
	depth   int
	read    int // mappings so far
}

func newDecoder(c *Config, found *findings, place func(ast.Node) Place) *decoder {
	return &decoder{config: c, found: found, place: place, anchors: map[string]ast.Node{}}
}

// section reads the keys of a section.
func (d *decoder) section(k *key, n ast.Node) {
	d.pairs(n, k.path, func(name string, at, value ast.Node) {
		child, path := k.child(name), join(k.path, name)
		switch {
		case child != nil:
			d.value(child, at, value)
		case d.foreign(path, at, value):
		case k.path == "tags":
			d.customTag(k, name, at, value)
		default:
			d.found.refuse(d.place(at), path, "unknown key; %s", nearest(k, name))
		}
	})
}

// value reads one key. A key without a value counts as absent.
func (d *decoder) value(k *key, at, n ast.Node) {
	n = d.resolve(n)
	if isNull(n) {
		return
	}
	d.config.places.at[k.path] = d.place(at)
	if k.kind == kindSection {
		d.section(k, n)
		return
	}
	field := reflect.ValueOf(d.config).Elem().FieldByIndex(k.index)
	switch k.kind {
	case kindList:
		if list, ok := d.list(k.path, n, d.text); ok {
			field.Set(reflect.ValueOf(list))
		}
	case kindInitDB:
		if list, ok := d.list(k.path, n, d.initdbOption); ok {
			field.Set(reflect.ValueOf(list))
		}
	case kindMap:
		field.Set(reflect.ValueOf(d.textMap(k, n)))
	default:
		text, ok := d.text(k.path, n)
		if !ok {
			return
		}
		if err := setText(field, k, text); err != nil {
			d.found.refuse(d.place(n), k.path, "%v", err)
		}
	}
}

// pairs calls f for each key of a mapping, with what a merge key brings in first, so that the mapping's own keys win.
func (d *decoder) pairs(n ast.Node, path string, f func(name string, at, value ast.Node)) {
	n = d.resolve(n)
	if isNull(n) {
		return
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		d.found.refuse(d.place(n), path, "want keys and values, have %s", describeNode(n))
		return
	}
	if d.read++; d.read > maxMappings {
		if d.read == maxMappings+1 {
			d.found.refuse(d.place(n), path, "more than %d mappings: they are merged into one another too often", maxMappings)
		}
		return
	}
	if d.depth++; d.depth > maxDepth {
		d.found.refuse(d.place(n), path, "nested deeper than %d", maxDepth)
		d.depth--
		return
	}
	defer func() { d.depth-- }()
	var own []*ast.MappingValueNode
	for it := m.MapRange(); it.Next(); {
		if pair := it.KeyValue(); pair.Key.IsMergeKey() {
			d.merge(pair.Value, path, f)
		} else {
			own = append(own, pair)
		}
	}
	for _, pair := range own {
		name, ok := scalar(d.resolve(pair.Key))
		if !ok {
			d.found.refuse(d.place(pair.Key), path, "a key must be plain text, have %s", describeNode(pair.Key))
			continue
		}
		f(name, pair.Key, pair.Value)
	}
}

// merge reads what stands behind a merge key: a mapping, or a list of mappings of which the first wins.
func (d *decoder) merge(n ast.Node, path string, f func(name string, at, value ast.Node)) {
	n = d.resolve(n)
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		d.pairs(n, path, f)
		return
	}
	for i := len(list.Values) - 1; i >= 0; i-- {
		d.pairs(list.Values[i], path, f)
	}
}

// resolve goes through anchors, aliases and tags to the value itself; nil where an alias leads nowhere.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range maxDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			if name, ok := scalar(v.Name); ok {
				d.anchors[name] = v.Value
			}
			n = v.Value
		case *ast.AliasNode:
			name, _ := scalar(v.Value)
			target, ok := d.anchors[name]
			if !ok {
				d.found.refuse(d.place(v), "", "alias *%s has no anchor before it", name)
				return nil
			}
			n = target
		case *ast.TagNode:
			n = v.Value
		case *ast.MappingKeyNode:
			n = v.Value
		default:
			return n
		}
	}
	d.found.refuse(d.place(n), "", "aliases nested deeper than %d", maxDepth)
	return nil
}

func (d *decoder) text(path string, n ast.Node) (string, bool) {
	n = d.resolve(n)
	text, ok := scalar(n)
	if !ok {
		d.found.refuse(d.place(n), path, "want one value, have %s", describeNode(n))
	}
	return text, ok
}

func (d *decoder) list(path string, n ast.Node, item func(string, ast.Node) (string, bool)) ([]string, bool) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.found.refuse(d.place(n), path, "want a list, have %s", describeNode(n))
		return nil, false
	}
	list, good := make([]string, 0, len(seq.Values)), true
	for _, v := range seq.Values {
		text, ok := item(path, v)
		list, good = append(list, text), good && ok
	}
	return list, good
}

func (d *decoder) textMap(k *key, n ast.Node) map[string]string {
	m := map[string]string{}
	d.pairs(n, k.path, func(name string, at, value ast.Node) {
		if text, ok := d.text(join(k.path, name), value); ok {
			m[name] = text
			d.config.places.at[join(k.path, name)] = d.place(at)
		}
	})
	return m
}

func (d *decoder) customTag(k *key, name string, at, value ast.Node) {
	text, ok := d.text(join(k.path, name), value)
	if !ok {
		return
	}
	if d.config.Tags.Custom == nil {
		d.config.Tags.Custom = map[string]string{}
	}
	d.config.Tags.Custom[name] = text
	if like, distance := closest(k, name); distance <= 2 {
		d.found.warn(d.place(at), join(k.path, name), "taken as a tag of your own; if tags.%s was meant, mend its spelling", like)
	}
}

// scalar gives a plain value as it was written; ok is false for anything else.
func scalar(n ast.Node) (text string, ok bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(n.GetToken().Value), true
	}
	return "", false
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	_, null := n.(*ast.NullNode)
	return null
}

func describeNode(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	}
	return "a single value"
}
