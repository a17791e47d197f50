package testport

import (
	"net"
	"strconv"
	"testing"
)

func TestFree(t *testing.T) {
	given := map[int]bool{}
	for range 200 {
		port := Free(t)
		if given[port] {
			t.Fatalf("port %d twice", port)
		}
		given[port] = true
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
	}
}
