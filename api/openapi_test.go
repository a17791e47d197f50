package api

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"pgquorum/cluster"
)

func readOpenAPI(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// lookup follows a path of keys, and every reference on it.
func lookup(t *testing.T, doc map[string]any, node any, keys ...string) any {
	t.Helper()
	for {
		m, isMap := node.(map[string]any)
		if ref, ok := m["$ref"].(string); isMap && ok {
			node = lookup(t, doc, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			continue
		}
		if len(keys) == 0 {
			return node
		}
		if !isMap || m[keys[0]] == nil {
			t.Fatalf("openapi.yaml has no %s", strings.Join(keys, "/"))
		}
		node, keys = m[keys[0]], keys[1:]
	}
}

// TestRoutesAndOpenAPIAgree holds routes and file against each other, both ways.
func TestRoutesAndOpenAPIAgree(t *testing.T) {
	t.Parallel()
	doc := readOpenAPI(t)
	var described, served []string
	for path, item := range doc["paths"].(map[string]any) {
		for method := range lookup(t, doc, item).(map[string]any) {
			if method != "parameters" && method != "summary" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range newTestServer(primarySource(), nil).router.Routes() {
		served = append(served, r.Method+" "+r.Path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("openapi.yaml describes\n%v\nthe server has\n%v", described, served)
	}
}

// TestOpenAPIReferences: every $ref has its target.
func TestOpenAPIReferences(t *testing.T) {
	t.Parallel()
	doc := readOpenAPI(t)
	var walk func(any)
	walk = func(node any) {
		switch n := node.(type) {
		case map[string]any:
			if n["$ref"] != nil {
				lookup(t, doc, n)
			}
			for _, v := range n {
				walk(v)
			}
		case []any:
			for _, v := range n {
				walk(v)
			}
		}
	}
	walk(doc)
}

// TestOpenAPISchemas holds the fields of each answer against its schema, both ways.
func TestOpenAPISchemas(t *testing.T) {
	t.Parallel()
	doc := readOpenAPI(t)
	for name, value := range map[string]any{"Status": Status{}, "Cluster": ClusterView{}, "Event": cluster.Event{}, "Config": DynamicConfig{}} {
		schema := lookup(t, doc, doc, "components", "schemas", name)
		got, want := schemaFields(name, schema), typeFields(name, reflect.TypeOf(value))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: openapi.yaml has\n%v\nthe type has\n%v", name, got, want)
		}
	}
}

func schemaFields(prefix string, schema any) []string {
	m := schema.(map[string]any)
	if items, ok := m["items"]; ok {
		return schemaFields(prefix, items)
	}
	var fields []string
	properties, _ := m["properties"].(map[string]any)
	for name, sub := range properties {
		path := prefix + "." + name
		fields = append(append(fields, path), schemaFields(path, sub)...)
	}
	return fields
}

func typeFields(prefix string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		path := fmt.Sprintf("%s.%s", prefix, name)
		fields = append(append(fields, path), typeFields(path, t.Field(i).Type)...)
	}
	return fields
}
