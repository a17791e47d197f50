package raftfsm

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A dead host's connections end, whether something is on its way to it or not; on both ends.
func TestConnectionsOfDeadHostsEnd(t *testing.T) {
	t.Parallel()
	ln, err := listener(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := dialer(Options{})(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for name, c := range map[string]net.Conn{"dialled": near, "accepted": far} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for opt, want := range map[[2]int]int{
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}: 8000,
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:      1,
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:     5,
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}:    1,
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:      3,
		} {
			var have int
			var failed error
			if err := raw.Control(func(fd uintptr) { have, failed = unix.GetsockoptInt(int(fd), opt[0], opt[1]) }); err != nil || failed != nil || have != want {
				t.Errorf("%s: option %v is %d, want %d, %v, %v", name, opt, have, want, err, failed)
			}
		}
	}
	if deadAfter != 8*time.Second {
		t.Errorf("the simulation ends such connections after 8 s, this after %v", deadAfter)
	}
}
