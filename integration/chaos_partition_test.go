package integration

import (
	"slices"
	"strings"
	"testing"
)

// Each shape cuts what it says: what passes is told as pairs, from and to, c being the clients.
func TestPartitionShapes(t *testing.T) {
	t.Parallel()
	three, five := []string{"1", "2", "3"}, []string{"1", "2", "3", "4", "5"}
	tests := []struct {
		shape string
		names []string
		want  string // pairs that pass
	}{
		{shapeFull, three, "23 2c 32 3c c2 c3"},
		{shapeNodes, three, "1c 23 2c 32 3c c1 c2 c3"},
		{shapeIn, three, "12 13 1c 23 2c 32 3c c2 c3"},
		{shapeOut, three, "21 23 2c 31 32 3c c1 c2 c3"},
		{shapeLink, three, "13 1c 23 2c 31 32 3c c1 c2 c3"},
		{shapeLinkOne, three, "12 13 1c 23 2c 31 32 3c c1 c2 c3"},
		{shapeMinority, three, "1c 23 2c 32 3c c1 c2 c3"},
		{shapeRing, three, "12 1c 23 2c 31 3c c1 c2 c3"},
		{shapeMinority, five, "12 1c 21 2c 34 35 3c 43 45 4c 53 54 5c c1 c2 c3 c4 c5"},
		{shapeRing, five, "12 15 1c 21 23 2c 32 34 3c 43 45 4c 51 54 5c c1 c2 c3 c4 c5"},
	}
	for _, tt := range tests {
		ports := append(slices.Clone(tt.names), "c")
		drops := shapeOf(Fault{What: tt.shape, Target: 0, Peer: 1}, tt.names, ports[1:])
		var got []string
		for _, a := range ports {
			for _, b := range ports {
				if a != b && !slices.Contains(drops, Drop{a, b, 100}) {
					got = append(got, a+b)
				}
			}
		}
		if passing := strings.Join(got, " "); passing != tt.want {
			t.Errorf("%s of %d: passes %s, want %s", tt.shape, len(tt.names), passing, tt.want)
		}
	}
}
