package config

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// nearest says which known key may have been meant: one of the same section that is spelt much the same, else the same
// key of another section, else the nearest of the section.
func nearest(section *key, name string) string {
	like, distance := closest(section, name)
	if distance > (len(name)+2)/3 {
		if elsewhere := named(schema, name); len(elsewhere) > 0 {
			return "it belongs at " + strings.Join(elsewhere, " or ")
		}
	}
	return fmt.Sprintf("nearest known key: %s", join(section.path, like))
}

// closest gives the section's key with the fewest edits from name, the first of equals.
func closest(section *key, name string) (like string, distance int) {
	distance = -1
	for _, c := range section.children {
		if n := levenshtein.ComputeDistance(strings.ToLower(name), c.name); distance < 0 || n < distance {
			like, distance = c.name, n
		}
	}
	return like, distance
}

// named gives the paths of every key called name.
func named(k *key, name string) []string {
	var paths []string
	for _, c := range k.children {
		if c.name == name {
			paths = append(paths, c.path)
		}
		paths = append(paths, named(c, name)...)
	}
	return paths
}
